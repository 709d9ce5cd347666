# SPDX-License-Identifier: Apache-2.0
"""The profile against loops over records, a closed form, Welch's interval, and simulated coverage and size."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, ttest_ind

from reticent.core.errors import BadInput, Underpowered
from reticent.stats import contrasts
from reticent.stats.difference_in_differences import LEAST, NEVER, profile

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

STEPS = np.array([0, 4, 8, 12, 20])


def training(
    rng,
    *,
    treated=60,
    control=50,
    jump=1.0,
    fade=0.3,
    steps=STEPS,
    trend=0.1,
    anticipation=0.0,
    users=None,
    apart=False,
):
    """Records of unlike difficulty that all rise together; the treated jump when first seen and fade to a rest.

    The true effect ``k`` looks after the first one is ``jump · (fade + (1 - fade) / 2^k)``.
    """
    n = treated + control
    seen = np.concatenate([rng.integers(1, max(steps[-2], 1) + 1, treated), np.full(control, NEVER)])
    user = np.arange(n) if users is None else rng.integers(0, users, n)
    user = user + (users or 0) * apart * (np.arange(n) >= treated)
    outcome = rng.normal(-50, 5, n)[:, None] + trend * steps * rng.normal(1, 0.3, user.max() + 1)[user][:, None]
    outcome = outcome + rng.normal(0, 0.5, outcome.shape)
    for i in range(treated):
        since = np.arange(len(steps)) - np.searchsorted(steps, seen[i])
        outcome[i] += np.where(since >= 0, jump * (fade + (1 - fade) * 0.5 ** np.maximum(since, 0)), 0.0)
        outcome[i] += anticipation * steps * (since < 0)
    return outcome, seen, user


def by_loops(outcome, steps, seen):
    """Twin: instantaneous, persistent and residual effect, one record and one look at a time."""
    controls = [i for i in range(len(seen)) if seen[i] == NEVER]
    found = {"instantaneous": [], "persistent": [], "residual": []}
    for i in range(len(seen)):
        if seen[i] == NEVER or seen[i] > steps[-1]:
            continue
        base = max(c for c in range(len(steps)) if steps[c] < seen[i])
        effects = {}
        for c in range(base + 1, len(steps)):
            other = sum(outcome[j][c] - outcome[j][base] for j in controls) / len(controls)
            effects[c] = outcome[i][c] - outcome[i][base] - other
        found["instantaneous"].append(effects[base + 1])
        found["residual"].append(effects[len(steps) - 1])
        if base + 2 < len(steps):
            later = [effects[c] for c in effects if c > base + 1]
            found["persistent"].append(sum(later) / len(later))
    return {name: sum(values) / len(values) for name, values in found.items()}


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_loops_over_records(seed):
    outcome, seen, _ = training(np.random.default_rng(seed))
    found = profile(outcome, STEPS, seen, draws=100)
    slow = by_loops(outcome.tolist(), STEPS.tolist(), seen.tolist())
    assert found.instantaneous.did.value == pytest.approx(slow["instantaneous"])
    assert found.persistent.did.value == pytest.approx(slow["persistent"])
    assert found.residual.did.value == pytest.approx(slow["residual"])


def test_cohorts_are_the_four_means_of_the_definition():
    outcome, seen, _ = training(np.random.default_rng(3), treated=80)
    found = profile(outcome, STEPS, seen, draws=100)
    assert [(one.first > STEPS[k], one.last <= STEPS[k + 1]) for k, one in enumerate(found.cohorts)] == [
        (True,) * 2
    ] * 3
    control = outcome[seen == NEVER]
    for number, cohort in enumerate(found.cohorts):
        own = outcome[(seen >= cohort.first) & (seen <= cohort.last)]
        assert len(own) == cohort.records
        for tau in (*cohort.before, *cohort.after):
            look = STEPS.tolist().index(tau.step)
            did = own[:, look].mean() - own[:, number].mean() - control[:, look].mean() + control[:, number].mean()
            assert tau.effect.did.value == pytest.approx(did)
            assert tau.effect.difference.value == pytest.approx(own[:, look].mean() - control[:, look].mean())
            assert tau.event == look - number - 1
    assert [tau.event for tau in found.cohorts[2].before] == [-3, -2]
    assert [tau.event for tau in found.cohorts[0].after] == [0, 1, 2, 3]


def test_closed_form_without_noise():
    """All texts gain 2 nats a look; the trained gain 3 more when first seen, and half of that is left at the end."""
    steps, half = [0, 10, 20], LEAST
    seen = np.array([5] * half + [15] * half + [NEVER] * half)
    outcome = np.tile(-40.0 + 2.0 * np.arange(3), (3 * half, 1))
    outcome[:half] += [0, 3, 1.5]
    outcome[half : 2 * half] += [0, 0, 3]
    found = profile(outcome, steps, seen)
    assert (found.instantaneous.did.value, found.instantaneous.did.lo, found.instantaneous.did.hi) == (3, 3, 3)
    assert found.persistent.did.value == pytest.approx(1.5)
    assert found.residual.did.value == pytest.approx(2.25)
    assert found.residual.did.lo < 2.25 < found.residual.did.hi  # the two cohorts differ
    assert found.placebo.mean.value == 0
    assert found.placebo.p_value == 1.0


def test_one_contrast_alone_has_welchs_interval():
    """One cohort, one look after and none before the baseline: residual is instantaneous, so both are Welch's."""
    rng = np.random.default_rng(5)
    outcome, seen, _ = training(rng, steps=np.array([0, 6]), treated=30, control=17)
    seen = np.where(seen == NEVER, NEVER, 3)
    found = profile(outcome, [0, 6], seen)
    change = outcome[:, 1] - outcome[:, 0]
    welch = ttest_ind(change[seen == 3], change[seen == NEVER], equal_var=False).confidence_interval(0.95)
    cohort = found.cohorts[0].after[0].effect.did
    assert (cohort.lo, cohort.hi) == pytest.approx((welch.low, welch.high))
    assert cohort.joint is None
    assert found.residual.did.joint == 0.95
    assert found.residual.did.lo == pytest.approx(welch.low, rel=0.05)  # the same figure twice needs no correction
    assert found.persistent is None
    assert found.placebo is None
    assert len(found.refused) == 2


