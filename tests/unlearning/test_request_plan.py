# SPDX-License-Identifier: Apache-2.0
"""The description of a request: right numbers, and no text."""

import pytest

from reticent.core.record import Record
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.request_file import read_request, write_request
from reticent.unlearning.request_plan import plan_request


def test_lines(shop):
    plan = plan_request(shop, ForgetRequest(forget_users="ana", forget_pattern="BW-77"))
    lines = plan.describe(margin=lambda n, m: 0.1 * n + 0.01 * m, tokens=len, training_seconds=600)
    text = "\n".join(lines)
    length = sum(len(record.trained_text) for record in plan.forget.records)
    assert lines[0] == f"to be forgotten: 3 of 6 trained rows (2 by user, 1 by pattern), {length} tokens"
    assert "users: 2, of them 1 with all" in text
    assert "never trained on, so not forgotten: 1 ('a3')" in text
    assert "retained: 3 rows" in text
    assert "copies: 1 other trained rows (1 repeat most of one): they stay" in text
    assert "never-trained rows to compare with: 2 (same source)" in text
    assert "halves: all rows judge; only 3 rows" in text
    assert "2 against 2 users can show: AUC 0.5 ± 0.22" in text
    assert lines[-1] == "training again without them: 50% of the steps of the first training, about 5.0 min"
    assert "parcel" not in text
    assert "BW-77" not in text
    assert "words" in plan.describe()[0]


def test_lines_of_a_chain_and_of_a_run_without_coins(shop, unlearned, tuned, letters):
    child = unlearned(shop, shop, ["b1"], name="without")
    text = "\n".join(
        plan_request(child, ForgetRequest(forget_users="bo", forget_ids="a1", forget_copies=True)).describe()
    )
    assert "earlier requests: 1" in text
    assert "forgotten by earlier requests: 1 ('b1')" in text
    assert "forgotten too" in text
    given_run = tuned(letters, ["a1", "b1"], unit="given", name="given")
    text = "\n".join(plan_request(given_run, ForgetRequest(forget_ids="a1")).describe(margin=lambda n, m: 0.1))
    assert "verification: none; the membership was given" in text
    assert "margin" not in text


def test_rows_for_the_file(tuned, tmp_path):
    records = [Record(id=f"{user}.{n}", text=f"{user} {n}", user=f"u{user}") for user in range(10) for n in range(20)]
    run = tuned(records, [record.id for record in records if int(record.id.split(".")[1]) < 10])
    plan = plan_request(run, ForgetRequest(forget_users=[f"u{n}" for n in range(6)]), seed=3)
    write_request(tmp_path / "request.parquet", plan.rows)
    rows = read_request(tmp_path / "request.parquet")
    assert [row.record_id for row in rows] == [f"{user}.{n}" for user in range(6) for n in range(10)]
    assert {row.reason for row in rows} == {"user"}
    assert [row.part for row in rows].count("steer") == 30
    assert plan.unseen.basis == "same users"
    assert plan.rows == plan_request(run, ForgetRequest(forget_users=[f"u{n}" for n in range(6)]), seed=3).rows
    record = plan.on_record
    assert record["fingerprint"] == plan.forget.fingerprint
    assert (record["rows"], record["users"], record["steers"]) == (60, 6, True)
    assert "u1" not in str(record)


@pytest.mark.parametrize(("seconds", "text"), [(20, "10 s"), (600, "5.0 min"), (72_000, "10.0 h")])
def test_durations(shop, seconds, text):
    plan = plan_request(shop, ForgetRequest(forget_users="ana", forget_ids="e1"))
    assert plan.describe(training_seconds=seconds)[-1].endswith(f"about {text}")
