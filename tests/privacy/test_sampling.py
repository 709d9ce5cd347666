# SPDX-License-Identifier: Apache-2.0
"""Poisson sampling: pure, fair, independent over steps and units."""

import hashlib
import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, chi2, chisquare, geom, kstest

from reticent.core.errors import BadInput
from reticent.privacy import sampling
from reticent.privacy.sampling import CHUNK, PoissonSampler, Population, TokenRange, exponentials, words

KEY, OTHER = (hashlib.sha256(name).digest() for name in (b"a key for tests", b"another"))


def sampler(units=200, rate=0.1, steps=400, key=KEY):
    return PoissonSampler(
        units=units,
        rate=rate,
        steps=steps,
        owned=1,
        rows_per_unit=1,
        draw=lambda unit, step: ((TokenRange(unit, 0, 5),),),
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
    assert sampler(key=OTHER).batch(3) != straight[3]


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


def by_hand(key, step, units, rate):
    """The obvious twin: one word after the other, as the definition in the module reads."""
    stream = (word for chunk in itertools.count() for word in words(key, "sample", step, chunk, count=512).tolist())
    found, place = [], -1
    for word in stream:
        tail = (min(word, 2**64 - 1 - word) + 0.5) / 2**64
        long = -math.log(tail) if word < 2**63 else -math.log1p(-tail)
        place += 1 + math.floor(long / -math.log1p(-rate))
        if place >= units:
            return found
        found.append(place)


@pytest.mark.parametrize(
    ("units", "rate"),
    [(200, 0.1), (1, 0.5), (3000, 0.3), (2000, 0.97), (1500, 1 - 2**-53), (10**6, 1e-3), (10**15, 1e-12), (5, 1e-300)],
)
def test_skips_are_the_loop_over_words(units, rate):
    """Also over more words than are read at a time."""
    for step in range(3):
        found = sampler(units=units, rate=rate).sampled(step)
        assert found.dtype == np.int64
        assert found.tolist() == by_hand(KEY, step, units, rate)


def test_words_are_read_in_chunks_of_a_fixed_size():
    """Part of the definition that an independent redraw goes by."""
    assert CHUNK == 512


def test_exponentials_are_precise_at_both_ends():
    """Against 40 digits, from the shortest to the longest, and around the middle where the formula changes."""
    chosen = [0, 1, 2, 1000, 2**40, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2**20, 2**64 - 3, 2**64 - 2, 2**64 - 1]
    found = exponentials(np.array(chosen, dtype=np.uint64))
    with mpmath.workdps(40):
        wanted = [float(-mpmath.log((mpmath.mpf(word) + 0.5) / mpmath.mpf(2) ** 64)) for word in chosen]
    assert np.allclose(found, wanted, rtol=4e-16, atol=0)
    assert 0 < found.min() < 3e-20
    assert found.max() < 46


@pytest.mark.parametrize("rate", [1e-4, 0.02, 0.4, 0.9])
def test_gaps_are_geometric(rate):
    """Over 30,000 to 200,000 words: chi-square in ten classes of equal chance or more, one in a million."""
    gaps = np.floor(exponentials(words(KEY, "gaps", str(rate), count=100_000)) / -math.log1p(-rate))
    edges = np.unique(geom.ppf(np.linspace(0, 1, 11)[1:-1], rate, loc=-1))
    chance = np.diff(np.concatenate([[0], geom.cdf(edges, rate, loc=-1), [1]]))
    found = np.bincount(np.searchsorted(edges, gaps, side="left"), minlength=len(chance))
    kept = chance > 0
    assert chisquare(found[kept], chance[kept] * len(gaps)).pvalue > 1e-6


def test_the_first_and_the_last_unit_are_drawn_as_often_as_others():
    """A walk over gaps is wrong at its ends first. Binomial, 20,000 steps, one in a million each."""
    one = sampler(units=40, rate=0.15, steps=20_000)
    times = drawn(one).sum(0)
    for unit in (0, 1, 20, 38, 39):
        assert binomtest(int(times[unit]), 20_000, 0.15).pvalue > 1e-6


def test_all_pairs_of_units_are_independent():
    """20 units, 20,000 steps: the counts of all 190 pairs against rate², chi-square with the covariance of Binomials
    near enough to its own for 190 pairs, one in a million; and each pair by itself at 5 standard errors."""
    table = drawn(sampler(units=20, rate=0.3, steps=20_000)).astype(float)
    together = (table.T @ table)[np.triu_indices(20, 1)]
    spread = math.sqrt(20_000 * 0.09 * 0.91)
    assert np.abs(together - 20_000 * 0.09).max() < 5.5 * spread
    centred = ((table - 0.3).T @ (table - 0.3))[np.triu_indices(20, 1)] / (0.3 * 0.7 * math.sqrt(20_000))
    assert chi2.sf(float((centred**2).sum()), 190) > 1e-6


def test_steps_share_no_words():
    """Overlap of the batches of any two of 60 steps is Binomial: 1,770 pairs at 6 standard errors, 4 in a million."""
    table = drawn(sampler(units=2000, rate=0.1, steps=60)).astype(float)
    overlap = (table @ table.T)[np.triu_indices(60, 1)]
    assert np.abs(overlap - 20).max() < 6 * math.sqrt(2000 * 0.01 * 0.99)


def test_a_draw_takes_the_time_of_the_batch(monkeypatch):
    """A thousand million units: what is read of the stream follows the batch."""
    read = []
    monkeypatch.setattr(sampling, "words", lambda *given, count: read.append(count) or words(*given, count=count))
    found = sampler(units=10**9, rate=1e-6).sampled(0)
    assert 800 < len(found) < 1200
    assert sum(read) <= len(found) + 1 + CHUNK


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


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),
        b"\xff" * 32,
        b"k" * 32,
        b"ab" * 16,
        b"0123456789abcdef" * 2,
        b"abc" * 10 + b"ab",
        bytes(24) + b"password",
    ],
)
def test_keys_that_can_be_guessed_are_refused(key):
    with pytest.raises(BadInput, match="pattern that can be guessed"):
        sampler(key=key)


def test_random_keys_pass():
    for name in range(2000):
        sampling.check_key(hashlib.sha256(b"%d" % name).digest())


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


def test_fingerprints_tell_populations_apart():
    usual = {"users": ("ab", "c", None), "lengths": (3, 4, 5), "scores": (1.0, 2.0, 3.0), "max_tokens": 9}
    changes = [
        {},
        {"users": ("xy", "c", None)},
        {"users": ("a", "bc", None)},
        {"users": (None, "ab", "c")},
        {"users": ("ab", "c", "")},
        {"users": ("ab", "c", "None")},
        {"lengths": (3, 4, 6)},
        {"lengths": (4, 3, 5)},
        {"scores": None},
        {"scores": (1.0, 2.0, 3.0 + 1e-12)},
        {"max_tokens": None},
        {"contents": bytes(32)},
        {"contents": b""},
        {"contents": b"1" * 32},
    ]
    found = [Population(**usual | change).fingerprint for change in changes]
    assert len(set(found)) == len(changes)
    assert Population(**usual).fingerprint == found[0]


def test_records_of_users_keep_their_order():
    population = Population(users=("b", "a", "b", "a", "c"), lengths=(1,) * 5)
    assert population.records_of_users() == {"b": (0, 2), "a": (1, 3), "c": (4,)}
    with pytest.raises(BadInput, match="2 of 3 records"):
        Population(users=(None, "a", None), lengths=(1,) * 3).records_of_users()