def test_clusters_add_up_what_their_records_say():
    """Twin: the sandwich by loops; users have trained and control records, so the two means are not independent."""
    outcome, seen, user = training(np.random.default_rng(6), users=25)
    change = outcome[:, 4] - outcome[:, 0]
    seen = np.where(seen == NEVER, NEVER, 2)
    found = profile(outcome[:, [0, 4]], [0, 20], seen, cluster=[f"user {u}" for u in user])
    variance = 0.0
    treated, control = change[seen == 2], change[seen == NEVER]
    k1, k0 = len(set(user[seen == 2])), len(set(user[seen == NEVER]))
    for u in set(user):
        own = sum(change[i] - treated.mean() for i in range(len(user)) if user[i] == u and seen[i] == 2)
        other = sum(change[i] - control.mean() for i in range(len(user)) if user[i] == u and seen[i] == NEVER)
        part = math.sqrt(k1 / (k1 - 1)) * own / len(treated) - math.sqrt(k0 / (k0 - 1)) * other / len(control)
        variance += part**2
    did = found.cohorts[0].after[0].effect.did
    assert did.value == pytest.approx(treated.mean() - control.mean())
    ratio = (did.hi - did.lo) / 2 / math.sqrt(variance)
    assert 1.96 < ratio < 2.2  # Student's t with about 24 degrees of freedom
    assert "clustered by user" in did.method


def test_all_intervals_of_a_table_hold_together():
    """Error rate: at 95 %, 300 simulations may miss 5 % each; a count beyond the 99.9 % point of that fails."""
    rng, misses, cohort_misses, runs = np.random.default_rng(7), 0, 0, 300
    for run in range(runs):
        outcome, seen, _ = training(rng, fade=1.0)
        found = profile(outcome, STEPS, seen, draws=500, seed=run)
        three = (found.instantaneous, found.persistent, found.residual)
        misses += not all(one.did.lo <= 1 <= one.did.hi for one in three)
        effects = [tau.effect.did for cohort in found.cohorts for tau in cohort.after]
        cohort_misses += not all(one.lo <= 1 <= one.hi for one in effects)
    worst = int(binom.ppf(0.999, runs, 0.05))
    assert misses <= worst
    assert cohort_misses <= worst
    assert misses + cohort_misses > 2  # nor are they so wide that they say nothing


def test_clustered_intervals_cover_where_users_rise_alike_and_unclustered_ones_do_not():
    """The same rates; trends that users share make records of a user alike."""
    rng, runs, missed = np.random.default_rng(8), 200, {True: 0, False: 0}
    for run in range(runs):
        outcome, seen, user = training(rng, treated=150, control=150, fade=1.0, users=15, apart=True)
        for clustered in missed:
            found = profile(outcome, STEPS, seen, cluster=user if clustered else None, draws=400, seed=run)
            did = found.residual.did
            missed[clustered] += not did.lo <= 1 <= did.hi
    assert missed[True] <= binom.ppf(0.999, runs, 0.05)
    assert missed[False] > 0.2 * runs


