# SPDX-License-Identifier: Apache-2.0
"""The part of a self-check that all private federations share: what leaves a round is what the server steps by, nothing
else is published, and the model that is saved is the one that was trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import NoReturn

import numpy as np
import torch

from reticent.federated.update import Update
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.watch import Floats, WatchPoints, places

RELEASED = frozenset(
    {"number", "round", "epsilon", "clip", "next_clip", "fraction", "rate", "noise_multiplier", "delta", "denominator"}
    | {"clients", "expected", "rounds", "held_out_loss", "changed", "seconds"}
)
"""Fields of a round that may leave: noised and paid for, or without anything of the clients in them."""


class ReleaseCheck(ABC):
    """Watches what leaves the rounds of a private federation.

    Args:
        key: 32 secret bytes; where is looked follows from it.
        like: the global arrays before the first round of this process.
        first: number of that round, from 0.
    """

    def __init__(self, key: bytes, like: Update, *, first: int) -> None:
        self.names = sorted(like)
        self.sizes = [like[name].numel() for name in self.names]
        self.begun = places(self.sizes, key, 0)
        self.start = self.begun.of([like[name] for name in self.names])
        self.due = first
        self.rounds = 0
        """Rounds that this process ran."""
        self.reloaded: bool | None = None
        self._where: WatchPoints | None = None
        self._left: Floats | None = None

    @abstractmethod
    def drawn(self, round_number: int, clients: Collection[int]) -> None:
        """The clients that a round (from 0) asks, by number."""

    def leaves(self, where: WatchPoints, mean: Update) -> Floats:
        """Take what leaves a round; the same at the places where it is looked at."""
        self._where, self._left = where, where.of([mean[name] for name in self.names])
        return self._left

    def given(self, mean: Update) -> None:
        """The server's optimizer takes what left the round, and nothing else."""
        assert self._where is not None, "leaves comes first"
        assert self._left is not None, "leaves comes first"
        if set(mean) != set(self.names) or not np.array_equal(
            self._where.of([mean[name] for name in self.names]), self._left
        ):
            broken(
                "the server's step takes the noised mean and nothing else",
                f"in round {self.due - 1} it was given something else",
                "It would carry into the weights what no noise covers.",
            )

    def released(self, fields: Collection[str]) -> None:
        """Names of what is logged or published of a round, those that are not empty."""
        metrics = sorted(set(fields) - RELEASED)
        if metrics:
            broken(
                "nothing is released of clients but what ε covers",
                f"{', '.join(metrics)} would be",
                "It is made from what clients sent, without noise and outside of the budget.",
            )

    def saved(self, after: Update, reloaded: Update) -> None:
        """The global arrays after the last round, and as they were read again from where they were saved."""
        if set(after) != set(reloaded) or any(not torch.equal(after[name], reloaded[name]) for name in after):
            broken(
                "what was trained is what is saved",
                "the arrays that were read again are others than those after the last round",
                "The model that is kept is another than the one that the promise is of.",
            )
        same = self.begun.of([after[name] for name in self.names]) == self.start
        still = np.logical_and.reduceat(same, np.concatenate([[0], np.cumsum(self.begun.counts)[:-1]]))
        if self.rounds and still.any():
            broken(
                "the noised mean of each round is in the model",
                f"{self.names[int(np.argmax(still))]} did not change in {self.rounds} rounds",
                "What is promised is of another model than this one.",
            )
        self.reloaded = True


def broken(promise: str, measured: str, meaning: str) -> NoReturn:
    """Stop the run.

    Raises:
        GuaranteeViolated: always.
    """
    raise GuaranteeViolated(promise, measured, meaning)
