# SPDX-License-Identifier: Apache-2.0
"""Numbers of usefulness out of losses: each against no training and against real text, paired by held-out text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.stats.means import ratio_of_sums
from reticent.stats.user_bootstrap import expanded_percentile, mean_of_rows, owners, row_weights
from reticent.synthesis.usefulness.judged_losses import JudgedLosses

Floats = npt.NDArray[np.float64]
NATS = "nats a token"


@dataclass(frozen=True, kw_only=True, eq=False)
class Yardstick:
    """The losses that models are held against.

    Args:
        untrained, real: losses of the model before training, and of the one that learned from real text.
        users: ``[N]`` of the held-out texts; None where each is by itself.
        own_label: ``[N]`` number of each text's label; empty without labels.
        seed: of the intervals.
    """

    untrained: JudgedLosses
    real: JudgedLosses
    users: Sequence[str] | None
    own_label: npt.NDArray[np.int64]
    seed: int = 0

    def loss(self, losses: JudgedLosses) -> Estimate:
        """Mean loss, nats a token."""
        return replace(ratio_of_sums(losses.nats, losses.tokens, self.users, unit=NATS), higher_is_worse=False)

    def over_real(self, losses: JudgedLosses) -> Estimate:
        """The mean loss less that of real text; above 0 where real text teaches more."""
        more = losses.nats - self.real.nats
        return replace(ratio_of_sums(more, losses.tokens, self.users, unit=NATS), higher_is_worse=False)

    @property
    def real_teaches(self) -> bool:
        """True if real text lowers the loss beyond doubt."""
        return self.over_real(self.untrained).lo > 0

    def kept(self, losses: JudgedLosses) -> Estimate | None:
        """Share of what real text teaches that these texts teach; None where real text teaches nothing beyond doubt."""
        if not self.real_teaches:
            return None
        owner = owners(len(losses.nats), self.users)
        weight = row_weights(owner, seed=self.seed)
        gain = (self.untrained.nats - losses.nats) @ weight
        whole = (self.untrained.nats - self.real.nats) @ weight
        share = np.where(whole > 0, gain / np.where(whole > 0, whole, 1.0), np.nan)
        users = int(owner.max()) + 1
        return expanded_percentile(share, users=users, n=len(losses.nats), higher_is_worse=False)

    def accuracy(self, losses: JudgedLosses) -> Estimate | None:
        """Share of texts whose own label gives them the highest likelihood; a tie counts as missed. None without
        labels."""
        if not len(self.own_label):
            return None
        rows = np.arange(len(self.own_label))
        own = losses.by_label[rows, self.own_label]
        others = losses.by_label.copy()
        others[rows, self.own_label] = np.inf
        right = (own < others.min(axis=1)).astype(np.float64)
        return mean_of_rows(right, self.users, higher_is_worse=False, seed=self.seed)


def judged_whole(losses: Sequence[JudgedLosses]) -> npt.NDArray[np.bool_]:
    """``[N]``: texts that have something to predict under all models.

    Raises:
        Underpowered: fewer than two have.
    """
    whole = np.logical_and.reduce([(loss.tokens > 0) & np.isfinite(loss.nats) for loss in losses])
    if int(whole.sum()) < 2:
        raise Underpowered(
            f"{int(whole.sum())} of {len(whole)} held-out texts", "have a token to predict", "Use longer texts."
        )
    return whole


def taken(losses: JudgedLosses, rows: npt.NDArray[np.bool_]) -> JudgedLosses:
    """Losses of some of the texts."""
    return JudgedLosses(nats=losses.nats[rows], tokens=losses.tokens[rows], by_label=losses.by_label[rows])
