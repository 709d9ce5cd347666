# SPDX-License-Identifier: Apache-2.0
"""Flags of a request: what names nothing is refused before a run is looked at."""

from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.unlearning.request import LONGEST_PATTERN, ForgetRequest


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"forget_users": ""}, "names nothing"),
        ({"forget_users": " \n"}, "names nothing"),
        ({"forget_users": []}, "names nothing"),
        ({"forget_ids": ()}, "names nothing"),
        ({"forget_ids": [1.5]}, "a float"),
        ({"forget_ids": [True]}, "a bool"),
        ({"forget_ids": [None]}, "a NoneType"),
        ({"forget_ids": True}, "a bool"),
        ({"forget_ids": b"r1"}, "a bytes"),
        ({"forget_file": ""}, "names nothing"),
        ({"forget_file": 7}, "is a int and no text"),
        ({"forget_pattern": ""}, "names nothing"),
        ({"forget_pattern": "a" * (LONGEST_PATTERN + 1)}, "must be at most 1,000"),
        ({"forget_pattern": "a" * 10_000_000}, "must be at most 1,000"),
        ({"forget_near": True, "forget_users": "ana"}, "Give --forget_file"),
        ({"forget_text_field": "body", "forget_users": "ana"}, "Give --forget_file"),
        ({"forget_regex": True, "forget_users": "ana"}, "Give --forget_pattern"),
    ],
)
def test_flags_that_name_nothing_are_refused(flags, message):
    with pytest.raises(BadInput) as refused:
        ForgetRequest(**flags)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 300


def test_a_request_for_nothing_is_refused_when_it_is_used():
    with pytest.raises(BadInput, match="at least one of --forget_users, --forget_ids, --forget_file, --forget_patt"):
        ForgetRequest(forget_copies=True).check()


def test_ids_are_texts_whatever_they_were():
    assert ForgetRequest(forget_ids=[7, "007", "r 1"]).forget_ids == ("7", "007", "r 1")
    assert ForgetRequest(forget_ids=7).forget_ids == ("7",)
    assert ForgetRequest(forget_users=Path("who.txt")).forget_users == "who.txt"
    assert ForgetRequest(forget_file=Path("a.jsonl")).forget_file == "a.jsonl"
    assert ForgetRequest(forget_users="ana", forget_pattern="x").selectors == ("forget_users", "forget_pattern")
