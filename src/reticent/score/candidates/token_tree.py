# SPDX-License-Identifier: Apache-2.0
"""A tree of token sequences: what several sequences begin with is one path, so that a model reads it once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.score.candidates.masked import shared

Array = npt.NDArray[Any]

ROOT = -1
"""Stands for the last token before all of the tree."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenTree:
    """``N`` tokens that the model reads, and ``E`` tokens that it predicts.

    A token that only ends sequences is predicted and not read; one that counts in no sequence is read and not
    predicted.

    Args:
        token_id: ``[N]`` int64.
        parent: ``[N]`` int64: what precedes the token, ``ROOT`` or an earlier one.
        depth: ``[N]`` int64: tokens between it and the root.
        edge_from: ``[E]`` int64: after which token (``ROOT`` or ``[N]``) a prediction is made.
        edge_token: ``[E]`` int64: the token that is predicted.
        path_edge, path_row: the edges of each sequence, one after the other, and whose they are.
    """

    token_id: Array
    parent: Array
    depth: Array
    edge_from: Array
    edge_token: Array
    path_edge: Array
    path_row: Array

    def __len__(self) -> int:
        return len(self.token_id)

    @property
    def sees(self) -> npt.NDArray[np.bool_]:
        """``[N, N]``: whether the token of the column is the token of the row, or stands before it on its path."""
        sees = np.eye(len(self), dtype=np.bool_)
        for node, parent in enumerate(self.parent):
            if parent != ROOT:
                sees[node] |= sees[parent]
        return sees

    def totals(self, edge_values: Array, rows: int) -> npt.NDArray[np.float64]:
        """``[rows]``: the sum of the edges of each sequence; 0 for sequences that are not in this tree."""
        totals = np.bincount(self.path_row, weights=edge_values[self.path_edge], minlength=rows)
        return totals.astype(np.float64, copy=False)


def trees(
    sequences: Sequence[tuple[int, ...]], most: int, counted_from: Sequence[int] | None = None
) -> Iterator[TokenTree]:
    """Trees of at most ``most`` read tokens (or of one sequence) that together hold every sequence that is not empty.

    Neighbours in alphabetical order go together, which share most.

    Args:
        counted_from: the first token that counts of each sequence; None for 0 in all.
    """
    counted_from = [0] * len(sequences) if counted_from is None else counted_from
    order = sorted((row for row, sequence in enumerate(sequences) if len(sequence)), key=lambda row: sequences[row])
    chosen: list[int] = []
    size = 0
    for row in order:
        sequence = sequences[row]
        inner = len(sequence) - 1
        before = sequences[chosen[-1]] if chosen else ()
        new = inner - min(inner, max(0, len(before) - 1), shared(sequence, before))
        if chosen and size + new > most:
            yield _grow(sequences, chosen, counted_from)
            chosen, size, new = [], 0, inner
        chosen.append(row)
        size += new
    if chosen:
        yield _grow(sequences, chosen, counted_from)


def _grow(sequences: Sequence[tuple[int, ...]], rows: Sequence[int], counted_from: Sequence[int]) -> TokenTree:
    nodes: dict[tuple[int, int], int] = {}  # what precedes a token, and the token -> where it is among those read
    edges: dict[tuple[int, int], int] = {}  # the same -> where it is among those predicted
    token_id: list[int] = []
    parent, depth, path_edge, path_row = [], [], [], []
    for row in rows:
        here = ROOT
        for place, token in enumerate(sequences[row]):
            step = (here, token)
            if place >= counted_from[row]:
                path_edge.append(edges.setdefault(step, len(edges)))
                path_row.append(row)
            if place == len(sequences[row]) - 1:
                break
            if step not in nodes:
                nodes[step] = len(token_id)
                token_id.append(token)
                parent.append(here)
                depth.append(place)
            here = nodes[step]
    edge_from, edge_token = zip(*edges, strict=True) if edges else ((), ())
    arrays = (token_id, parent, depth, edge_from, edge_token, path_edge, path_row)
    names = ("token_id", "parent", "depth", "edge_from", "edge_token", "path_edge", "path_row")
    return TokenTree(**{name: np.asarray(array, dtype=np.int64) for name, array in zip(names, arrays, strict=True)})
