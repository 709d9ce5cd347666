# SPDX-License-Identifier: Apache-2.0
"""Every sequence is a path of some tree, and no tree reads more tokens than it may."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reticent.score.candidates.token_tree import ROOT, trees

SEQUENCES = st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), max_size=12)


def path(tree, row):
    """The tokens of a sequence, read off the tree."""
    return tuple(tree.edge_token[tree.path_edge[tree.path_row == row]])


@given(SEQUENCES, st.integers(1, 12))
def test_trees_hold_every_sequence_once(sequences, most):
    grown = list(trees(sequences, most))
    held = [int(row) for tree in grown for row in np.unique(tree.path_row)]
    assert sorted(held) == [row for row, sequence in enumerate(sequences) if sequence]
    for tree in grown:
        rows = np.unique(tree.path_row)
        assert all(path(tree, row) == sequences[row] for row in rows)
        assert len(tree) == len({sequences[row][:n] for row in rows for n in range(1, len(sequences[row]))})
        assert len(tree) <= most or len(rows) == 1
        assert len({*zip(tree.edge_from, tree.edge_token, strict=True)}) == len(tree.edge_from)


@given(SEQUENCES)
def test_a_token_sees_its_path_and_nothing_else(sequences):
    for tree in trees(sequences, 1000):
        for node in range(len(tree)):
            up, here = set(), node
            while here != ROOT:
                up.add(here)
                here = int(tree.parent[here])
            assert set(np.flatnonzero(tree.sees[node])) == up
            assert tree.depth[node] == len(up) - 1


def test_totals_sum_along_paths():
    (tree,) = trees([(1, 2), (), (1, 3), (1,)], 10)
    values = {(ROOT, 1): 5.0, (0, 2): 0.5, (0, 3): 0.25}
    edges = np.array([values[edge] for edge in zip(tree.edge_from.tolist(), tree.edge_token.tolist(), strict=True)])
    np.testing.assert_array_equal(tree.totals(edges, 4), [5.5, 0, 5.25, 5])


@given(SEQUENCES, st.integers(1, 12), st.data())
def test_what_does_not_count_is_read_and_not_predicted(sequences, most, data):
    counted_from = [data.draw(st.integers(0, max(0, len(sequence) - 1))) for sequence in sequences]
    grown = list(trees(sequences, most, counted_from))
    for tree, whole in zip(grown, trees(sequences, most), strict=True):
        np.testing.assert_array_equal(tree.token_id, whole.token_id)
        np.testing.assert_array_equal(tree.parent, whole.parent)
        for row in np.unique(whole.path_row):
            assert path(tree, row) == sequences[row][counted_from[row] :]
        assert sorted(set(tree.path_edge.tolist())) == list(range(len(tree.edge_token)))
