# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import chain, combinations

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.dedup.rules import RULES, deduplicate, named

LETTER = "my parcel with the blue lamp has not come although it was sent two weeks ago from your shop in town"
QUOTE = f"{LETTER} and another thing that I meant to say when I wrote to you before about this very matter"
OTHER = "a " * 3 + " ".join(f"other{i}" for i in range(40))
RECORDS = [
    Record(id="a", text=QUOTE, user="ana"),
    Record(id="b", text=QUOTE, user="bo"),
    Record(id="c", text=LETTER, user="bo"),
    Record(id="d", text=f"{LETTER} thanks", user="bo"),
    Record(id="e", text=f"{OTHER} {QUOTE} {OTHER[::-1]}", user="cy"),
    Record(id="f", text="short", user="cy"),
]


def test_names() -> None:
    assert named(None) == ()
    assert named("near, exact") == ("exact", "near")
    assert named("substring,user") == ("user", "substring")
    for wrong in ("", ",", "exact,fuzzy"):
        with pytest.raises(BadInput, match="Choose some of: exact, user, near, substring"):
            named(wrong)


@pytest.mark.parametrize("rules", chain.from_iterable(combinations(RULES, n) for n in range(5)))
def test_rules_are_applied_one_after_another_and_counted_whether_or_not(rules: tuple[str, ...]) -> None:
    once = deduplicate(RECORDS, rules)
    left = RECORDS
    for name in RULES:
        if name in rules:
            left = RULES[name](left).records
    assert once.records == left
    assert {one.id for one in once.dropped} == {r.id for r in RECORDS} - {r.id for r in left}
    assert {one.kept for one in once.dropped} <= {r.id for r in left}
    assert {one.why.split()[0] for one in once.dropped} <= {*rules, "exact", "near"}
    counted = list(RECORDS)
    for name, rule in RULES.items():
        found = rule(counted)
        assert once.counts[name] == len(found.dropped)
        counted = found.records


def test_without_users_their_rule_is_not_counted() -> None:
    records = [Record(id=str(i), text="x") for i in range(2)]
    assert deduplicate(records, ["exact"]).counts == {"exact": 1, "user": None, "near": 0, "substring": 0}
    with pytest.raises(BadInput, match="no users"):
        deduplicate(records, ["user"])


def test_many_records_go_by_minhash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reticent.data.dedup.rules.MAX_EXACT", 3)
    monkeypatch.setattr("reticent.data.dedup.rules.drop_near_duplicates", None)
    assert len(RULES["near"](RECORDS).dropped) >= 2
