# SPDX-License-Identifier: Apache-2.0
"""The noise of a tree over rounds (DP-FTRL), for clients that cannot be drawn at random.

After Kairouz, McMahan, Song, Thakkar, Thakurta and Xu, "Practical and private (deep) learning without sampling or
shuffling" (ICML 2021, arXiv:2103.00039). What is released after round t of a pass is the sum of the updates of all
rounds up to t, as the sum of those nodes of a binary tree that t consists of; each node has Gaussian noise of its own.
A server that steps by means needs what the sum grew by: the round's own sum, with the difference of the two noises.

A client takes part at most once in a pass, so it is in one leaf and in at most ``height`` nodes above it (itself
included). All nodes of a pass together are one Gaussian mechanism that it moves by √height clip norms. A new pass is a
new tree, and passes add up as Gaussians do: one Gaussian of multiplier z / √(Σ height) over the passes.

**What is promised.** Neighbours are data sets where a client's updates are zeroed out: to leave it out would move all
that come after it to other leaves. The promise holds for any order of the clients, and does not get smaller by luck in
it. Nodes are not averaged with those below them (Honaker), which would lower the noise of later rounds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.privacy.mechanism import Mechanism
from reticent.privacy.sampling import words
from reticent.privacy.spec import ZERO_OUT

LEVELS = 64
"""Nodes are numbered by round and level; a tree of more levels would have 2^64 rounds."""


class Node(NamedTuple):
    """The noise of a node that is added (sign 1) or taken off (-1) in a round; ``step`` numbers it for the key."""

    sign: int
    step: int


def rounds_of_pass(clients: int, per_round: int) -> int:
    """Number of rounds in which all have their turn.

    >>> rounds_of_pass(98, 20)
    5
    """
    return -(-clients // per_round)


def height(rounds: int) -> int:
    """The most nodes of a tree of so many rounds that one leaf can be in, of those that are ever used.

    >>> [height(rounds) for rounds in (1, 2, 3, 4, 5)]
    [1, 2, 2, 3, 3]
    """
    return rounds.bit_length()


def squared_shift(rounds: int, pass_length: int) -> int:
    """The square of what one client moves all noise together by, in clip norms: Σ height over the passes.

    >>> squared_shift(12, 5)  # two whole passes of five rounds, one of two
    8
    """
    whole, rest = divmod(rounds, pass_length)
    return whole * height(pass_length) + (height(rest) if rest else 0)


def as_one(noise_multiplier: float, *, rounds: int, pass_length: int) -> Mechanism:
    """All noise of the first ``rounds`` rounds as the one Gaussian that it is, for the accountant; rounds 1 or more.

    Args:
        noise_multiplier: z, of each node, over the clip norm.

    >>> as_one(2.0, rounds=4, pass_length=2).noise_multiplier  # four nodes: two passes, a leaf and its parent in each
    1.0
    """
    shift = math.sqrt(squared_shift(rounds, pass_length))
    return Mechanism(noise_multiplier=noise_multiplier / shift, rate=1.0, relation=ZERO_OUT)


def nodes_of(round_number: int, pass_length: int) -> tuple[Node, ...]:
    """The nodes whose noise the noised sum gains in this round, counted from 0, and those whose noise it loses.

    >>> [nodes_of(round_number, 4) for round_number in (0, 1)]
    [(Node(sign=1, step=0),), (Node(sign=1, step=65), Node(sign=-1, step=0))]
    """
    first = round_number - round_number % pass_length
    turn = round_number - first + 1
    level = (turn & -turn).bit_length() - 1
    gone = [Node(-1, _step(first, ((turn - 1) >> below) << below, below)) for below in range(level)]
    return (Node(1, _step(first, turn, level)), *gone)


def prefix_nodes(round_number: int, pass_length: int) -> tuple[int, ...]:
    """Steps of the nodes that make up all rounds of the pass up to this one: the plain way, for tests.

    >>> prefix_nodes(2, 4)  # three rounds: the first two, and the third
    (65, 128)
    """
    first = round_number - round_number % pass_length
    steps, end = [], 0
    turn = round_number - first + 1
    for level in reversed(range(turn.bit_length())):
        if turn >> level & 1:
            end += 1 << level
            steps.append(_step(first, end, level))
    return tuple(steps)


def in_turn(key: bytes, round_number: int, *, clients: int, per_round: int) -> npt.NDArray[np.int64]:
    """Numbers of the clients of a round, rising: those whose turn it is in the pass, whose order the key shuffles."""
    passed, place = divmod(round_number, rounds_of_pass(clients, per_round))
    order = np.argsort(words(key, "client order", passed, count=clients), kind="stable")
    return np.sort(order[place * per_round : (place + 1) * per_round])


def _step(first: int, end: int, level: int) -> int:
    """Number of the node of ``2^level`` rounds that ends with round ``end`` (from 1) of the pass that begins with round
    ``first``."""
    return (first + end - 1) * LEVELS + level
