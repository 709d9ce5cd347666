# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from types import ModuleType

import pytest

from reticent.attacks.attack import ATTACKS
from reticent.core.finding import Estimate
from reticent.core.results import Power
from reticent.report.sentences import (
    many,
    names,
    picks,
    pulled_out,
    readable,
    times,
    without_the_model,
    would_have_been_seen,
)

CODE = re.compile(r"\bauc\b|\btpr\b|tpr@|[a-z]_[a-z]|\w:(mean|max|min)\b")
"""What no sentence for people may hold."""


def estimate(value: float, lo: float, hi: float, n: int = 2202) -> Estimate:
    return Estimate(value=value, lo=lo, hi=hi, n=n, method="DeLong")


def test_an_auc_says_what_an_attacker_does_and_then_the_numbers_with_n() -> None:
    said = picks("record", "min_k_plus", estimate(0.974, 0.961, 0.987), found=True)
    assert said == (
        "Shown a record that was trained on and one that was not, an attacker picks the right one 97 times of 100 "
        "(AUC 0.974 [0.961, 0.987], n = 2,202 records; min k plus)."
    )
    said = picks("user", "loss:mean", estimate(0.69, 0.62, 0.76, 367), found=True)
    assert "texts of a user who was trained on and of one who was not" in said
    assert "n = 367 users; loss, mean over a user's texts" in said


def test_what_was_not_found_is_not_said_to_be_done() -> None:
    said = picks("record", "loss", estimate(0.52, 0.45, 0.58), found=False)
    assert "was not seen to do better than a coin" in said
    assert "picks" not in said
    assert "less often than a coin" in picks("record", "loss", estimate(0.3, 0.2, 0.4), found=False)
    assert "than by chance: 12 of 100" in names("user", "loss:max", "tpr@0.1", estimate(0.12, 0.05, 0.2), found=False)


def test_a_true_positive_rate_says_who_is_named_at_how_many_false_alarms() -> None:
    said = names("record", "combination", "tpr@0.01", estimate(0.506, 0.45, 0.562), found=True)
    assert said.startswith(
        "With one false alarm in 100 records that were not trained on, 51 of 100 records that were trained on are named"
    )
    assert "TPR at 1 % FPR: 51 % [45, 56], n = 2,202 records; combination" in said
    assert "one false alarm in 1,000 users who were" in names(
        "user", "loss", "tpr@0.001", estimate(0.004, 0.001, 0.01), found=True
    )


@pytest.mark.parametrize("share", [0.0, 0.0004, 0.004, 0.0996, 0.5, 0.974, 0.9951, 0.99999, 1.0])
def test_shares_in_words_never_round_to_always_or_never(share: float) -> None:
    for said, of in ((times(share), 100), (many(share), 1000 if share < 0.1 else 100)):
        number = int(re.sub(r"\D", "", said.replace("once", "1").split(" of ")[0]))
        if "more than" in said:
            assert share * of > number
        elif "less than" in said:
            assert 0 < share * of < number
        else:
            assert abs(share * of - number) <= 0.5
            assert number < of or share == 1
            assert number > 0 or share == 0


def test_what_would_have_been_seen_is_never_rounded_to_the_smaller_effect() -> None:
    power = Power(level="record", metric="auc", smallest=0.5412, power=0.8, n_member=1104, n_held_out=1098)
    said = would_have_been_seen(power)
    assert "55 times of 100 (AUC 0.542) or more would have been seen in 4 of 5 audits like this" in said
    assert "1,104 records that were trained on and 1,098 not" in said
    rate = Power(level="user", metric="tpr@0.01", smallest=0.081, power=0.8, n_member=20, n_held_out=1000)
    assert "one false alarm in 100 users who were not trained on, an attacker who names 9 of 100" in (
        would_have_been_seen(rate)
    )
    assert "90% of audits" in would_have_been_seen(
        Power(level="record", metric="auc", smallest=0.6, power=0.9, n_member=9, n_held_out=9)
    )


def test_no_sentence_holds_code(sample: ModuleType) -> None:
    one = estimate(0.9, 0.8, 0.95)
    attacks = [*ATTACKS.names(), "combination", "hidden_auditor", *(f"{name}:mean" for name in ATTACKS.names())]
    said = [picks(level, name, one, found=found) for level in ("record", "user", "canary") for name in attacks
            for found in (True, False)]  # fmt: skip
    said += [names("record", name, "tpr@0.1", one, found=found) for name in attacks for found in (True, False)]
    said += [pulled_out(row) for row in sample.extracted().extraction.rows]
    said += [would_have_been_seen(power) for power in sample.leaking().power]
    said.append(without_the_model(one))
    assert not [sentence for sentence in said if CODE.search(sentence)]
    assert all("[" in sentence and "n = " in sentence for sentence in said[: 6 * len(attacks)])


def test_a_name_with_an_unknown_ending_stays_readable() -> None:
    assert readable("my_attack:top_k") == "my attack, top k"
