# SPDX-License-Identifier: Apache-2.0
"""Coverage of a text by what a model wrote, against a loop over all stretches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.attacks.attack import ATTACKS, attack
from reticent.attacks.continuations import Continuations
from reticent.attacks.membership.ngram_coverage import LONGEST, coverage, covered, edge_cases, ngram_coverage, words
from reticent.attacks.run import run_whole
from reticent.core.errors import BadInput

WORDS = st.lists(st.sampled_from("abc"), max_size=9)


def naive(rest, written, n):
    """Every stretch of every length from n on, looked for in the text at every place."""
    inside = set()
    for length in range(n, len(rest) + 1):
        for i in range(len(rest) - length + 1):
            if any(rest[i : i + length] == written[j : j + length] for j in range(len(written) - length + 1)):
                inside |= set(range(i, i + length))
    return len(inside) / len(rest) if rest else 0.0


@settings(max_examples=200, deadline=None)
@given(WORDS, WORDS, st.integers(1, 4))
def test_equals_a_loop_over_all_stretches(rest, written, n):
    assert coverage(rest, written, n) == pytest.approx(naive(rest, written, n))


def test_golden_by_hand():
    """True rest of four words; the samples hold three of them in a row, and none."""
    mine = Continuations(rest=["one two three four"], texts=[("five one two three", "six")])
    base = Continuations(rest=["one two three four"], texts=[("four", "four six")])
    of_target = (0.75 + 0.75 + 0.75 + 0.0) / 4 / 2  # n = 1, 2, 3, 4; the second sample has nothing
    of_base = 0.25 / 4
    np.testing.assert_allclose(ngram_coverage(mine, base), [of_target - of_base])


def test_words_of_scripts_with_and_without_blanks():
    assert words("The cat's 3rd — très BON!") == ["the", "cat", "s", "3rd", "très", "bon"]
    assert words("我住在巴黎 ok") == ["我", "住", "在", "巴", "黎", "ok"]
    assert words("สวัสดี") == list("สวัสดี")
    assert words(" .,!? ") == []


def test_a_rest_of_few_words_is_compared_by_characters():
    code = "9f86d081884c7d65"
    assert covered(code, [code], LONGEST) == 1.0
    assert covered(code, ["9f86d081 and then something else"], LONGEST) == 0.25  # half, for n = 4 and 8 of 4 to 16
    assert covered(code, ["zzzz"], LONGEST) == 0.0


def test_nothing_to_compare_is_nothing_known_and_is_counted():
    mine = Continuations(rest=["", "ab"], texts=[(), ("xy",)])
    np.testing.assert_array_equal(ngram_coverage(mine, mine), [0.0, 0.0])
    assert list(edge_cases(mine, mine).values()) == [1, 1]
    outcome = run_whole([ATTACKS.get("ngram_coverage")], {"written": mine, "written_ref": mine})
    assert outcome.notes["ngram_coverage"][0].endswith("1 of 2 rows")


@pytest.mark.parametrize("odd", ["\ud800", "\x00" * 9, "🙂🙂🙂🙂🙂", "a" * 5000])
def test_odd_texts_have_a_coverage_between_0_and_1(odd):
    assert 0.0 <= covered(odd, [odd, ""], LONGEST) <= 1.0


def test_an_attack_reads_tables_or_what_is_written_and_is_told_so():
    with pytest.raises(TypeError, match="one source"):

        @attack("both", unit="record", returns="score", access="text", paper="arXiv:2508.09603")
        def both(table, written):
            """Both."""

    with pytest.raises(BadInput, match="longest"):
        ngram_coverage(*[Continuations(rest=[], texts=[])] * 2, longest=0)
    with pytest.raises(ValueError, match="continuations"):
        Continuations(rest=["a"], texts=[])
