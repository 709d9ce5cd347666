# SPDX-License-Identifier: Apache-2.0
"""PredictionWatch: what private prediction does, measured a second time while it runs.

Every unit is left out once, and no score may move by more than C/B: of made-up logits that differ far beyond C, before
anything is written, and of the true ones before the first token of each text. This sees a mean that is clipped in place
of its parts, a divisor that follows the data, and a user who counts once a record. The public logits are made again
from the public words alone. A check that fails stops the run before its texts are spent or written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from reticent.core.promise_check import PromiseCheck
from reticent.privacy.check import GuaranteeViolated
from reticent.synthesis.prefix_decoder import near

Score = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""(public logits, private logits, owners, units) → scores."""
ROUNDING = 1e-6
"""Nats by which scores may differ for rounding."""
PROBE = 64
"""Tokens of made-up logits."""


@dataclass(kw_only=True, eq=False)
class PredictionWatch:
    """Counts what was checked, and raises where a promise is broken.

    Args:
        clip: C.
        references: B.
        tokens: the most of one text.
        top_k: before it is extended.
        alone: gives the model's ``[V]`` logits after public words and nothing else.
    """

    clip: float
    references: int
    tokens: int
    top_k: int
    alone: Callable[[str], torch.Tensor]
    moved: int = 0
    publics: int = 0
    chosen: int = 0
    behind: dict[int, int] = field(default_factory=dict)

    def batch(self, text: int, units: tuple[int, ...]) -> None:
        """Note the units behind a text.

        Raises:
            GuaranteeViolated: one of them is behind another.
        """
        for unit in units:
            if self.behind.setdefault(unit, text) != text:
                _broken("each unit stands behind one text", f"one is behind texts {self.behind[unit]} and {text}")

    def probe(self, score: Score) -> None:
        """Leave units out of made-up logits: three units, of which one has two records and one has four.

        Raises:
            GuaranteeViolated: a score moves by more than C/B.
        """
        owner = torch.tensor([0, 1, 1, 2, 2, 2, 2])
        generator = np.random.default_rng(PROBE)
        apart = torch.as_tensor(10 * self.clip * generator.choice([-1.0, 0.02, 1.0], (len(owner), PROBE)))
        public = torch.as_tensor(generator.normal(0, 3, PROBE))
        for sign in (1.0, apart.sign()):
            self.sensitivity(score, public, public + apart * sign, owner)
            self.sensitivity(score, public, public + (apart * sign)[:1], owner[:1])

    def sensitivity(self, score: Score, public: torch.Tensor, private: torch.Tensor, owner: torch.Tensor) -> None:
        """Leave each unit out once.

        Args:
            score: the function that makes scores.
            public: ``[V]`` logits.
            private: ``[R, V]`` logits of the references.
            owner: ``[R]`` their units.

        Raises:
            GuaranteeViolated: a score moves by more than C/B.
        """
        units = int(owner.max()) + 1 if len(owner) else 0
        whole = score(public, private, owner, units)
        for unit in range(units):
            others = owner != unit
            left = owner[others] - (owner[others] > unit).long()
            moves = float((whole - score(public, private[others], left, units - 1)).abs().max())
            self.moved += 1
            if moves > self.clip / self.references + ROUNDING:
                _broken(
                    "a unit moves a score by at most C/B",
                    f"one moves it by {moves:.4g}, and C/B is {self.clip / self.references:.4g}",
                )

    def public(self, words: str, measured: torch.Tensor) -> None:
        """Compare public logits ``[V]`` with those that the model gives after the public ``words`` alone.

        Raises:
            GuaranteeViolated: they differ by more than rounding.
        """
        self.publics += 1
        alone = self.alone(words).to(measured.device)
        apart = float((measured.float() - alone.float()).norm() / alone.float().norm().clamp(min=1e-6))
        if not apart <= near(alone.dtype):
            _broken("public logits come of public words alone", f"they are {apart:.3g} off, relatively")

    def choice(self, position: int, token: int, public: torch.Tensor) -> None:
        """Look at a chosen token.

        Args:
            position: from 0.
            token: its id.
            public: ``[V]`` logits.

        Raises:
            GuaranteeViolated: it is beyond the last that is accounted for, or not in Top-k⁺ of the public logits.
        """
        self.chosen += 1
        if position >= self.tokens:
            _broken("a text has so many tokens at most", f"token {position + 1} of {self.tokens}")
        if self.top_k >= len(public):
            return
        least = -float(torch.kthvalue(-public.double(), self.top_k).values) - 2 * self.clip
        if float(public[token]) < least - ROUNDING:
            _broken("tokens are chosen among those that public logits name", "one was not among them")

    def items(self) -> tuple[PromiseCheck, ...]:
        """All that was checked; what was measured is covered by no promise, so only the outcome stands here."""
        rows = (
            ("each unit stands behind one text", "one", bool(self.behind)),
            ("a unit moves a score by at most C/B", f"{self.clip / self.references:.4g} nats", bool(self.moved)),
            ("public logits come of public words alone", "rounding", bool(self.publics)),
            ("tokens are chosen among those that public logits name", "Top-k⁺", bool(self.chosen)),
            ("a text has so many tokens at most", str(self.tokens), bool(self.chosen)),
        )
        return tuple(PromiseCheck(name=name, bound=bound, passed=True if seen else None) for name, bound, seen in rows)


def _broken(promise: str, measured: str) -> None:
    raise GuaranteeViolated(promise, measured, "Nothing of this run may be released.")
