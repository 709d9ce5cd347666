# SPDX-License-Identifier: Apache-2.0
"""Golden values for every extraction attack, and slow twins of the alignment functions."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.attacks.attack import ATTACKS
from reticent.attacks.extraction import Continued, FreeGenerations
from reticent.attacks.extraction.alignment import bleu, edit_distance_to_start, longest_common_run
from reticent.attacks.extraction.overlap import shares_run
from reticent.attacks.extraction.probabilistic_np import chance_within, queries_needed
from reticent.core.errors import BadInput
from reticent.score.generation.forced import TeacherForced


def run(name, *evidence, **params):
    return ATTACKS.get(name).function(*evidence, **params).tolist()


def forced(*ranks, chances=None):
    lengths = [len(row) for row in ranks]
    total = sum(lengths)
    drawn = np.zeros(total) if chances is None else np.log([c for row in chances for c in row])
    return TeacherForced(
        rank=np.array([rank for row in ranks for rank in row], dtype=np.int32),
        logp=drawn,
        sampled_logp=drawn,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
    )


GIVEN = forced([0, 0, 0], [0, 2, 0, 0], [1, 0], [0, 0, 0, 7])


def test_greedy_extraction_needs_every_token_to_be_first():
    assert run("discoverable", GIVEN) == [1, 0, 0, 0]
    assert run("discoverable_half", GIVEN) == [1, 1, 1, 0]
    assert run("discoverable_short", {10: GIVEN}) == [1, 0, 0, 0]
    assert run("prompt_prefix", {"a": GIVEN, "b": forced([1], [0], [0], [3])}) == [1, 1, 1, 0]


def test_strength_counts_from_the_last_mistake():
    assert run("extraction_strength", GIVEN) == [1.0, 0.5, 0.5, 0.0]
    assert run("exact_memorization", GIVEN) == [1.0, 0.75, 0.5, 0.75]


def test_np_extraction_by_hand():
    given_ = forced([0], [0, 0], [0], chances=[[0.5], [0.1, 0.1], [1e-30]])
    assert run("probabilistic_np", given_, n=1, p=0.5) == [1, 0, 0]
    assert run("probabilistic_np", given_, n=69, p=0.5) == [1, 1, 0]  # 1 - 0.99^69 = 0.5002
    assert run("probabilistic_np", given_, n=68, p=0.5) == [1, 0, 0]


@given(st.floats(-60, 0), st.sampled_from([0.1, 0.5, 0.99]))
def test_the_needed_queries_are_the_fewest_that_do(log_chance, p):
    needed = float(queries_needed([log_chance], p)[0])
    slack = 1e-9
    assert chance_within(log_chance, needed) >= p - slack
    if needed > 1:
        assert chance_within(log_chance, needed - 1) < p + slack


def test_a_tiny_chance_is_not_lost():
    assert chance_within(math.log(1e-18), 10**6) == pytest.approx(1e-12)
    assert queries_needed([-np.inf])[0] == np.inf
    assert chance_within(-np.inf, 10**9) == 0
    with pytest.raises(BadInput):
        queries_needed([0.0], p=0)


WRITTEN = Continued(
    secrets=["number 4711", "abcdefghij"],
    texts=[["number 4711, and"], ["abcdefghiX"]],
    secret_tokens=[[1, 2, 3, 4], [5, 6, 7, 8, 9]],
    tokens=[[[1, 2, 3, 4, 9]], [[5, 6, 7, 9, 9]]],
)
NOTHING = Continued(
    secrets=WRITTEN.secrets, texts=[[""], [""]], secret_tokens=WRITTEN.secret_tokens, tokens=[[[]], [[]]]
)


def test_near_verbatim_by_hand():
    assert run("near_verbatim", WRITTEN, NOTHING) == [1, 1]
    assert run("near_verbatim", NOTHING, WRITTEN, off_by=0.05) == [1, 0]
    assert run("longest_common_substring", WRITTEN, NOTHING) == [1.0, 0.9]
    assert run("near_verbatim_bleu", WRITTEN, NOTHING) == [1, 0]
    assert run("near_verbatim_bleu", NOTHING, NOTHING) == [0, 0]


def test_free_texts_are_ranked_and_the_rest_thrown_away():
    drawn = FreeGenerations(
        target_loss=np.array([1.0, 1.0, 3.0, 2.0]),
        base_loss=np.array([1.0, 4.0, 3.0, 4.0]),
        zlib_bytes=np.array([90, 10, 10, 10]),
        copied=np.array([True, True, False, False]),
    )
    np.testing.assert_array_equal(run("untargeted", drawn, keep=0.5), [np.nan, 1, np.nan, 0])
    np.testing.assert_array_equal(run("untargeted_zlib", drawn, keep=0.25), [1, np.nan, np.nan, np.nan])


# ---- slow twins -------------------------------------------------------------------------------------------------


def slow_distance(secret, text):
    @functools.cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        same = secret[i - 1] == text[j - 1]
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (not same))

    return min(distance(len(secret), j) for j in range(len(text) + 1))


def slow_run(a, b):
    return max((len(a[i:j]) for i in range(len(a)) for j in range(i + 1, len(a) + 1) if a[i:j] in b), default=0)


SHORT = st.text("abc", max_size=9)


@given(st.text("abc", min_size=1, max_size=7), SHORT)
def test_edit_distance_is_that_of_the_definition(secret, text):
    assert edit_distance_to_start(secret, text) == slow_distance(secret, text)


@given(SHORT, SHORT)
def test_the_common_run_is_that_of_the_definition(a, b):
    assert longest_common_run(a, b) == slow_run(a, b) == longest_common_run(b, a)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_bleu_is_at_most_one_and_one_only_for_the_same(reference, text):
    score = bleu(reference, text)
    assert 0 <= score <= 1 + 1e-12
    assert bleu(reference, reference) == pytest.approx(1)


def test_bleu_by_hand():
    """Unigrams 3/4, bigrams 2/3, trigrams 1/2 and no 4-gram: 0. Of order 2: sqrt(3/4 · 2/3), no brevity penalty."""
    assert bleu("abcd", "abcx") == 0
    assert bleu("abcd", "abcx", order=2) == pytest.approx(math.sqrt(0.5))
    assert bleu("abcd", "ab", order=1) == pytest.approx(math.exp(1 - 2))
    assert bleu("aab", "aaa", order=1) == pytest.approx(2 / 3)


@given(st.lists(st.text("ab", max_size=8), max_size=4), st.lists(st.text("ab", max_size=8), max_size=4))
def test_shared_runs_are_those_that_reading_finds(texts, corpus):
    def as_ids(words):
        return [np.array([ord(letter) for letter in word], dtype=np.int32) for word in words]

    slow = [any(slow_run(text, other) >= 3 for other in corpus) for text in texts]
    assert shares_run(as_ids(texts), as_ids(corpus), 3).tolist() == slow
