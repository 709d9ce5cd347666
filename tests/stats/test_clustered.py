# SPDX-License-Identifier: Apache-2.0
"""The user bootstrap against a resample by concatenation, a closed-form clustered variance, and coverage."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from reticent.core.errors import BadInput, Underpowered
from reticent.stats import clustered
from reticent.stats.clustered import auc_clustered
from reticent.stats.roc import auc, placements


def mailbox(users, records, *, shift, alike, paired, rng):
    """Scores of users whose records share a share ``alike`` of their variance; members by coin."""
    user = np.repeat(np.arange(users), records)
    member = rng.random(len(user)) < 0.5 if paired else (rng.permutation(users) < users // 2)[user]
    score = rng.normal(0, math.sqrt(alike), users)[user] + rng.normal(0, math.sqrt(1 - alike), len(user))
    score = score + shift * member
    return score[member], score[~member], user[member], user[~member]


@pytest.mark.parametrize("paired", [True, False])
def test_resamples_equal_concatenating_the_drawn_users(paired, monkeypatch):
    """Twin: build each resample's arrays and count its AUC, with the same draws, in several blocks."""
    rng = np.random.default_rng(0)
    x, y, xu, yu = mailbox(12, 5, shift=0.5, alike=0.5, paired=paired, rng=rng)
    x, y = np.round(x, 1), np.round(y, 1)  # ties
    x[0] = np.inf
    monkeypatch.setattr(clustered, "CELLS", 500)
    fast = clustered._resampled(x, y, xu, yu, 12, n_boot=40, seed=3)
    block = 500 // len(np.unique(np.concatenate([x, y])))
    draws, slow = np.random.default_rng(3), []
    for start in range(0, 40, block):
        for weights in draws.multinomial(12, np.full(12, 1 / 12), size=min(block, 40 - start)):
            a = np.concatenate([x[xu == u] for u in range(12) for _ in range(weights[u])])
            b = np.concatenate([y[yu == u] for u in range(12) for _ in range(weights[u])])
            if len(a) and len(b):
                slow.append((a[:, None] > b).mean() + (a[:, None] == b).mean() / 2)
    np.testing.assert_allclose(fast, slow, atol=1e-12)


@pytest.mark.parametrize("paired", [True, False])
def test_spread_agrees_with_the_closed_form_clustered_variance(paired):
    """Sum over users of (member part + held-out part)², the sandwich form; 100 bootstrapped users agree to 15 %."""
    rng = np.random.default_rng(1)
    x, y, xu, yu = mailbox(100, 10, shift=0.7, alike=0.4, paired=paired, rng=rng)
    placed = placements(x, y)
    centred = placed.member - placed.member.mean(), placed.held_out - placed.held_out.mean()
    parts = np.bincount(xu, centred[0], 100) / len(x) + np.bincount(yu, centred[1], 100) / len(y)
    closed = math.sqrt((parts**2).sum() * 100 / 99)
    spread = clustered._resampled(x, y, xu, yu, 100, n_boot=2000, seed=0).std(ddof=1)
    assert spread == pytest.approx(closed, rel=0.15)


def test_disjoint_alike_users_widen_the_interval_and_one_record_users_do_not():
    rng = np.random.default_rng(2)
    x, y, xu, yu = mailbox(60, 10, shift=0.5, alike=0.7, paired=False, rng=rng)
    by_user, by_record = auc_clustered(x, y, xu, yu), auc(x, y)
    assert by_user.value == by_record.value
    assert by_user.hi - by_user.lo > 2 * (by_record.hi - by_record.lo)
    alone = auc_clustered(x, y, np.arange(len(x)), 10_000 + np.arange(len(y)))
    assert alone.hi - alone.lo == pytest.approx(by_record.hi - by_record.lo, rel=0.1)


@pytest.mark.parametrize(("paired", "users", "true_auc"), [(True, 12, 0.5), (False, 12, 0.75), (True, 30, 0.75)])
def test_interval_covers(paired, users, true_auc):
    """300 audits, nominal 5 %; a bootstrap of few users is approximate: up to 5 % + four standard errors (5 %)."""
    rng = np.random.default_rng(3)
    shift = norm.ppf(true_auc) * math.sqrt(2)
    outside = 0
    for _ in range(300):
        e = auc_clustered(*mailbox(users, 6, shift=shift, alike=0.4, paired=paired, rng=rng), n_boot=300)
        outside += not e.lo <= true_auc <= e.hi
    assert 0.005 < outside / 300 < 0.10


def by_closed_form(monkeypatch, users=1):
    monkeypatch.setattr(clustered, "CLOSED_FORM", 0)
    monkeypatch.setattr(clustered, "CLOSED_FORM_USERS", users)


