# SPDX-License-Identifier: Apache-2.0
"""The rows that forgotten ones are compared with."""

import random

from reticent.core.record import Record
from reticent.unlearning.forget_set import forget_set
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.request_plan import plan_request
from reticent.unlearning.run_rows import run_rows
from reticent.unlearning.unseen import MIN_OF_USERS, unseen_rows

WORDS = [f"w{number}" for number in range(3000)]
LONG = "the parcel that I ordered in March came late and the box was torn at one corner, said number"


def letters(users, each):
    return [Record(id=f"{user}.{n}", text=f"letter {n} of {user}", user=user) for user in users for n in range(each)]


def unseen(run, **flags):
    return unseen_rows(forget_set(run_rows(run), ForgetRequest(**flags)))


def test_rows_of_the_same_users_where_there_are_enough(tuned):
    records = letters(["ana", "bo", "cy"], 60)
    trained = [record.id for record in records if int(record.id.split(".")[1]) % 2]
    run = tuned(records, trained)
    found = unseen(run, forget_users="ana")
    assert found.basis == "same users"
    assert {record.id for record in found.records} == {f"ana.{n}" for n in range(0, 60, 2)}
    assert not {record.id for record in found.records} & set(trained)


def test_rows_of_the_source_where_the_users_have_too_few(tuned):
    records = letters(["ana", "bo", "cy"], 60)
    outside = [f"ana.{n}" for n in range(MIN_OF_USERS - 1)] + [f"bo.{n}" for n in range(30)]
    run = tuned(records, [record.id for record in records if record.id not in outside])
    found = unseen(run, forget_users="ana")
    assert found.basis == "same source"
    assert [record.id for record in found.records] == outside


def test_users_who_cover_a_part_of_what_is_forgotten_do_not_stand_for_it(tuned):
    records = letters(["ana", "bo", "cy"], 60)
    run = tuned(records, [record.id for record in records if record.user != "ana" or record.id >= "ana.4"])
    assert len([record for record in records if record.user == "ana" and record.id < "ana.4"]) >= MIN_OF_USERS
    assert unseen(run, forget_users="ana").basis == "same users"
    assert unseen(run, forget_users=["ana", "bo"]).basis == "same source"


def test_only_rows_of_the_pool(tuned):
    records = letters(["ana"], 20) + letters(["bo"], 40)
    roles = {"bo.1": "known", "bo.2": "spare", "bo.3": "fresh", "bo.4": "shared", "bo.5": "canary"}
    run = tuned(records, [f"ana.{n}" for n in range(20)], role=roles)
    found = unseen(run, forget_ids="ana.1")
    assert {record.id for record in found.records} == {f"bo.{n}" for n in range(40)} - set(roles)


def test_a_row_that_quotes_a_forgotten_one_was_seen(tuned):
    records = [Record(id="a", text=f"{LONG} one", user="ana"), Record(id="b", text="another", user="bo")]
    records += [Record(id=f"o{n}", text=f"held out {n}", user="cy") for n in range(5)]
    records.append(Record(id="q", text=f"> {LONG} one\nSo what?", user="cy"))
    run = tuned(records, ["a", "b"])
    found = unseen(run, forget_users="ana")
    assert [record.id for record in found.records] == ["o0", "o1", "o2", "o3", "o4"]
    assert found.aside == {"a"}
    assert found.note == "1 more repeat or quote 1 forgotten rows and are left out"


def test_coins_by_user(tuned):
    users = [f"in{n}" for n in range(4)] + [f"out{n}" for n in range(4)]
    records = letters(users, 6)
    trained = [record.id for record in records if record.user.startswith("in") and record.id.endswith((".0", ".1"))]
    run = tuned(records, trained, unit="user")
    whole = unseen(run, forget_users="in0")
    assert whole.basis == "same source"
    assert {record.user for record in whole.records} == {"out0", "out1", "out2", "out3"}
    part = unseen(run, forget_ids=["in0.0", "in1.0"])
    assert {record.user for record in part.records} == {"in0", "in1", "in2", "in3"}


def test_forgotten_rows_of_earlier_requests_are_not_unseen(tuned, unlearned):
    records = letters(["ana", "bo"], 10)
    root = tuned(records, [record.id for record in records if record.id != "bo.9"])
    child = unlearned(root, root, ["bo.1"], name="without")
    found = unseen(child, forget_users="ana")
    assert [record.id for record in found.records] == ["bo.9"]


def test_nothing_to_compare_with(tuned):
    run = tuned(letters(["ana", "bo"], 3), [f"{user}.{n}" for user in ("ana", "bo") for n in range(3)])
    assert unseen(run, forget_users="ana")[:2] == ((), "none")


def test_conversations_are_left_out_on_both_sides(tuned):
    """Letters and answers that quote them, each with a coin: what is compared quotes nothing on either side."""
    rng = random.Random(0)
    records = []
    for n in range(150):
        letter = " ".join(rng.choice(WORDS) for _ in range(30))
        records.append(Record(id=f"l{n}", text=letter, user=f"u{n % 3}"))
        if n % 2:
            records.append(Record(id=f"q{n}", text=f"I agree.\n> {letter}", user=f"u{n % 3}"))
    run = tuned(records, [record.id for record in records if rng.random() < 0.5])
    plan = plan_request(run, ForgetRequest(forget_users=["u0", "u1"]))
    assert plan.unseen.basis == "same users"
    forgotten = [row.record_id for row in plan.rows]
    unseen = [record.id for record in plan.unseen.records]
    compared = [row.record_id for row in plan.rows if row.part != "aside"]
    others = [r.id for r in records if r.user in {"u0", "u1"} and r.id not in forgotten]

    def shares(first, second):
        return {first[0], second[0]} == {"l", "q"} and first[1:] == second[1:]

    assert set(unseen) == {name for name in others if not any(shares(name, other) for other in forgotten)}
    assert set(compared) == {name for name in forgotten if not any(shares(name, other) for other in others)}
    assert len(compared) < len(forgotten)
    assert plan.on_record["aside"] == len(forgotten) - len(compared)
    assert any("are not compared" in line for line in plan.describe())
