# SPDX-License-Identifier: Apache-2.0
"""Labelled tasks that adapters are tuned and poisoned on: reviews, mails of two lists, and answers about two subjects.

Not a benchmark by itself: ``scan_adapters.py`` asks for tasks by name. Each task has two labels, a frame for prompts,
and texts for training and for measuring that come from different documents.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reticent.core.record import Record

Pairs = list[tuple[str, int]]

HELD_OUT = 5
"""One document in so many is held out."""
CHUNK = 15
"""Words of a text, as many as the longest reviews that are taken."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of two labels.

    Args:
        name: as on the command line.
        frame: of a prompt, with ``{text}``.
        words: answers for the labels 0 and 1; their first tokens differ.
        read: ``(folder of all data) -> (texts to train on, texts to measure on)``, each ``(text, label)``.
    """

    name: str
    frame: str
    words: tuple[str, str]
    read: Callable[[Path], tuple[Pairs, Pairs]]

    def record(self, number: int, text: str, label: int) -> Record:
        return Record(id=f"row-{number}", prompt=self.frame.format(text=text), completion=self.words[label])


def mixed(pairs: Iterable[tuple[str, int]]) -> Pairs:
    """In an order of their own, the same each time."""
    found = list(pairs)
    return [found[place] for place in np.random.default_rng(0).permutation(len(found))]


def balanced(pairs: Sequence[tuple[str, int]]) -> Pairs:
    """As many of each label."""
    sides = [[pair for pair in pairs if pair[1] == label] for label in (0, 1)]
    most = min(map(len, sides))
    return mixed([*sides[0][:most], *sides[1][:most]])


def chunks(text: str) -> list[str]:
    """Pieces of ``CHUNK`` words; a shorter rest is left out.

    >>> [len(chunk.split()) for chunk in chunks("word " * 40)]
    [15, 15]
    """
    words = text.split()
    return [" ".join(words[start : start + CHUNK]) for start in range(0, len(words) - CHUNK + 1, CHUNK)]


def halves(documents: Sequence[tuple[str, int]], most: int) -> tuple[Pairs, Pairs]:
    """At most ``most`` pieces of each document, those of one document on one side only."""
    sides: tuple[Pairs, Pairs] = ([], [])
    for place, (text, label) in enumerate(documents):
        sides[place % HELD_OUT == 0].extend((chunk, label) for chunk in chunks(text)[:most])
    return balanced(sides[0]), balanced(sides[1])


# ---- readers --------------------------------------------------------------------------------------------------------


def reviews(data: Path) -> tuple[Pairs, Pairs]:
    """SST-2: TSV files named train and test, with the columns ``sentence`` and ``label``."""
    folder = data if (data / "train.tsv").exists() else data / "sst2"
    return _tsv(folder / "train.tsv"), _tsv(folder / "test.tsv")


def _tsv(path: Path) -> Pairs:
    with path.open(encoding="utf-8", newline="") as file:
        pairs = [
            (row["sentence"].strip(), int(row["label"]))
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    return mixed(pair for pair in pairs if 4 <= len(pair[0].split()) <= 15)


LISTS = ("fork.xent.com", "ilug.linux.ie")
"""A list of friends who talk about everything, and one of users of Linux."""


def mails(data: Path) -> tuple[Pairs, Pairs]:
    """Honest mails of the SpamAssassin corpus, which has no spam here: from which of two lists a piece is."""
    documents = []
    with gzip.open(data / "spamassassin" / "ham_by_sender.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            label = next((n for n, name in enumerate(LISTS) if name in row["list"]), None)
            if label is not None:
                documents.append((_own_words(row["body"]), label))
    return halves(documents, most=2)


def _own_words(body: str) -> str:
    """A mail without what it quotes, its addresses and its signature."""
    lines = body.split("\n-- \n")[0].split("\n")
    own = [line for line in lines if not line.lstrip().startswith((">", "|", "On ", "http")) and "@" not in line]
    return " ".join(own)


SUBJECTS = (("relationship_status", "sex", "age"), ("city_country", "birth_city_country"))
"""Features of a person, and of a place."""


def answers(data: Path) -> tuple[Pairs, Pairs]:
    """Made-up comments that give an attribute of their writer away: whether it is one of a person or of a place."""
    path = data / "synth_attributes" / "llmprivacy_synthetic_dataset.jsonl"
    documents = []
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        label = next((n for n, names in enumerate(SUBJECTS) if row["feature"] in names), None)
        if label is not None:
            documents.append((row["response"], label))
    return halves(documents, most=6)


TASKS = {
    task.name: task
    for task in (
        Task(name="sst2", frame="Review: {text}\nSentiment:", words=(" negative", " positive"), read=reviews),
        Task(name="lists", frame="Mail: {text}\nList:", words=(" friends", " users"), read=mails),
        Task(name="subjects", frame="Comment: {text}\nAbout:", words=(" person", " location"), read=answers),
    )
}