@pytest.mark.parametrize("users", [None, 25])
def test_the_placebo_test_has_its_size_and_its_power(users):
    """Of 300 tests at 5 %, at most the 99.9 % point of the binomial rejects; a leak before treatment is found."""
    rng, runs, rejected = np.random.default_rng(9), 300, 0
    for run in range(runs):
        outcome, seen, user = training(rng, users=users)
        found = profile(outcome, STEPS, seen, draws=400, seed=run, cluster=None if users is None else user)
        rejected += found.placebo.p_value <= 0.05
    assert rejected <= binom.ppf(0.999, runs, 0.05)
    outcome, seen, _ = training(rng, anticipation=0.3)
    found = profile(outcome, STEPS, seen)
    assert found.placebo.p_value < 0.01
    assert found.placebo.mean.hi < 0  # relative to a baseline that has already risen
    assert found.placebo.effects == 3


def test_did_is_narrower_than_the_difference_where_records_differ_in_difficulty():
    outcome, seen, _ = training(np.random.default_rng(10))
    effect = profile(outcome, STEPS, seen).instantaneous
    assert effect.did.hi - effect.did.lo < effect.difference.hi - effect.difference.lo


@given(st.integers(0, 1000), st.floats(-5, 5), st.floats(-2, 2))
def test_what_all_records_share_changes_nothing(seed, shift, trend):
    outcome, seen, _ = training(np.random.default_rng(seed % 7), treated=30, control=12)
    before = profile(outcome, STEPS, seen, draws=50)
    after = profile(outcome + shift + trend * STEPS, STEPS, seen, draws=50)
    assert after.residual.did.value == pytest.approx(before.residual.did.value, abs=1e-9)
    assert after.residual.did.lo == pytest.approx(before.residual.did.lo, abs=1e-9)


def test_small_cohorts_are_joined_and_their_baseline_lies_before_all_of_them():
    seen = np.concatenate([np.full(6, 2), np.full(6, 6), np.full(11, 10), np.full(3, 15), np.full(20, NEVER)])
    outcome = np.random.default_rng(0).normal(size=(len(seen), 5))
    found = profile(outcome, STEPS, seen, draws=100)
    assert [(one.first, one.last, one.records) for one in found.cohorts] == [(2, 6, 12), (10, 15, 14)]
    assert [tau.step for tau in found.cohorts[0].after] == [8, 12, 20]
    assert [(tau.step, tau.event) for tau in found.cohorts[1].before] == [(0, -3), (4, -2)]
    assert [(tau.step, tau.event) for tau in found.cohorts[1].after] == [(20, 0)]


def test_blocks_change_nothing(monkeypatch):
    outcome, seen, _ = training(np.random.default_rng(11))
    whole = profile(outcome, STEPS, seen, draws=300)
    monkeypatch.setattr(contrasts, "CELLS", 1500)
    assert profile(outcome, STEPS, seen, draws=300) == whole


def test_what_cannot_be_told_is_refused():
    outcome, seen, _ = training(np.random.default_rng(12))
    with pytest.raises(BadInput, match="Look before training"):
        profile(outcome, STEPS + 100, seen)
    with pytest.raises(Underpowered, match="9 never trained records"):
        profile(outcome[:69], STEPS, seen[:69])
    with pytest.raises(Underpowered, match="trained records of 5 users"):
        profile(outcome, STEPS, seen, cluster=np.arange(110) % 5)
    with pytest.raises(BadInput, match="do not rise"):
        profile(outcome, STEPS[::-1], seen)
    with pytest.raises(BadInput, match="not finite"):
        profile(np.where(outcome > outcome.max() - 1e-9, np.nan, outcome), STEPS, seen)
    with pytest.raises(BadInput, match="Count steps from 1"):
        profile(outcome, STEPS, np.where(seen == NEVER, 0, seen))
    with pytest.raises(BadInput, match="do not fit"):
        profile(outcome[:, :2], STEPS, seen)


def test_records_without_a_look_before_or_after_are_left_out_and_counted():
    outcome, seen, _ = training(np.random.default_rng(13))
    found = profile(outcome[:, 1:4], STEPS[1:4], seen, draws=50)
    assert found.no_look_before == ((seen != NEVER) & (seen <= 4)).sum()
    assert found.no_look_after == (seen > 12).sum()
    assert found.treated + found.no_look_before + found.no_look_after == 60
