# SPDX-License-Identifier: Apache-2.0
"""Selection rules against naive twins, and that no rule looks at other users."""

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from reticent.core.errors import BadInput
from reticent.privacy.sampling import Population, TokenRange
from reticent.privacy.selection import check_rule, draw_chunks, draw_records, keep, whole

KEY = hashlib.sha256(b"a key for tests").digest()
FIXED = ("longest", "shortest", "low_perplexity", "high_perplexity")


def one_user(lengths, scores=None, max_tokens=None):
    count = len(lengths)
    return Population(users=("u",) * count, lengths=tuple(lengths), scores=scores, max_tokens=max_tokens)


@st.composite
def scored(draw):
    """One user's records with ties in lengths and scores."""
    count = draw(st.integers(1, 12))
    lengths = draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))
    scores = draw(st.lists(st.integers(1, 4).map(float), min_size=count, max_size=count))
    return one_user(lengths, scores=tuple(scores))


@given(population=scored(), rule=st.sampled_from(FIXED), cap=st.integers(1, 14))
@settings(deadline=None)
def test_fixed_rules_equal_taking_the_best_again_and_again(population, rule, cap):
    worth = {
        "longest": lambda record: population.lengths[record],
        "shortest": lambda record: -population.lengths[record],
        "low_perplexity": lambda record: -population.scores[record],
        "high_perplexity": lambda record: population.scores[record],
    }[rule]
    left, taken = list(range(len(population))), []
    while left and len(taken) < cap:
        best = left[0]
        for record in left:
            if worth(record) > worth(best):
                best = record
        left.remove(best)
        taken.append(best)
    assert keep(population, tuple(range(len(population))), rule=rule, cap=cap, key=KEY) == tuple(sorted(taken))


def test_random_keeping_is_fixed_by_the_key_and_fair_over_keys():
    """Each of 6 records is among the 2 kept a third of the time; chi-square over 1,500 keys, one in a million."""
    population, records = one_user([3] * 6), tuple(range(6))
    counts = Counter()
    for number in range(1500):
        key = hashlib.sha256(str(number).encode()).digest()
        kept = keep(population, records, rule="random", cap=2, key=key)
        assert kept == keep(population, records, rule="random", cap=2, key=key)
        assert len(set(kept)) == 2
        counts.update(kept)
    # A negative correlation between records of one draw makes the statistic smaller, not larger.
    assert chisquare([counts[record] for record in records]).pvalue > 1e-6


@given(rule=st.sampled_from(("random", *FIXED)), others=st.integers(0, 5), cap=st.integers(1, 3))
@settings(deadline=None)
def test_other_users_change_nothing(rule, others, cap):
    """What makes adding a user a change in one user's records only."""
    own = (4, 2, 9, 4)
    alone = Population(users=("u",) * 4, lengths=own, scores=tuple(map(float, own)))
    among = Population(
        users=("x",) * others + ("u",) * 4,
        lengths=(100,) * others + own,
        scores=(0.5,) * others + tuple(map(float, own)),
    )
    kept = keep(among, tuple(range(others, others + 4)), rule=rule, cap=cap, key=KEY)
    assert tuple(record - others for record in kept) == keep(alone, (0, 1, 2, 3), rule=rule, cap=cap, key=KEY)


def test_drawing_records_is_afresh_each_time_without_repeats_and_fair():
    """Each of 7 records in 3 of 7 of the draws; chi-square over 2,000 steps, one in a million."""
    population, records, counts = one_user([5] * 7), tuple(range(7)), Counter()
    draws = [draw_records(population, records, count=3, key=KEY, at=(0, step)) for step in range(2000)]
    for unit in draws:
        taken = [row[0].record for row in unit]
        assert len(set(taken)) == 3
        assert unit == tuple(whole(population, record) for record in taken)
        counts.update(taken)
    assert len(set(draws)) == 35
    assert chisquare([counts[record] for record in records]).pvalue > 1e-6
    assert draws[5] == draw_records(population, records, count=3, key=KEY, at=(0, 5))


def test_users_with_few_records_give_all():
    population = one_user([5, 6])
    assert draw_records(population, (0, 1), count=4, key=KEY, at=(0, 0)) == (
        (TokenRange(0, 0, 5),),
        (TokenRange(1, 0, 6),),
    )


def tokens(row):
    return [(piece.record, position) for piece in row for position in range(piece.start, piece.stop)]


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    chunk=st.integers(1, 20),
    count=st.integers(1, 4),
    step=st.integers(0, 50),
)
@settings(deadline=None)
def test_chunks_are_runs_of_the_ring_of_all_texts(lengths, chunk, count, step):
    population = one_user(lengths, max_tokens=chunk)
    ring = [(record, position) for record, length in enumerate(lengths) for position in range(length)]
    unit = draw_chunks(population, tuple(range(len(lengths))), count=count, key=KEY, at=(0, step))
    if len(ring) <= chunk:
        assert [tokens(row) for row in unit] == [ring]
        return
    assert len(unit) == min(count, -(-len(ring) // chunk))
    for row in unit:
        start = ring.index(tokens(row)[0])
        assert tokens(row) == (ring + ring)[start : start + chunk]
        assert all(0 <= piece.start < piece.stop <= lengths[piece.record] for piece in row)


def test_every_token_is_drawn_equally_often():
    """Chi-square of the chunks' starts over 24 tokens and 4,000 draws, one in a million."""
    population = one_user([10, 3, 11], max_tokens=6)
    starts, seen = Counter(), Counter()
    for step in range(2000):
        for row in draw_chunks(population, (0, 1, 2), count=2, key=KEY, at=(0, step)):
            starts[tokens(row)[0]] += 1
            seen.update(tokens(row))
    assert len(starts) == 24
    assert chisquare(list(starts.values())).pvalue > 1e-6
    assert np.ptp(list(seen.values())) < 0.2 * np.mean(list(seen.values()))


def test_chunks_of_a_unit_and_of_steps_differ():
    population = one_user([1000], max_tokens=5)
    rows = [row for step in range(5) for row in draw_chunks(population, (0,), count=3, key=KEY, at=(0, step))]
    assert len(set(rows)) > 10
    assert draw_chunks(population, (0,), count=3, key=KEY, at=(0, 1)) != draw_chunks(
        population, (0,), count=3, key=KEY, at=(1, 1)
    )


def test_rules_that_lack_their_data_are_refused():
    bare = one_user([3, 4])
    for rule in ("low_perplexity", "high_perplexity"):
        with pytest.raises(BadInput, match="perplexity of each record"):
            check_rule(bare, rule)
        with pytest.raises(BadInput, match="perplexity of each record"):
            keep(bare, (0, 1), rule=rule, cap=1, key=KEY)
    with pytest.raises(BadInput, match="does not tell its context"):
        draw_chunks(bare, (0, 1), count=1, key=KEY, at=(0, 0))
    check_rule(replace(bare, max_tokens=8, scores=(1.0, 2.0)), "random_chunk")