def naive_error(x, y, xu, yu):
    """Obuchowski's variance as it is written: sums over users of the sums over all pairs."""
    wins = (x[:, None] > y).astype(float) + (x[:, None] == y) / 2
    area, users = wins.mean(), np.unique(np.concatenate([xu, yu]))
    of_x = {u: sum(wins[i].mean() - area for i in np.flatnonzero(xu == u)) for u in users}
    of_y = {u: sum(wins[:, j].mean() - area for j in np.flatnonzero(yu == u)) for u in users}
    (m, n), (in_x, in_y), k = (len(x), len(y)), (len(set(xu)), len(set(yu))), len(users)
    s10 = in_x / ((in_x - 1) * m) * sum(v**2 for v in of_x.values())
    s01 = in_y / ((in_y - 1) * n) * sum(v**2 for v in of_y.values())
    s11 = k / (k - 1) * sum(of_x[u] * of_y[u] for u in users)
    return math.sqrt(s10 / m + s01 / n + 2 * s11 / (m * n))


@pytest.mark.parametrize("paired", [True, False])
def test_closed_form_is_the_formula(paired):
    x, y, xu, yu = mailbox(12, 5, shift=0.5, alike=0.5, paired=paired, rng=np.random.default_rng(5))
    x, y = np.round(x, 1), np.round(y, 1)
    assert clustered.obuchowski_error(placements(x, y), xu, yu, 12) == pytest.approx(naive_error(x, y, xu, yu))


@pytest.mark.parametrize("paired", [True, False])
def test_closed_form_agrees_with_resamples(paired, monkeypatch):
    """1500 users; 1000 resamples have a standard error of 2.2 %."""
    given = mailbox(1500, 3, shift=0.5, alike=0.5, paired=paired, rng=np.random.default_rng(6))
    resampled = auc_clustered(*given, n_boot=1000)
    by_closed_form(monkeypatch)
    closed = auc_clustered(*given)
    assert closed.value == resampled.value
    assert closed.hi - closed.lo == pytest.approx(resampled.hi - resampled.lo, rel=0.08)
    assert closed.method == "Obuchowski's clustered variance of 1500 users, logit scale, Student t"
    assert resampled.method == "bootstrap of 1500 users, logit scale, Student t"


def test_closed_form_of_users_with_one_record_is_that_of_records(monkeypatch):
    rng = np.random.default_rng(7)
    x, y = rng.normal(0.5, 1, 300), rng.normal(0, 1, 200)
    by_closed_form(monkeypatch)
    by_user, by_record = auc_clustered(x, y, np.arange(300), 1000 + np.arange(200)), auc(x, y)
    assert (by_user.lo, by_user.hi) == pytest.approx((by_record.lo, by_record.hi))


@pytest.mark.parametrize(("paired", "true_auc"), [(True, 0.5), (False, 0.75)])
def test_closed_form_covers(paired, true_auc, monkeypatch):
    by_closed_form(monkeypatch)
    rng = np.random.default_rng(8)
    shift = norm.ppf(true_auc) * math.sqrt(2)
    outside = 0
    for _ in range(400):
        e = auc_clustered(*mailbox(60, 4, shift=shift, alike=0.4, paired=paired, rng=rng))
        outside += not e.lo <= true_auc <= e.hi
    assert 0.01 < outside / 400 < 0.09


def test_closed_form_is_for_many_records_of_many_users(monkeypatch):
    by_closed_form(monkeypatch, users=50)
    rng = np.random.default_rng(9)
    few, many = (mailbox(users, 3, shift=0.5, alike=0.5, paired=True, rng=rng) for users in (40, 60))
    assert auc_clustered(*few, n_boot=50).method.startswith("bootstrap")
    assert auc_clustered(*many, n_boot=50).method.startswith("Obuchowski")
    monkeypatch.setattr(clustered, "CLOSED_FORM", 181)
    assert auc_clustered(*many, n_boot=50).method.startswith("bootstrap")


def test_closed_form_without_spread_counts_users(monkeypatch):
    user = np.repeat(np.arange(8), 50)
    resampled = auc_clustered(np.arange(400) + 1000, np.arange(400), user, user)
    by_closed_form(monkeypatch)
    assert auc_clustered(np.arange(400) + 1000, np.arange(400), user, user) == resampled


def test_same_seed_same_interval_and_names_may_be_strings():
    rng = np.random.default_rng(4)
    x, y, xu, yu = mailbox(20, 4, shift=0.5, alike=0.3, paired=True, rng=rng)
    e = auc_clustered(x, y, xu, yu, seed=7)
    assert auc_clustered(x, y, [f"u{u:02d}" for u in xu], [f"u{u:02d}" for u in yu], seed=7) == e
    assert auc_clustered(x, y, xu, yu, seed=8) != e


def test_perfect_separation_counts_users_not_records():
    user = np.repeat(np.arange(8), 50)
    e = auc_clustered(np.arange(400) + 1000, np.arange(400), user, user)
    assert (e.value, e.hi) == (1.0, 1.0)
    assert e.lo == pytest.approx(0.025 ** (1 / 4))  # 4 disjoint pairs of 8 users


def test_refusals():
    with pytest.raises(Underpowered):
        auc_clustered([1, 2, 3], [0, 1, 2], [0, 0, 0], [1, 2, 3])
    with pytest.raises(BadInput):
        auc_clustered([1, 2, 3], [0, 1, 2], [0, 1], [1, 2, 3])
    with pytest.raises(BadInput):
        auc_clustered([1, np.nan, 3], [0, 1, 2], [0, 1, 2], [1, 2, 3])
