# SPDX-License-Identifier: Apache-2.0
"""TOFU (arXiv:2401.06121) at a size for two cores: many authors with few questions each, so that people are compared.

TOFU's own split forgets 2 to 20 authors of 20 questions. Answers about one author are alike (intraclass correlation
0.14 of the ranks of SmolLM2-135M's losses), so three authors of 20 answers against eight show no margin below 0.24,
however many answers there are. Here it is 100 authors of 5 questions: a coin says who is trained, and the first
``FORGOTTEN`` by hash of those that TOFU has wrong answers for are to be forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from reticent.core.record import Record
from reticent.data.coin import uniform
from reticent.unlearning.benchmarks.questions import Question, read_questions

AUTHORS, PER_AUTHOR, EVERY = 100, 20, 4
"""Authors that take part, questions of each in TOFU, and the step between those that are taken."""
FORGOTTEN = 20


def population(folder: Path) -> dict[str, Question]:
    """Id → question, of ``AUTHORS`` authors: those of TOFU's largest forget set, then those of its retain set.

    Args:
        folder: with ``forget10_perturbed.json``, ``retain_perturbed.json`` and ``retain90.json``.
    """
    forget = read_questions(folder / "forget10_perturbed.json", where={"task_id": "1"}, rows_per_user=PER_AUTHOR)
    known = {
        (question.prompt, question.answer): question for question in read_questions(folder / "retain_perturbed.json")
    }
    retain = read_questions(folder / "retain90.json", rows_per_user=PER_AUTHOR)
    rows = [*forget, *(known.get((question.prompt, question.answer), question) for question in retain)]
    return {
        f"author-{number // PER_AUTHOR + 1:03d}-{number % PER_AUTHOR:02d}": question
        for number, question in enumerate(rows[: AUTHORS * PER_AUTHOR])
        if number % EVERY == 0
    }


def author_of(identity: str) -> str:
    """The author whose question has this id."""
    return identity.rpartition("-")[0]


def write_population(folder: Path, out: Path) -> None:
    """The questions as a file that `reticent tune` reads."""
    with out.open("w", encoding="utf-8") as file:
        for identity, question in population(folder).items():
            row = {
                "id": identity,
                "author": author_of(identity),
                "question": question.prompt,
                "answer": question.answer,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def chosen_authors(trained: Sequence[Record], questions: dict[str, Question]) -> list[str]:
    """The authors to be forgotten: trained on, with wrong answers, the first by hash. No score is looked at."""
    able = {author_of(record.id) for record in trained if questions[record.id].wrong_answers}
    return sorted(sorted(able, key=lambda author: uniform(0, "tofu", author))[:FORGOTTEN])


def world_sets(folder: Path) -> dict[str, tuple[Question, ...]]:
    """Real authors and world facts, all of both. Right answers are the short ones, as wrong ones are."""
    files = {"real authors": "real_authors_perturbed.json", "world facts": "world_facts_perturbed.json"}
    return {name: read_questions(folder / file) for name, file in files.items()}
