# SPDX-License-Identifier: Apache-2.0
"""From what one pass over the panel gave to a Snapshot: losses, attacks against the base, exposure, copied 5-grams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate
from reticent.core.snapshot import Snapshot
from reticent.data.canaries import named_tier
from reticent.monitor.panel import CONTROL, Panel
from reticent.stats.clustered import MIN_CLUSTERS, MIN_USERS, auc_clustered
from reticent.stats.exposure import exposure
from reticent.stats.means import difference_of_means, ratio_of_sums
from reticent.stats.roc import auc, tpr_at_fpr

Floats = npt.NDArray[np.float64]

NGRAM = 5
"""Tokens in a row that must all be the model's first choice to count as copied."""
RESAMPLES = 1000
_RATE = "nats a token"


@dataclass(frozen=True, kw_only=True, eq=False)
class PanelPass:
    """Results of one pass over the panel, ``[N]`` each.

    Args:
        nll: negative log-likelihood of the trained tokens, summed, nats.
        tokens: how many these are.
        copied: share of the runs of ``NGRAM`` trained tokens of which each is the model's first choice; NaN where
            the record has no such run.
    """

    nll: Floats
    tokens: npt.NDArray[np.int32]
    copied: Floats

    @property
    def loss(self) -> Floats:
        """``[N]`` nats a token."""
        return self.nll / self.tokens


def copied_share(rank: npt.NDArray[np.int32], place: npt.NDArray[np.int64]) -> float:
    """Share of the 5-grams of a record that the model, led along the record, would have said word for word.

    Args:
        rank: ``[n]`` of the trained tokens (0 = the model's first choice).
        place: ``[n]`` rising positions of these tokens in the record; a 5-gram has no gap.

    Returns:
        NaN where the record has no 5-gram.
    """
    if len(rank) < NGRAM:
        return float("nan")
    whole = place[NGRAM - 1 :] - place[: len(place) - NGRAM + 1] == NGRAM - 1
    if not whole.any():
        return float("nan")
    first = np.concatenate([[0], np.cumsum(rank == 0)])
    repeats = first[NGRAM:] - first[:-NGRAM] == NGRAM
    return float((repeats & whole).sum() / whole.sum())


def snapshot_of(
    panel: Panel, look: PanelPass, base: Floats, *, step: int, epoch: float, seconds: float = 0.0
) -> Snapshot:
    """The snapshot of one look; its phase stays "start", as one look does not tell it.

    Args:
        panel: ``N`` records.
        look: at them, now.
        base: ``[N]`` summed negative log-likelihood under the base.
        step, epoch, seconds: as in `Snapshot`.
    """
    refused: list[str] = []

    def unless_refused(name: str, make: Callable[[], Estimate | None]) -> Estimate | None:
        try:
            return make()
        except Underpowered as error:
            refused.append(f"{name}: {error}")
        return None

    inside, outside = panel.of("evaluate", member=True), panel.of("evaluate", member=False)
    clusters = _clusters(panel, inside, outside)
    log_ratio = base - look.nll
    score = log_ratio / look.tokens
    member, held_out = score[inside], score[outside]
    differs = bool(np.any(log_ratio[inside | outside] != 0))
    return Snapshot(
        step=step,
        epoch=epoch,
        held_out_loss=_loss(look, outside, clusters[1]),
        member_loss=_loss(look, inside, clusters[0]),
        gap=difference_of_means(look.loss[outside], look.loss[inside], clusters[1], clusters[0], unit=_RATE),
        tpr_at_10pct_fpr=unless_refused("tpr@0.1", lambda: _caught(member, held_out, 0.1, clusters))
        if differs
        else None,
        auc=unless_refused("auc", lambda: _auc(member, held_out, clusters)) if differs else None,
        tpr_at_1pct_fpr=unless_refused("tpr@0.01", lambda: _caught(member, held_out, 0.01, clusters))
        if differs
        else None,
        user_auc=unless_refused("user_auc", lambda: _user_auc(panel, log_ratio)) if differs else None,
        canary_user_auc=unless_refused("canary_user_auc", lambda: _canary_user_auc(panel, log_ratio))
        if differs
        else None,
        exposure=_exposures(panel, look),
        copied=unless_refused("copied", lambda: _copied(look, inside, outside, clusters)),
        refused=tuple(refused),
        seconds=seconds,
    )


Clusters = tuple[npt.NDArray[np.object_] | None, npt.NDArray[np.object_] | None]


