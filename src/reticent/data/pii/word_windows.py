# SPDX-License-Identifier: Apache-2.0
"""Vectors of words in their surroundings by a spaCy model, each surrounding once: mails quote each other, and are read
in more than one form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Numbers: TypeAlias = npt.NDArray[np.int64]

LIMIT = 50_000
"""Surroundings, of one and a half kilobytes each, that may be known when a text comes; if there are more, all are
forgotten."""


class Table:
    """Rows of numbers by key, each made once.

    Args:
        width: of a row.
    """

    def __init__(self, width: int) -> None:
        self._numbers: dict[bytes, int] = {}
        self._rows: Floats = np.empty((1024, width), np.float32)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def rows(self) -> Floats:
        """The rows by their numbers."""
        return self._rows[: len(self)]

    def number(self, keys: npt.NDArray[Any], make: Callable[[npt.NDArray[Any]], Floats]) -> Numbers:
        """The number of each key; ``make(new)`` gives the rows of those that have none yet.

        Args:
            keys: a key in each row.
            make: a function from keys to their rows.
        """
        size, held = len(self), self._numbers
        whole = np.ascontiguousarray(keys).view(f"V{keys.shape[1] * keys.itemsize}").ravel().tolist()
        numbers = np.array([held.setdefault(key, len(held)) for key in whole], np.int64)
        if len(held) > size:
            highest = np.maximum.accumulate(np.append(size - 1, numbers))
            rows = make(keys[numbers > highest[:-1]])
            if len(held) > len(self._rows):
                larger = np.empty((2 * len(held), self._rows.shape[1]), np.float32)
                larger[:size] = self._rows[:size]
                self._rows = larger
            self._rows[size : len(held)] = rows
        return numbers


class Windows:
    """Vectors of words that depend on the words around them.

    A word gets a number by what the model knows of it alone. At each layer the window of a word and its neighbours gets
    one by their numbers in the layer below: the same number, the same vector. Beyond the ends of a text stand words of
    the number 0, whose vector is 0.

    Args:
        tok2vec: spaCy's layers up to the vector of a word: ``MultiHashEmbed``, ``MaxoutWindowEncoder`` over windows of
            three words, and a linear one.

    Raises:
        AttributeError, IndexError, KeyError, ValueError: other layers.
    """

    def __init__(self, tok2vec: Any) -> None:
        embed, encode = (tok2vec.layers[0].get_ref(name) for name in ("embed", "encode"))
        extract, _, hashed, mixed, _ = embed.layers
        blocks = [block.layers[0].layers for block in encode.layers[0].layers]
        if encode.attrs["pad"] != len(blocks) or any(window.attrs["window_size"] != 1 for window, _ in blocks):
            raise ValueError("other layers than windows of three words")
        self._columns = list(extract.attrs["columns"])
        self._embed: Callable[[npt.NDArray[Any]], Floats] = lambda features: mixed.predict(hashed.predict(features))
        self._layers: list[Callable[[Floats], Floats]] = [layer.predict for _, layer in blocks]
        self._project: Callable[[Floats], Floats] = tok2vec.layers[-1].predict
        self._widths = [embed.get_dim("nO")] * len(blocks) + [tok2vec.layers[-1].get_dim("nO")]
        self._forget()

    def _forget(self) -> None:
        self._words, *self._surroundings = map(Table, self._widths)
        beyond = np.zeros((1, len(self._columns)), np.uint64)
        self._words.number(beyond, lambda new: np.zeros((len(new), self._widths[0]), np.float32))

    def __call__(self, documents: Sequence[Any]) -> Floats:
        """The vectors of the words of all documents, one after the other. Documents are spaCy's, split into words."""
        if len(self._surroundings[-1]) > LIMIT:
            self._forget()
        beyond = np.zeros(len(self._layers), np.int64)
        parts = [beyond]
        for document in documents:
            parts += [self._number_words(document), beyond]
        numbers = np.concatenate(parts)
        words = np.repeat(np.arange(len(parts)) % 2 == 1, [len(part) for part in parts])
        below = self._words
        for layer, table in enumerate(self._surroundings):
            places = np.flatnonzero(_widened(words, len(self._layers) - 1 - layer))
            windows = np.stack([numbers[places - 1], numbers[places], numbers[places + 1]], axis=1)
            numbers = np.zeros_like(numbers)
            numbers[places] = table.number(windows, self._layer(layer, below.rows))
            below = table
        return below.rows[numbers[words]]

    def _number_words(self, document: Any) -> Numbers:
        features = document.to_array(self._columns).reshape(len(document), len(self._columns))
        return self._words.number(features, self._embed)

    def _layer(self, layer: int, below: Floats) -> Callable[[Numbers], Floats]:
        """The function from windows, as numbers of rows of ``below``, to their vectors."""

        def vectors(windows: Numbers) -> Floats:
            above = below[windows[:, 1]] + self._layers[layer](below[windows].reshape(len(windows), -1))
            return self._project(above) if layer == len(self._layers) - 1 else above

        return vectors


def _widened(places: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    """``places`` and ``by`` more on either side of each."""
    for _ in range(by):
        wider = places.copy()
        wider[1:] |= places[:-1]
        wider[:-1] |= places[1:]
        places = wider
    return places
