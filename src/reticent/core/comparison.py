# SPDX-License-Identifier: Apache-2.0
"""Comparison: everything that one `reticent compare` found, as plain data. No private text travels here.

A *setting* is a tuning method with its hyper-parameters, a defence and a schedule; a *point* is a setting at one
learning rate after some steps, over all seeds; a *cell* is one training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from reticent.core.composed_epsilon import ComposedEpsilon
from reticent.core.field_types import Count, OneOf
from reticent.core.finding import Estimate
from reticent.core.stated_epsilon import StatedEpsilon

CELL_STATUSES = ("done", "diverged", "refused", "failed", "missing")


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One training.

    Args:
        name: of its folder.
        setting: index into ``Comparison.settings``.
        learning_rate: peak of the schedule.
        seed: of the training.
        status: ``"done"``; ``"diverged"``: the loss was no longer finite; ``"refused"``: it cannot be trained so;
            ``"failed"``: it broke; ``"missing"``: not run yet.
        why: what went wrong; empty where nothing did.
        training_seconds: without the looks.
        watching_seconds: of the looks.
        stopped: why it ended early; empty if it did not.
    """

    name: str
    setting: Count
    learning_rate: float
    seed: int
    status: Annotated[str, OneOf(*CELL_STATUSES)]
    why: str = ""
    training_seconds: float = 0.0
    watching_seconds: float = 0.0
    stopped: str = ""

    def __post_init__(self) -> None:
        if self.status not in CELL_STATUSES:
            raise ValueError(f"status {self.status!r} is not one of {CELL_STATUSES}")


@dataclass(frozen=True, kw_only=True)
class Point:
    """A setting at one learning rate after some steps, the mean over its seeds.

    Args:
        setting: index into ``Comparison.settings``.
        learning_rate, step, epoch: where the point lies: peak of the schedule, optimizer steps, epochs.
        seeds: how many the mean is over.
        loss: held-out, nats a token.
        auc: of the reference attack on records (loss difference to the base).
        tpr_at_10pct_fpr: TPR at FPR 0.1, same attack; None where there are fewer than 100 held-out records.
        user_auc: of the mean over a user's texts that were never trained on; None without a comparison of users.
        canary_user_auc: the same of users with a phrase of their own in all their texts; None without such users.
        user_gap: users who are out minus users who are in, mean loss of their fresh texts against the base, in nats a
            token; None as above.
        gap: held-out minus member records, mean loss of a record, in nats a token.
        exposure: median exposure in bits by tier.
        phase: of most seeds: start, fitting, memorization or overfitting.
        each_auc, each_tpr_at_10pct_fpr, each_loss: the same of each seed by itself.
        on_frontier: whether no other point of the setting, the untrained model left out, is better in loss and AUC.
    """

    setting: int
    learning_rate: float
    step: int
    epoch: float
    seeds: int
    loss: Estimate
    auc: Estimate
    tpr_at_10pct_fpr: Estimate | None
    user_auc: Estimate | None
    user_gap: float | None
    gap: Estimate
    canary_user_auc: Estimate | None = None
    exposure: dict[str, Estimate] = field(default_factory=dict)
    phase: str = "start"
    each_loss: tuple[float, ...] = ()
    each_auc: tuple[float, ...] = ()
    each_tpr_at_10pct_fpr: tuple[float, ...] = ()
    on_frontier: bool = False


