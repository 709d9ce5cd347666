# SPDX-License-Identifier: Apache-2.0
"""Looks at an unlearning: what a pass over the panel says, whether it is enough, and whether too much was lost. Pure.

An unlearning may end when all three hold (optional stopping is paid for: the error of (i) is divided by all looks that
there can be):

(i)   for each attack the interval of the AUC of forget against unseen rows lies within 0.5 ± margin, or the AUC has
      crossed 0.5; where so few rows show no margin that means anything, as with one person, the mean of the attacks'
      AUCs has crossed 0.5;
(ii)  mean and quartiles of the loss of the forget rows lie where those of as many unseen rows would;
(iii) the loss of the retained rows has risen by no more than the budget, a share of the loss of unseen rows before the
      first step. Rows that a model has memorized cost it next to nothing, so a share of their own loss would be used up
      by the first step that changes anything; what unseen text costs does not depend on how much was memorized.

It ends too where the aim lies behind it: (i) holds, as AUCs have crossed 0.5, and the losses of the forget rows lie
above the band of (ii). More steps would make the rows only more unlikely, which is a mark of its own.

Of the looks before (iii) broke, the one nearest to an AUC of 0.5 is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.core.finding import Estimate
from reticent.core.unlearning import UnlearningLook
from reticent.stats.equivalence import Likeness, equivalence
from reticent.stats.means import ratio_of_sums

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000
BAND = 0.95
"""Share of draws of unseen rows whose mean and quartiles all lie in the band of (ii)."""
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True)
class LookPlan:
    """Settings of all looks, fixed before the first.

    Args:
        margin: of (i).
        enough: so many rows can show it.
        budget: of (iii), a share of the loss of unseen rows before the first step.
        looks: how many there can be.
        confidence: of (i), over all looks.
        seed: of resamples.
    """

    margin: float
    budget: float
    looks: int
    enough: bool = True
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look.

    Args:
        step: optimizer steps so far.
        aucs: forget against unseen, by attack.
        forget_loss, unseen_loss: means over rows, nats a token.
        retain_loss: over all tokens, nats a token.
        like_unseen: (i).
        in_band: (ii).
        in_budget: (iii).
    """

    step: int
    aucs: dict[str, Estimate]
    forget_loss: float
    unseen_loss: float
    retain_loss: Estimate
    like_unseen: bool
    in_band: bool
    in_budget: bool

    @property
    def is_enough(self) -> bool:
        """True where all three hold."""
        return self.like_unseen and self.in_band and self.in_budget

    @property
    def is_past(self) -> bool:
        """True where the aim was passed between two looks."""
        return self.like_unseen and not self.in_band and self.forget_loss > self.unseen_loss

    @property
    def distance(self) -> float:
        """How far AUCs lie from 0.5, the mean over attacks."""
        return sum(abs(auc.value - 0.5) for auc in self.aucs.values()) / max(len(self.aucs), 1)

    @property
    def shown(self) -> UnlearningLook:
        """As the page of the verification has it."""
        return UnlearningLook(step=self.step, aucs=self.aucs, retain_loss=self.retain_loss)


@dataclass(frozen=True, kw_only=True, eq=False)
class PanelNumbers:
    """Numbers of one pass over a panel ``[N]``.

    Args:
        scores: of attacks, higher = looks trained on.
        nll: negative log-likelihood of the trained tokens, nats.
        tokens: how many these are.
        side: ``"forget"``, ``"unseen"`` or ``"retain"``.
        user: owners, None where there is none.
    """

    scores: Mapping[str, Floats]
    nll: Floats
    tokens: Floats
    side: npt.NDArray[np.object_]
    user: npt.NDArray[np.object_]

    @property
    def loss(self) -> Floats:
        """``[N]`` nats a token."""
        return self.nll / self.tokens