def _clusters(panel: Panel, inside: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_]) -> Clusters:
    """Users of both sides, where there are enough of them to be the units of an interval."""
    users = panel.user[inside | outside]
    if any(user is None for user in users) or len(np.unique(users.astype(str))) < MIN_CLUSTERS:
        return None, None
    if min(len(np.unique(panel.user[side].astype(str))) for side in (inside, outside)) < 2:
        return None, None
    return panel.user[inside], panel.user[outside]


def _loss(look: PanelPass, rows: npt.NDArray[np.bool_], cluster: npt.NDArray[np.object_] | None) -> Estimate:
    return ratio_of_sums(look.nll[rows], look.tokens[rows], cluster, unit=_RATE, higher_is_worse=False)


def _auc(member: Floats, held_out: Floats, clusters: Clusters) -> Estimate:
    if clusters[0] is None or clusters[1] is None:
        return auc(member, held_out)
    return auc_clustered(member, held_out, clusters[0].astype(str), clusters[1].astype(str), n_boot=RESAMPLES)


def _caught(member: Floats, held_out: Floats, fpr: float, clusters: Clusters) -> Estimate:
    rate = tpr_at_fpr(member, held_out, fpr)
    alone = "" if clusters[0] is None else "; takes the records of a user as independent"
    return replace(rate, method=f"{rate.method}{alone}")


def _user_auc(panel: Panel, log_ratio: Floats) -> Estimate | None:
    """Users who are in against users who are out, by the mean over their fresh texts of the log-likelihood ratio of
    the whole text (arXiv:2310.09266)."""
    if panel.unit == "record" or any(user is None for user in panel.user[panel.role == "evaluate"]):
        return None
    fresh = ~panel.member & np.isin(panel.role.astype(str), ("evaluate", "fresh"))
    return _between_users(panel, log_ratio, fresh, one_text=panel.unit == "given")


def _canary_user_auc(panel: Panel, log_ratio: Floats) -> Estimate | None:
    planted = panel.of("canary_user")
    return _between_users(panel, log_ratio, planted, one_text=False) if planted.any() else None


def _between_users(panel: Panel, log_ratio: Floats, rows: npt.NDArray[np.bool_], *, one_text: bool) -> Estimate:
    """AUC over users. ``one_text``: each user is shown by the first of their texts, where no coin saw to it that both
    sides have as many."""
    users, first, owner = np.unique(panel.user[rows].astype(str), return_index=True, return_inverse=True)
    count = np.bincount(owner, minlength=len(users))
    mean = np.bincount(owner, weights=log_ratio[rows], minlength=len(users)) / np.maximum(count, 1)
    score = log_ratio[rows][first] if one_text else mean
    member = panel.user_member[rows][first]
    sides = int(member.sum()), int((~member).sum())
    if min(sides) < MIN_USERS:
        raise Underpowered(
            f"{sides[0]} users in and {sides[1]} out with texts that were never trained on",
            "they are too few to be told apart",
            f"Look at more records (--panel); at least {MIN_USERS} users of each side are needed.",
        )
    return auc(score[member], score[~member])


def _exposures(panel: Panel, look: PanelPass) -> dict[str, Estimate]:
    """By tier; controls are what secrets are ranked among."""
    secrets = panel.of("canary")
    controls = secrets & (panel.tier == CONTROL)
    if not controls.any():
        return {}
    tiers = sorted({int(tier) for tier in panel.tier[secrets & ~controls]})
    return {
        named_tier(tier): exposure(look.loss[secrets & (panel.tier == tier)], look.loss[controls]) for tier in tiers
    }


def _copied(
    look: PanelPass, inside: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_], clusters: Clusters
) -> Estimate:
    measured = ~np.isnan(look.copied)
    if min(int((measured & side).sum()) for side in (inside, outside)) < 2:
        raise Underpowered(
            "the panel", f"has hardly a record of {NGRAM} trained tokens", "Look at more records (--panel)."
        )
    sides = zip(clusters, (inside, outside), strict=True)
    ends = [None if cluster is None else cluster[measured[side]] for cluster, side in sides]
    return difference_of_means(look.copied[inside & measured], look.copied[outside & measured], *ends, within=1.0)


def finite(look: PanelPass, step: int) -> PanelPass:
    """The look, if all its numbers are.

    Raises:
        BadInput: a loss is not a finite number.
    """
    if not np.isfinite(look.nll).all():
        raise BadInput(
            "the monitor", f"at step {step} the model gives losses that are no numbers", "Lower the learning rate."
        )
    return look
