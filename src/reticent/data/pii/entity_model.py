# SPDX-License-Identifier: Apache-2.0
"""Names in texts by the recogniser of a spaCy model, with each stretch of words that it looks at read once.

The recogniser is a stack of convolutions, each over a word and its two neighbours, and a transition system that walks
through the text and opens and closes entities (Lample et al. 2016, arXiv:1603.01360; spaCy's part ``ner``). Outside of
an entity its next move depends on one word with the four on either side of it, so these moves are made for all words
at once, and only those within entities step by step.

`EntityModel` gives what the spaCy pipeline gives, several times faster. `entity_reader` takes it where the pipeline has
the parts that it knows and finds the same in texts of trial; otherwise the pipeline itself reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from reticent.data.pii.word_windows import Floats, Windows

Numbers: TypeAlias = npt.NDArray[np.int64]
Reader: TypeAlias = Callable[[Sequence[str]], "list[list[Entity]]"]

WORDS = 8_000
"""Words that are read at a time; a longer text at once."""
BATCH = 32
"""Texts that the pipeline reads at a time."""
TRIAL = (
    "On Tuesday Maria Lopez of Northwind Traders flew from Chicago to the Bay of Biscay\n\nand paid $ 20 to Tom's bank",
    "Dr. Ravi Patel,\nNew York",
    "",
    " \n",
    "Oslo",
)
"""Texts in which `EntityModel` has to find what the pipeline finds, before it is used."""


class Entity(NamedTuple):
    """A name as the model sees it: characters of the text, and a label."""

    start: int
    end: int
    label: str


def entity_reader(nlp: Any) -> Reader:
    """A function from texts to their entities: `EntityModel` if it knows the parts and finds the same, or the pipeline.

    Products of matrices are made by NumPy from here on: the library that spaCy brings takes twice as long.
    """
    from thinc.api import NumpyOps

    def pipeline(texts: Sequence[str]) -> list[list[Entity]]:
        return piped(nlp, texts)

    products = NumpyOps(use_blis=False)
    for layer in nlp.get_pipe("ner").model.walk():
        layer.ops = products

    try:
        model = EntityModel(nlp)
    except (AttributeError, IndexError, KeyError, ValueError):
        return pipeline
    return model if model(TRIAL) == pipeline(TRIAL) else pipeline


def piped(nlp: Any, texts: Sequence[str]) -> list[list[Entity]]:
    """The entities of each text as the pipeline finds them."""
    documents = nlp.pipe(texts, batch_size=BATCH)
    return [[Entity(span.start_char, span.end_char, span.label_) for span in document.ents] for document in documents]


class EntityModel:
    """The recogniser of names of a spaCy pipeline: a function from texts to the entities of each.

    Args:
        nlp: a spaCy pipeline of a tokenizer and the part ``ner``.

    Raises:
        AttributeError, IndexError, KeyError, ValueError: parts that this does not know.
    """

    def __init__(self, nlp: Any) -> None:
        ner = nlp.get_pipe("ner")
        if nlp.pipe_names != ["ner"] or ner.cfg["beam_width"] != 1:
            raise ValueError("other parts than a greedy recogniser of names")
        self._tokenize = nlp.make_doc
        self._windows = Windows(ner.model.get_ref("tok2vec"))
        self._moves = Moves(ner)
        self._lock = Lock()

    def __call__(self, texts: Sequence[str]) -> list[list[Entity]]:
        """The entities of each text. Threads take turns."""
        entities: list[list[Entity]] = []
        with self._lock:
            for documents in _portions(map(self._tokenize, texts)):
                spans = self._moves.entities(documents, self._windows(documents))
                for document, places in zip(documents, spans, strict=True):
                    entities.append([_entity(document, *place) for place in places])
        return entities


class Moves:
    """spaCy's transition system of entities, taken greedily: begin, in, last, unit and out.

    Args:
        ner: spaCy's part; its model has a layer over the next word, the first and the last word of the open entity, and
            one that scores the moves.
    """

    def __init__(self, ner: Any) -> None:
        from spacy.attrs import IS_SPACE

        self._blank = IS_SPACE
        lower, upper = ner.model.get_ref("lower"), ner.model.get_ref("upper")
        slots, hidden, self._pieces, width = lower.get_param("W").shape
        if slots != 3 or self._pieces < 2 or not ner.model.attrs["has_upper"] or ner.model.attrs["unseen_classes"]:
            raise ValueError("another transition system")
        self._slots: Floats = lower.get_param("W").reshape(slots, hidden * self._pieces, width)
        self._pad: Floats = lower.get_param("pad").reshape(slots, hidden * self._pieces)
        self._bias: Floats = lower.get_param("b").reshape(hidden * self._pieces)
        self._scores: Floats = upper.get_param("W")
        self._score_bias: Floats = upper.get_param("b")
        names = [ner.moves.get_class_name(number) for number in range(ner.moves.n_moves)]
        self._opening = [number for number, name in enumerate(names) if _opens(name)]
        self._names = [names[number] for number in self._opening]
        self._out = self._names.index("O")
        self._begins = np.array([name.startswith("B-") for name in self._names])
        labels = [name[2:] for name in self._names]
        inner = [[names.index(f"{move}-{label}") if label else 0 for move in "IL"] for label in labels]
        self._inner = np.array(inner)
        """For each of the moves ``self._names`` the numbers of those that go on with and end what it began."""

    def entities(self, documents: Sequence[Any], vectors: Floats) -> list[list[tuple[int, int, str]]]:
        """For each document its entities: first word, the word after the last one, label.

        Args:
            documents: spaCy's, split into words.
            vectors: of the words of all documents, one after the other.
        """
        borders = np.cumsum([0, *map(len, documents)], dtype=np.int64)
        last = np.zeros(len(vectors), bool)
        last[borders[1:][np.diff(borders) > 0] - 1] = True
        blank = np.concatenate([document.to_array([self._blank]) for document in documents]).astype(bool)
        following = vectors @ self._slots[0].T
        moves = self._outside(following, last, blank)
        starts = np.flatnonzero(self._begins[moves])
        ends = dict(
            zip(starts.tolist(), self._ends(vectors, following, starts, moves[starts], last).tolist(), strict=True)
        )
        entities = []
        for first, after in pairwise(borders.tolist()):
            spans, free = [], first
            for at in (np.flatnonzero(moves[first:after] != self._out) + first).tolist():
                if at >= free:
                    free = ends.get(at, at + 1)
                    spans.append((at - first, free - first, self._names[moves[at]][2:]))
            entities.append(spans)
        return entities

    def _outside(self, following: Floats, last: Any, blank: Any) -> Numbers:
        """The best move at each word where no entity is open: none begins at a blank, nor with the last word alone."""
        scores = self._hidden(following + self._pad[1] + self._pad[2]) @ self._scores[self._opening].T
        scores += self._score_bias[self._opening]
        scores[np.ix_(last, self._begins)] = -np.inf
        moves = scores.argmax(axis=1)
        moves[blank] = self._out
        return moves

    def _ends(self, vectors: Floats, following: Floats, starts: Numbers, moves: Numbers, last: Any) -> Numbers:
        """Where each entity ends that begins at ``starts`` with ``moves``: all of them a word further at a time."""
        ends = starts + 1
        opened = vectors[starts] @ self._slots[1].T
        active = np.arange(len(starts))
        while len(active):
            at = ends[active]
            hidden = self._hidden(following[at] + opened[active] + vectors[at - 1] @ self._slots[2].T)
            inner = self._inner[moves[active]]
            scores = np.einsum("nh,nmh->nm", hidden, self._scores[inner]) + self._score_bias[inner]
            closed = (scores[:, 1] > scores[:, 0]) | last[at]
            ends[active] += 1
            active = active[~closed]
        return ends

    def _hidden(self, summed: Floats) -> Floats:
        pieces = (summed + self._bias).reshape(len(summed), len(self._bias) // self._pieces, self._pieces)
        return np.maximum.reduce([pieces[:, :, piece] for piece in range(self._pieces)])


def _opens(name: str) -> bool:
    """True for a move from outside of an entity; ``U-`` without a label is one for blocked words."""
    return name == "O" or (name[:2] in ("B-", "U-") and len(name) > 2)


def _portions(documents: Iterable[Any]) -> Iterator[list[Any]]:
    """Documents in order, so many at a time as have `WORDS` words."""
    held: list[Any] = []
    words = 0
    for document in documents:
        held.append(document)
        words += len(document)
        if words >= WORDS:
            yield held
            held, words = [], 0
    if held:
        yield held


def _entity(document: Any, first: int, after: int, label: str) -> Entity:
    span = document[first:after]
    return Entity(span.start_char, span.end_char, label)