@dataclass(frozen=True, kw_only=True)
class MatchedUtility:
    """A setting at a held-out loss that others reach too, interpolated along its frontier between two looks.

    Args:
        setting: index into ``Comparison.settings``.
        loss: nats a token, the same for all.
        auc: of the reference attack on records at that loss.
        tpr_at_10pct_fpr: TPR at FPR 0.1 at that loss; None as in `Point`.
        between: the two points of the frontier that it lies between, as ``(learning rate, step)``; the same twice for a
            point that was looked at.
    """

    setting: int
    loss: float
    auc: Estimate
    tpr_at_10pct_fpr: Estimate | None
    between: tuple[tuple[float, int], tuple[float, int]]


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """Service of easy and hard records by the final weights at the learning rate with the best held-out loss.

    Args:
        setting: index into ``Comparison.settings``.
        learning_rate: the one with the best held-out loss.
        kl: KL(target‖base) of the next token on held-out text, nats a token: how far the model moved.
        records: how much more the easiest third of held-out records (by the base's loss) gained than the hardest third,
            in nats a token; 0 is even.
        users: the same of users; None without users.
        losses: held-out loss of the three thirds of records, easiest first, nats a token.
    """

    setting: int
    learning_rate: float
    kl: Estimate | None
    records: Estimate
    users: Estimate | None
    losses: tuple[Estimate, ...]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A tuning method with a defence and a schedule, and how it did.

    Args:
        name: for tables.
        method, params: of `TuneConfig`.
        defence: its name; "none" for no defence.
        about: what the defence does.
        schedule: how the learning rate goes on from its peak, as ``lr_scheduler_type`` of `TuneConfig`.
        trained_parameters: how many; 0 where no cell was finished.
        learning_rates: that were tried and not lost.
        seeds: the fewest that any of those has.
        best: index into ``Comparison.points`` of the lowest held-out loss; None where nothing was trained.
        matched: at the loss that all settings reach; None where refused.
        why_not: why ``matched`` is refused.
        fairness: None where not measured.
        notes: what to know before quoting its numbers.
    """

    name: str
    method: str
    params: dict[str, Any]
    defence: str
    about: str
    schedule: str = "linear"
    trained_parameters: int = 0
    learning_rates: tuple[float, ...] = ()
    seeds: int = 0
    best: int | None = None
    matched: MatchedUtility | None = None
    why_not: str = ""
    fairness: Fairness | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SettingPair:
    """Two settings at the best loss that both reach.

    Args:
        a, b: indices; ``difference`` is a minus b.
        kind: what differs and nothing else does: ``"method"``, ``"defence"`` or ``"schedule"``.
        loss: where they are compared, nats a token; None where refused.
        auc: difference of AUC; its interval holds for all pairs together. None where refused.
        tpr_at_10pct_fpr: the same of the TPR at FPR 0.1.
        less: the index of the one that leaks less; None where no ranking is made.
        why_not: why no ranking is made; empty where one is.
    """

    a: int
    b: int
    kind: str
    loss: float | None
    auc: Estimate | None
    tpr_at_10pct_fpr: Estimate | None
    less: int | None
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class Association:
    """Two things that rise together, or not, over the points of all trainings: Spearman's rank correlation.

    Args:
        what: the two things.
        rho: the correlation, from -1 to 1.
        points: how many it rests on.
    """

    what: str
    rho: Estimate
    points: int


@dataclass(frozen=True, kw_only=True)
class AuditedSetting:
    """A setting with what an audit of one of its models found: the one whose loss is nearest to that of the others.

    Args:
        setting: index into ``Comparison.settings``.
        learning_rate, seed: of the model that was audited.
        loss: held-out, nats a token, of models trained so; the mean over seeds at the end of the training.
        record_auc, user_auc: of the attack that tells most; None where none was run or could be.
        extracted: largest share of trained secrets or records that came out, less what comes out of a control or of the
            base; None where nobody tried.
        extracted_of: what of, and by which attack.
        epsilon: the largest lower bound on ε, with δ and the unit that it is for; None where none was made.
        promise: of the model; None where nothing is promised.

    Examples:
        >>> loss = Estimate(value=3.1, lo=3.0, hi=3.2, n=90, method="over seeds")
        >>> AuditedSetting(setting=0, learning_rate=1e-4, seed=0, loss=loss).promise is None
        True
    """

    setting: Count
    learning_rate: float
    seed: int
    loss: Estimate
    record_auc: Estimate | None = None
    user_auc: Estimate | None = None
    extracted: Estimate | None = None
    extracted_of: str = ""
    epsilon: Estimate | None = None
    promise: StatedEpsilon | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The whole outcome.

    Args:
        title: of the page: what was compared.
        created: ISO 8601, UTC.
        headline: the answer in one sentence.
        sentences: what follows, one fact each.
        base_loss: held-out loss of the model before training.
        settings: each tuning method with a defence and a schedule.
        points: each setting at one learning rate after some steps.
        pairs: two settings each, at the best loss that both reach.
        cells: the trainings.
        associations: what rises together over all points.
        refused: what cannot be said and why.
        counts: how many records, users and secrets.
        provenance: model, data, grid, versions, hardware.
        together: what all its private trainings cost together, one for each kind of unit that can be spoken of; empty
            where none was private. Trainings in its folder that are no longer in the grid count too.
        audited: one model of each setting with what an audit of it found; empty where none was audited.
    """

    title: str
    created: str
    headline: str
    sentences: tuple[str, ...]
    base_loss: Estimate
    settings: tuple[Setting, ...]
    points: tuple[Point, ...]
    pairs: tuple[SettingPair, ...]
    cells: tuple[TrialRow, ...]
    associations: tuple[Association, ...]
    refused: tuple[str, ...]
    counts: dict[str, int]
    provenance: dict[str, Any]
    together: tuple[ComposedEpsilon, ...] = ()
    audited: tuple[AuditedSetting, ...] = ()
