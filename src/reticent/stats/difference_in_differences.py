# SPDX-License-Identifier: Apache-2.0
"""Memorization profile: what training on a record did to its likelihood, by when it was first seen and when we look.

Difference-in-differences of "Causal Estimation of Memorisation Profiles" (Lesci et al., ACL 2024, arXiv:2406.04327):
the rise of a record's log-likelihood since the last look before it was first trained on, less the rise of records that
are never trained on over the same time. The model gets better at all texts; what is left is memorization.

Assumed: without having been seen, trained records would have risen as the controls did (parallel trends; true of
records parted by coins), and nothing happens before a record is seen (no anticipation). The placebo test looks at both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range, positive, same_length
from reticent.stats.contrasts import Contrast, PanelDesign, contrast, joint_p, together
from reticent.stats.scores import Floats

NEVER = -1
"""``first_seen`` of a record that is never trained on."""

LEAST = 10
"""Records, or users where records belong to users, that a figure of a group takes."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One effect, estimated twice. Positive: memorized.

    Args:
        did: difference in differences.
        difference: treated minus control at that look, without what they had before: the plain estimator. It is as
            honest where coins decided, and usually wider.
    """

    did: Estimate
    difference: Estimate


@dataclass(frozen=True, kw_only=True)
class Tau:
    """The effect on a cohort at one look.

    Args:
        step: of the look.
        event: looks since the first one after the whole cohort had been seen: 0 is that one, -2 the one before the
            last look before any of it had been seen (-1, the baseline, is 0 by construction and left out).
        effect: the estimates.
    """

    step: int
    event: int
    effect: Effect


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Records first seen at about the same time.

    Args:
        first, last: first and last optimizer step at which one of them was first seen.
        records: how many.
        before: placebo effects, at looks before the baseline; 0 but for chance.
        after: effects from the first look after all of them had been seen. Their intervals hold together with those of
            all other cohorts.
    """

    first: int
    last: int
    records: int
    before: tuple[Tau, ...]
    after: tuple[Tau, ...]


