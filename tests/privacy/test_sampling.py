# SPDX-License-Identifier: Apache-2.0
"""Poisson sampling: pure, fair, independent over steps and units."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, chisquare, kstest

from reticent.core.errors import BadInput
from reticent.privacy.sampling import Piece, PoissonSampler, Population, words

KEY = hashlib.sha256(b"a key for tests").digest()


def sampler(units=200, rate=0.1, steps=400, key=KEY):
    return PoissonSampler(
        units=units,
        rate=rate,
        steps=steps,
        owned=1,
        rows_per_unit=1,
        draw=lambda unit, step: ((Piece(unit, 0, 5),),),
        key=key,
    )


def drawn(sampler):
    """Who was in which step, ``[steps, units]``."""
    table = np.zeros((sampler.steps, sampler.units), dtype=bool)
    for step in range(sampler.steps):
        table[step, sampler.sampled(step)] = True
    return table


def test_a_batch_is_a_function_of_key_and_step():
    """A resumed training asks a new sampler for the later steps only, and must see what it would have seen."""
    one, other = sampler(), sampler()
    straight = [one.batch(step) for step in range(20)]
    assert [other.batch(step) for step in (19, 3, 11)] == [straight[19], straight[3], straight[11]]
    assert straight[3] != straight[4]
    assert sampler(key=bytes(32)).batch(3) != straight[3]


def test_batches_do_not_depend_on_how_many_steps_there_are():
    assert sampler(steps=10).batch(5) == sampler(steps=1000).batch(5)


@pytest.mark.parametrize("rate", [0.003, 0.1, 0.5, 0.97])
def test_each_coin_is_fair(rate):
    """Binomial test on 80,000 coins; fails by chance in one run of a million (but keys are fixed)."""
    table = drawn(sampler(rate=rate))
    assert binomtest(int(table.sum()), table.size, rate).pvalue > 1e-6


def test_every_unit_and_every_step_is_treated_alike():
    """Counts by unit and by step are binomial: Kolmogorov–Smirnov on randomised ranks, one in a million."""
    table = drawn(sampler(rate=0.3))
    for axis in (0, 1):
        counts = table.sum(axis)
        n = table.shape[axis]
        spread = np.random.default_rng(0).random(len(counts))
        rank = binom.cdf(counts - 1, n, 0.3) + spread * binom.pmf(counts, n, 0.3)
        assert kstest(rank, "uniform").pvalue > 1e-6


@pytest.mark.parametrize("axis", [0, 1])
def test_neighbouring_steps_and_neighbouring_units_are_independent(axis):
    """Both in: rate² of the pairs. Binomial test over non-overlapping pairs, one in a million."""
    table = drawn(sampler(rate=0.3))
    first, second = (table[0::2], table[1::2]) if axis == 0 else (table[:, 0::2], table[:, 1::2])
    assert binomtest(int((first & second).sum()), first.size, 0.09).pvalue > 1e-6


def test_full_rate_takes_all_and_a_small_one_may_take_none():
    assert list(sampler(units=7, rate=1.0).sampled(3)) == list(range(7))
    tiny = sampler(units=3, rate=0.01)
    sizes = {len(tiny.batch(step)) for step in range(100)}
    assert 0 in sizes
    assert tiny.batch(next(step for step in range(100) if not tiny.sampled(step).size)) == []


def test_steps_that_are_not_accounted_for_are_refused():
    for step in (-1, 400):
        with pytest.raises(BadInput, match="must be in 0 … 399"):
            sampler().batch(step)


@given(units=st.integers(1, 60), rate=st.floats(1e-6, 1.0), step=st.integers(0, 9))
@settings(deadline=None)
def test_units_rise_and_occur_once(units, rate, step):
    taken = sampler(units=units, rate=rate, steps=10).sampled(step).tolist()
    assert taken == sorted(set(taken))
    assert set(taken) <= set(range(units))


@given(low=st.floats(1e-6, 1.0), high=st.floats(1e-6, 1.0))
@settings(deadline=None)
def test_a_higher_rate_only_adds(low, high):
    low, high = sorted((low, high))
    assert set(sampler(rate=low).sampled(0)) <= set(sampler(rate=high).sampled(0))


def test_the_coin_by_hand():
    """The naive twin: eight bytes of SHAKE-256 for each unit, as a fraction, against the rate."""
    stream = hashlib.shake_256(KEY + b"sample\x007").digest(8 * 200)
    fractions = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") / 2**64 for i in range(200)]
    assert sampler().sampled(7).tolist() == [i for i, fraction in enumerate(fractions) if fraction < 0.1]


def test_words_are_uniform_and_differ_by_purpose():
    """Chi-square of 64,000 bytes, one in a million."""
    stream = words(KEY, "anything", 3, count=8000).view(np.uint8)
    assert chisquare(np.bincount(stream, minlength=256)).pvalue > 1e-6
    assert words(KEY, "a", 1, 23, count=2).tolist() != words(KEY, "a", 12, 3, count=2).tolist()
    assert words(KEY, "a", 1, count=2).tolist() != words(KEY, "b", 1, count=2).tolist()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"key": b"short"}, "a key of 5 bytes"),
        ({"rate": 0.0}, "rate"),
        ({"rate": 1.5}, "rate"),
        ({"units": 0}, "units"),
        ({"steps": 0}, "steps"),
    ],
)
def test_refusals(change, match):
    with pytest.raises(BadInput, match=match):
        sampler(**change)


def test_the_key_does_not_show():
    assert KEY.hex()[:8] not in repr(sampler())
    assert repr(KEY) not in repr(sampler())


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"users": ("a", "b"), "lengths": (1,)}, "one entry for each unit"),
        ({"users": ("a",), "lengths": (0,)}, "no tokens"),
        ({"users": ("a",), "lengths": (3,), "scores": ()}, "one entry for each unit"),
        ({"users": ("a",), "lengths": (3,), "scores": (float("nan"),)}, "finite"),
        ({"users": ("a",), "lengths": (3,), "max_tokens": 0}, "max_tokens"),
    ],
)
def test_populations_that_do_not_fit_are_refused(columns, match):
    with pytest.raises(BadInput, match=match):
        Population(**columns)


def test_records_of_users_keep_their_order():
    population = Population(users=("b", "a", "b", "a", "c"), lengths=(1,) * 5)
    assert population.records_of_users() == {"b": (0, 2), "a": (1, 3), "c": (4,)}
    with pytest.raises(BadInput, match="2 of 3 records"):
        Population(users=(None, "a", None), lengths=(1,) * 3).records_of_users()