def look_at(numbers: PanelNumbers, plan: LookPlan, *, step: int, first: Look | None) -> Look:
    """Judge one pass.

    Args:
        numbers: of the pass.
        plan: fixed before the first look.
        step: optimizer steps so far.
        first: the look before the first step; None where this is it.
    """
    forget, unseen, retain = (numbers.side == side for side in ("forget", "unseen", "retain"))
    judged = forget | unseen
    users = _clusters(numbers.user[judged])
    likeness = equivalence(
        {name: score[judged] for name, score in numbers.scores.items()},
        forget[judged],
        margin=plan.margin,
        users=users,
        confidence=plan.confidence,
        looks=plan.looks,
        seed=plan.seed,
    )
    loss = numbers.loss
    retain_loss = ratio_of_sums(
        numbers.nll[retain], numbers.tokens[retain], _clusters(numbers.user[retain]), unit="nats a token"
    )
    return Look(
        step=step,
        aucs={row.attack: row.auc for row in likeness.attacks},
        forget_loss=float(loss[forget].mean()),
        unseen_loss=float(loss[unseen].mean()),
        retain_loss=retain_loss,
        like_unseen=_is_like(likeness, enough=plan.enough),
        in_band=in_band(loss[forget], loss[unseen], seed=plan.seed),
        in_budget=first is None or retain_loss.value - first.retain_loss.value <= plan.budget * first.unseen_loss,
    )


def nearest_in_budget(looks: Sequence[Look]) -> int:
    """The step that is kept: of those before the budget broke first, one that is enough, or the one that is nearest.

    Args:
        looks: in the order of steps, the one before the first step included.

    Returns:
        0 where the budget broke at once, or no step was taken. Of steps equally near the latest, which has trained
        longest.
    """
    kept: list[Look] = []
    for look in looks[1:]:
        if not look.in_budget:
            break
        kept.append(look)
    return min(kept, key=lambda look: (not look.is_enough, look.distance, -look.step)).step if kept else 0


def _is_like(likeness: Likeness, *, enough: bool) -> bool:
    """(i)."""
    if enough:
        return all(row.verdict == "like unseen" or row.auc.value <= 0.5 for row in likeness.attacks)
    return sum(row.auc.value for row in likeness.attacks) / len(likeness.attacks) <= 0.5


def in_band(forget: Floats, unseen: Floats, *, seed: int = 0) -> bool:
    """True where mean and quartiles of the losses of ``forget`` lie where those of as many rows of ``unseen`` do.

    The band holds all four with probability ``BAND`` for rows that are drawn from the unseen ones (the largest of four
    standardized distances, over resamples).

    >>> rng = np.random.default_rng(0)
    >>> unseen = rng.normal(3, 1, 200)
    >>> in_band(rng.normal(3, 1, 60), unseen), in_band(rng.normal(1, 1, 60), unseen), in_band(np.full(60, 3.0), unseen)
    (True, False, False)
    """
    rng = np.random.default_rng([seed, 0xBA2D])
    drawn = _numbers_of(unseen[rng.integers(len(unseen), size=(RESAMPLES, len(forget)))])
    center, spread = drawn.mean(axis=0), drawn.std(axis=0)
    spread = np.where(spread > 0, spread, np.inf)
    furthest = np.abs((drawn - center) / spread).max(axis=1)
    mine = float(np.abs((_numbers_of(forget[None])[0] - center) / spread).max())
    return mine <= float(np.quantile(furthest, BAND))


def _numbers_of(losses: Floats) -> Floats:
    """Mean and quartiles of each row ``[R, n]``, ``[R, 4]``."""
    return np.column_stack([losses.mean(axis=1), *np.quantile(losses, QUARTILES, axis=1)])


def _clusters(user: npt.NDArray[np.object_]) -> npt.NDArray[np.object_] | None:
    """Owners, with a name of its own for each row that has none; None where no row has one."""
    if all(owner is None for owner in user):
        return None
    names = [f"row {place}" if owner is None else f"user {owner}" for place, owner in enumerate(user)]
    return np.array(names, dtype=object)
