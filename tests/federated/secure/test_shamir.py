# SPDX-License-Identifier: Apache-2.0
"""Secret sharing beside a naive twin that solves for the polynomial."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.federated.secure.shamir import PRIME, joined, split

SECRET = bytes(range(200, 232))


def naive_joined(pieces):
    """Gaussian elimination of Σ c_j x^j = y modulo the prime; c_0 is the secret."""
    rows = [
        [pow(holder + 1, j, PRIME) for j in range(len(pieces))] + [int.from_bytes(piece, "big")]
        for holder, piece in pieces.items()
    ]
    for column in range(len(rows)):
        pivot = next(i for i in range(column, len(rows)) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        inverse = pow(rows[column][column], -1, PRIME)
        rows[column] = [value * inverse % PRIME for value in rows[column]]
        for i, row in enumerate(rows):
            if i != column:
                rows[i] = [(a - row[column] * b) % PRIME for a, b in zip(row, rows[column], strict=True)]
    return rows[0][-1]


def test_the_prime_is_one():
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11))


def test_any_choice_of_pieces_gives_the_secret_and_the_twin_says_so_too():
    pieces = split(SECRET, [0, 3, 4, 8, 20], needed=3, key=b"k" * 32)
    for chosen in itertools.combinations(pieces, 3):
        few = {i: pieces[i] for i in chosen}
        assert joined(few) == SECRET
        assert naive_joined(few) == int.from_bytes(SECRET, "big")


def test_fewer_pieces_fit_to_every_secret():
    """Two pieces of three needed: for another secret there is a third piece too, so they say nothing."""
    pieces = split(SECRET, [0, 1, 2], needed=3, key=b"k" * 32)
    two = {i: pieces[i] for i in (0, 1)}
    with pytest.raises((BadInput, AssertionError)):
        assert joined(two) == SECRET
    first = np.array([split(SECRET, [0, 1, 2], needed=3, key=bytes([n]) * 32)[0][-1] for n in range(256)])
    assert len(np.unique(first)) > 130  # of 256 draws of 256 values about 162 differ


def test_what_cannot_be_is_refused():
    for wrong in (
        {"secret": b"short", "holders": [0], "needed": 1},
        {"secret": SECRET, "holders": [0, 0], "needed": 1},
        {"secret": SECRET, "holders": [0, -1], "needed": 1},
        {"secret": SECRET, "holders": [0, 1], "needed": 3},
    ):
        with pytest.raises(BadInput):
            split(wrong["secret"], wrong["holders"], needed=wrong["needed"], key=b"k" * 32)
    for pieces in ({}, {0: b"short"}):
        with pytest.raises(BadInput):
            joined(pieces)
    with pytest.raises(BadInput, match="no secret"):
        joined({0: (PRIME - 1).to_bytes(33, "big")})