@dataclass(frozen=True, kw_only=True)
class Placebo:
    """Effects where there can be none: before a record was seen.

    Args:
        p_value: for "all of them are 0", whatever their number; small: the profile is not to be trusted.
        mean: over records and their looks before the baseline.
        effects: how many effects were tested together.
    """

    p_value: float
    mean: Estimate
    effects: int


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Outcome of `profile`. Effects are in ``unit`` of log-likelihood, positive where training raised it.

    Args:
        instantaneous: at the first look after a record was first seen.
        persistent: mean over all later looks; None if there are none.
        residual: at the last look. The three hold together.
        cohorts: by when records were first seen.
        placebo: None if no record has two looks before it was seen.
        treated, control: records that count.
        no_look_before: treated records left out as no look lies before they were first seen.
        no_look_after: left out as no look lies after.
        refused: what is missing and why, a sentence each.
    """

    instantaneous: Effect
    persistent: Effect | None
    residual: Effect
    cohorts: tuple[Cohort, ...]
    placebo: Placebo | None
    treated: int
    control: int
    no_look_before: int
    no_look_after: int
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Times:
    """When the treated are seen, in looks. ``before`` [T] is the last look before, ``after`` [T] the first after."""

    steps: Ints
    seen: Ints
    before: Ints
    after: Ints

    def weight(self, looks: NDArray[np.bool_], base: Ints | None) -> Floats:
        """``[T, C]``: mean over ``looks`` [T, C], less the look ``base`` [T] if there is one."""
        weight = looks / looks.sum(axis=1, keepdims=True)
        if base is not None:
            weight[np.arange(len(weight)), base] -= 1.0
        return np.asarray(weight, dtype=np.float64)

    def at(self, look: int | Ints) -> NDArray[np.bool_]:
        """``[T, C]``: that look alone."""
        return np.asarray(np.arange(len(self.steps)) == np.broadcast_to(look, len(self.seen))[:, None])


def profile(
    loglik: ArrayLike,
    steps: ArrayLike,
    first_seen: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    unit: str = "nats",
    confidence: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Profile:
    """Estimate the memorization profile of a panel of records.

    Effects over all records (`Profile.instantaneous`, …) compare each record with its own last look before it was
    first seen. Cohorts are the gaps between looks, neighbours joined until each has 10 records (users, with
    ``cluster``); a cohort's baseline lies before all of it. With more than one pass over the data, later effects are
    of all passes so far.

    Args:
        loglik: ``[N, C]`` log-likelihood at each look; sums in nats, or nats a token.
        steps: ``[C]`` optimizer steps taken at each look, rising.
        first_seen: ``[N]`` the optimizer step, counted from 1, whose batch first held the record; -1: never. A look at
            step ``s`` has seen it if ``first_seen <= s``.
        cluster: ``[N]`` users, if their records are not independent.
        unit: of ``loglik``.
        confidence: of all intervals of a table together.
        draws: of the multiplier bootstrap.
        seed: of the same.

    Raises:
        BadInput: arrays that do not fit, numbers that are not finite, or no look before the first treatment.
        Underpowered: fewer than 10 treated records or controls (users, with ``cluster``).
    """
    in_range(0, 1, confidence=confidence)
    positive(draws=draws)
    outcome, looks, seen = _checked(loglik, steps, first_seen)
    number = _clusters(cluster, len(outcome))
    counted, lost_before, lost_after = _counted(looks, seen)
    treated, control = np.flatnonzero(counted), np.flatnonzero(seen == NEVER)
    for what, some in (("trained", treated), ("never trained", control)):
        _enough(what, len(np.unique(number[some])), clustered=cluster is not None)
    panel = PanelDesign(
        treated=outcome[treated],
        control=outcome[control],
        treated_cluster=number[treated],
        control_cluster=number[control],
        clusters=int(number.max()) + 1,
    )
    after = np.searchsorted(looks, seen[treated], side="left")
    times = _Times(steps=looks, seen=seen[treated], before=after - 1, after=after)
    how = _How(confidence=confidence, unit=unit, draws=draws, seed=seed, clustered=cluster is not None)
    instantaneous, persistent, residual = _over_records(panel, times, how)
    cohorts, placebos = _cohorts(panel, times, how)
    placebo = _placebo(panel, times, placebos, how)
    units = "records" if cluster is None else "users"
    refused = []
    if persistent is None:
        refused.append(f"persistent memorization: fewer than {LEAST} {units} have a second look after they were seen")
    if placebo is None:
        refused.append(f"placebo test: fewer than {LEAST} {units} have two looks before they were seen")
    return Profile(
        instantaneous=instantaneous,
        persistent=persistent,
        residual=residual,
        cohorts=cohorts,
        placebo=placebo,
        treated=len(treated),
        control=len(control),
        no_look_before=lost_before,
        no_look_after=lost_after,
        refused=tuple(refused),
    )


@dataclass(frozen=True, kw_only=True)
class _How:
    """How intervals are made."""

    confidence: float
    unit: str
    draws: int
    seed: int
    clustered: bool

    def estimates(self, contrasts: Sequence[Contrast]) -> list[Estimate]:
        return together(
            contrasts,
            confidence=self.confidence,
            unit=self.unit,
            draws=self.draws,
            seed=self.seed,
            clustered=self.clustered,
        )

    def effects(self, pairs: Sequence[tuple[Contrast, Contrast]]) -> list[Effect]:
        """Effects that hold together; each estimator is a table of its own."""
        did = self.estimates([pair[0] for pair in pairs])
        difference = self.estimates([pair[1] for pair in pairs])
        return [Effect(did=of_cohort, difference=other) for of_cohort, other in zip(did, difference, strict=True)]


def _pair(
    panel: PanelDesign, times: _Times, chosen: NDArray[np.bool_], looks: NDArray[np.bool_], base: Ints
) -> tuple[Contrast, Contrast]:
    """Difference in differences and plain difference."""
    looks = np.where(chosen[:, None], looks, True)  # those not chosen need some look, for a mean that is a number
    return (
        contrast(panel, chosen, times.weight(looks, base)),
        contrast(panel, chosen, times.weight(looks, None)),
    )


def _over_records(panel: PanelDesign, times: _Times, how: _How) -> tuple[Effect, Effect | None, Effect]:
    """Instantaneous, persistent and residual effect over all treated records."""
    everyone = np.ones(len(times.seen), dtype=bool)
    last = len(times.steps) - 1
    later = np.asarray(np.arange(last + 1) > times.after[:, None])
    again = np.asarray(later.any(axis=1))
    pairs = [
        _pair(panel, times, everyone, times.at(times.after), times.before),
        _pair(panel, times, everyone, times.at(last), times.before),
    ]
    if len(np.unique(panel.treated_cluster[again])) < LEAST:
        first, final = how.effects(pairs)
        return first, None, final
    first, final, between = how.effects([*pairs, _pair(panel, times, again, later, times.before)])
    return first, between, final


def _cohorts(panel: PanelDesign, times: _Times, how: _How) -> tuple[tuple[Cohort, ...], list[Contrast]]:
    """All cohorts, and the placebo contrasts of all of them."""
    bins: list[tuple[NDArray[np.bool_], int, int]] = []
    after: list[tuple[Contrast, Contrast]] = []
    before: list[tuple[Contrast, Contrast]] = []
    for first, last in _bins(times.after, panel.treated_cluster):
        chosen = np.asarray((times.after >= first) & (times.after <= last))
        bins.append((chosen, first - 1, last))
        base = np.full(len(chosen), first - 1)
        before += [_pair(panel, times, chosen, times.at(look), base) for look in range(first - 1)]
        after += [_pair(panel, times, chosen, times.at(look), base) for look in range(last, len(times.steps))]
    done, placebo = iter(how.effects(after)), iter(how.effects(before))
    cohorts = []
    for chosen, base_look, last in bins:
        seen = times.seen[chosen]
        cohorts.append(
            Cohort(
                first=int(seen.min()),
                last=int(seen.max()),
                records=int(chosen.sum()),
                before=tuple(
                    Tau(step=int(times.steps[look]), event=look - base_look - 1, effect=next(placebo))
                    for look in range(base_look)
                ),
                after=tuple(
                    Tau(step=int(times.steps[look]), event=look - last, effect=next(done))
                    for look in range(last, len(times.steps))
                ),
            )
        )
    return tuple(cohorts), [pair[0] for pair in before]


def _bins(after: Ints, cluster: NDArray[np.intp]) -> list[tuple[int, int]]:
    """First and last "first look after" of each cohort: neighbours are joined until each has ``LEAST`` clusters."""
    bins: list[tuple[int, int]] = []
    start: int | None = None
    for look in np.unique(after):
        start = int(look) if start is None else start
        if len(np.unique(cluster[(after >= start) & (after <= look)])) >= LEAST:
            bins.append((start, int(look)))
            start = None
    if start is not None:  # too few are left over; they join the last cohort
        bins[-1] = (bins[-1][0], int(after.max()))
    return bins


def _placebo(panel: PanelDesign, times: _Times, contrasts: list[Contrast], how: _How) -> Placebo | None:
    earlier = np.asarray(np.arange(len(times.steps)) < times.before[:, None])
    chosen = np.asarray(earlier.any(axis=1))
    if not contrasts or len(np.unique(panel.treated_cluster[chosen])) < LEAST:
        return None
    mean, _ = _pair(panel, times, chosen, earlier, times.before)
    p_value = joint_p(contrasts, draws=how.draws, seed=how.seed)
    return Placebo(p_value=p_value, mean=how.estimates([mean])[0], effects=len(contrasts))


def _checked(loglik: ArrayLike, steps: ArrayLike, first_seen: ArrayLike) -> tuple[Floats, Ints, Ints]:
    outcome = np.asarray(loglik, dtype=np.float64)
    looks, seen = np.asarray(steps, dtype=np.int64), np.asarray(first_seen, dtype=np.int64)
    if outcome.ndim != 2 or outcome.shape != (len(seen), len(looks)) or not outcome.size:
        raise BadInput(
            f"loglik of shape {outcome.shape} with {len(seen)} records and {len(looks)} looks",
            "these do not fit",
            "Give one row a record and one column a look.",
        )
    if not np.isfinite(outcome).all():
        row = int(np.flatnonzero(~np.isfinite(outcome).all(axis=1))[0])
        raise BadInput(f"loglik[{row}]", "is not finite", "Leave the record out, by a rule that looks at no loss.")
    if (np.diff(looks) <= 0).any():
        raise BadInput("steps", "do not rise", "Give looks in the order of training, each once.")
    if ((seen < 1) & (seen != NEVER)).any():
        raise BadInput(
            f"first_seen={int(seen[(seen < 1) & (seen != NEVER)][0])}",
            "is no optimizer step",
            f"Count steps from 1; {NEVER} is a record that is never seen.",
        )
    return outcome, looks, seen


def _counted(looks: Ints, seen: Ints) -> tuple[NDArray[np.bool_], int, int]:
    """Treated records with a look on both sides, and how many lack one before or after."""
    treated = seen != NEVER
    early, late = treated & (seen <= looks[0]), treated & (seen > looks[-1])
    if early.any() and not (treated & ~early).any():
        raise BadInput(
            f"the first look at step {looks[0]}",
            "comes after all records had been seen, so nothing is known of them before",
            "Look before training (step 0).",
        )
    return treated & ~early & ~late, int(early.sum()), int(late.sum())


def _clusters(cluster: ArrayLike | None, n: int) -> NDArray[np.intp]:
    if cluster is None:
        return np.arange(n)
    names = np.asarray(cluster)
    same_length(loglik=range(n), cluster=names)
    return np.unique(names, return_inverse=True)[1]


def _enough(what: str, count: int, *, clustered: bool) -> None:
    if count < LEAST:
        units = "users" if clustered else "records"
        raise Underpowered(
            f"{what} records of {count} users" if clustered else f"{count} {what} records",
            "their spread cannot be told",
            f"Watch at least {LEAST} {units} of each kind.",
        )
