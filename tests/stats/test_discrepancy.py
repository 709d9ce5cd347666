# SPDX-License-Identifier: Apache-2.0
"""The polytope against closed forms, a search over all half-lines, and labels that mean nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.discrepancy import Polytope, _advantage, _best_level, _normal_scores, discrepancy, fit_polytope


def two(n, seed, *, gap=0.0, spread=1.0, width=1):
    """Members ``N(gap, 1)``, held-out ``N(0, spread²)``, in the first of ``width`` columns; the others are noise."""
    rng = np.random.default_rng(seed)
    member, held_out = rng.normal(size=(n, width)), rng.normal(size=(n, width))
    member[:, 0] += gap
    held_out[:, 0] *= spread
    return member, held_out


@pytest.mark.parametrize("gap", [0.5, 1.0, 2.0])
def test_two_gaussians_have_the_advantage_of_the_best_half_space(gap):
    """``2Φ(d/2) - 1``; half of 4,000 units a side measure it with a standard error of at most 0.016."""
    best = 2 * norm.cdf(gap / 2) - 1
    found = discrepancy(*two(4000, 0, gap=gap), facets=(1,))
    assert found.advantage.value == pytest.approx(best, abs=0.05)
    assert found.advantage.lo < best
    assert abs(found.control.value) < 0.08


def test_a_difference_of_spread_needs_two_facets():
    """Standard deviations 1 and 2: the best interval is ``|z| ≤ a`` with ``a² = 2 ln 2 / (1 - 1/4)``."""
    a = np.sqrt(2 * np.log(2) / (1 - 1 / 4))
    best = (2 * norm.cdf(a) - 1) - (2 * norm.cdf(a / 2) - 1)
    member, held_out = two(3000, 1, spread=2.0, width=2)
    one, pair = (discrepancy(member, held_out, facets=(k,)) for k in (1, 2))
    assert pair.advantage.value == pytest.approx(best, abs=0.05)
    assert one.advantage.hi < pair.advantage.lo
    chosen = discrepancy(member, held_out)
    assert chosen.facets > 1
    assert chosen.inside == "member"
    assert discrepancy(held_out, member).inside == "held_out"


def test_nothing_to_find_is_seldom_found():
    """Members and held-out from one Gaussian in five dimensions, users with a style of their own, 25 times at 90 %.

    The interval may miss 0 in 10 % of them: more than 6 of 25 has probability < 0.01.
    """
    missed, values = 0, []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        user = np.repeat(np.arange(40), 5)
        z = 2 * rng.normal(size=(40, 5))[user] + rng.normal(size=(200, 5))
        member = rng.random(200) < 0.5
        found = discrepancy(
            z[member],
            z[~member],
            member_cluster=user[member],
            held_out_cluster=user[~member],
            confidence=0.9,
            seed=seed,
            facets=(1, 4),
        )
        missed += not found.advantage.lo <= 0 <= found.advantage.hi
        values.append(found.advantage.value)
        assert found.control.lo <= 0
    assert missed <= 6
    assert abs(np.mean(values)) < 0.06


def test_only_ranks_matter_and_the_same_comes_out_again():
    member, held_out = two(200, 0, gap=1.0, width=3)
    first = discrepancy(member, held_out)
    assert first == discrepancy(member, held_out)
    stretched = [np.column_stack([np.exp(side[:, 0]), side[:, 1:]]) for side in (member, held_out)]
    assert discrepancy(*stretched) == first


def test_users_stay_in_one_half_so_that_a_style_is_no_membership():
    """Every user's units are equal and users are all in or all out, without a signal, 12 times at 95 %.

    A polytope that saw a user knows the user's other units, so whoever overlooks users finds "members". With users
    more than 3 of 12 has probability < 0.01.
    """
    found = {"with users": 0, "without": 0}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        user = np.repeat(np.arange(60), 6)
        z, member = rng.normal(size=(60, 2))[user], (np.arange(60) < 30)[user]
        owners = {"member_cluster": user[member], "held_out_cluster": user[~member]}
        for name, options in {"with users": owners, "without": {}}.items():
            found[name] += discrepancy(z[member], z[~member], facets=(4,), seed=seed, **options).advantage.lo > 0
    assert found["with users"] <= 3
    assert found["without"] >= 6


def test_the_polytope_is_the_formula():
    rng = np.random.default_rng(0)
    shape = Polytope(weight=rng.normal(size=(3, 2)), bias=rng.normal(size=3))
    z = rng.normal(size=(20, 2))
    slow = [all(float(w @ point) + b <= 0 for w, b in zip(shape.weight, shape.bias, strict=True)) for point in z]
    np.testing.assert_array_equal(shape.holds(z), slow)


def test_the_level_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        inside, outside = np.round(rng.normal(size=(2, 15)), 1)
        level = _best_level(inside, outside)
        gain = [(inside <= at).mean() - (outside <= at).mean() for at in np.arange(-4, 4, 0.05)]
        assert (inside <= level).mean() - (outside <= level).mean() >= max(gain) - 1e-12


def test_a_fit_separates_a_square():
    rng = np.random.default_rng(0)
    z = rng.uniform(-2, 2, size=(1500, 2))
    within = np.abs(z).max(axis=1) < 1
    found = fit_polytope(z[within], z[~within], facets=8, seed=0).holds(z)
    assert (found == within).mean() > 0.93


def test_normal_scores_of_ranks():
    known = np.array([[1.0], [2.0], [2.0], [9.0]])
    np.testing.assert_allclose(
        _normal_scores(known, np.array([[1.0], [2.0], [50.0], [-50.0]]))[:, 0], norm.ppf([0.2, 0.5, 0.9, 0.1])
    )


def test_the_interval_is_newcombes_square_and_add():
    """56/70 against 48/80 with Clopper-Pearson ends (0.6873, 0.8866) and (0.4842, 0.7082)."""
    caught = np.concatenate([np.arange(70) < 56, np.arange(80) < 48])
    found = _advantage(caught, np.arange(150) < 70, None, 0.95)
    assert found.value == pytest.approx(0.2)
    assert found.lo == pytest.approx(0.2 - np.hypot(0.8 - 0.68734, 0.70820 - 0.6), abs=2e-3)
    assert found.hi == pytest.approx(0.2 + np.hypot(0.88660 - 0.8, 0.6 - 0.48420), abs=2e-3)


def test_of_many_units_some_are_drawn_to_fit_and_all_are_measured(monkeypatch):
    member, held_out = two(400, 0, gap=1.5, width=3)
    whole = discrepancy(member, held_out, facets=(1,))
    assert (whole.fitted, whole.of) == (400, 400)
    monkeypatch.setattr("reticent.stats.discrepancy.FIT_ROWS", 100)
    some = discrepancy(member, held_out, facets=(1,))
    assert (some.fitted, some.of) == (100, 400)
    assert some.advantage.n == whole.advantage.n == 400
    assert some.advantage.value == pytest.approx(whole.advantage.value, abs=0.1)
    assert some == discrepancy(member, held_out, facets=(1,))
    assert some.advantage != discrepancy(member, held_out, facets=(1,), seed=1).advantage


def test_refusals():
    member, held_out = two(100, 0, width=2)
    with pytest.raises(BadInput, match="same attacks"):
        discrepancy(member, held_out[:, :1])
    with pytest.raises(BadInput, match="NaN"):
        discrepancy(np.where(member > 2, np.nan, member), held_out)
    with pytest.raises(BadInput, match="Give both"):
        discrepancy(member, held_out, member_cluster=np.arange(100))
    with pytest.raises(Underpowered, match="one half"):
        discrepancy(member[:15], held_out)
    with pytest.raises(Underpowered, match="users"):
        discrepancy(member, held_out, member_cluster=np.arange(100) % 12, held_out_cluster=np.arange(100))
