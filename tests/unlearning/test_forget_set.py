# SPDX-License-Identifier: Apache-2.0
"""Requests against a small run: what is named, why, what repeats it, and every refusal."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Record, write_records
from reticent.unlearning.forget_set import forget_set
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.run_rows import run_rows
from tests.unlearning.conftest import LETTERS, TRAINED


def reasons(forget):
    return {forget.rows.records[place].id: reason for place, reason in forget.reasons.items()}


def ask(run, **flags):
    return forget_set(run_rows(run), ForgetRequest(**flags))


def refusal(run, **flags):
    with pytest.raises(BadInput) as refused:
        ask(run, **flags)
    assert refused.value.exit_code == 2
    return str(refused.value)


def file_of(tmp_path, texts, name="mails.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))
    return str(path)


def test_a_user_partly_trained_on(shop):
    forget = ask(shop, forget_users="ana")
    assert reasons(forget) == {"a1": "user", "a2": "user"}
    assert forget.untrained == ("a3",)
    assert [record.id for record in forget.retained] == ["b1", "b2", "c1", "e1"]
    assert forget.users == forget.whole_users == ("ana",)


def test_copies_are_named_and_stay_unless_they_are_asked_for(shop):
    forget = ask(shop, forget_ids="a1")
    assert [(copy.record_id, copy.user, copy.of) for copy in forget.copies] == [("c1", "cy", "a1")]
    assert forget.copies_left == forget.copies
    assert "c1" in [record.id for record in forget.retained]
    both = ask(shop, forget_ids="a1", forget_copies=True)
    assert reasons(both) == {"a1": "id", "c1": "copy"}
    assert both.copies == forget.copies
    assert both.copies_left == ()
    assert both.fingerprint != forget.fingerprint
    assert forget.whole_users == ()
    assert both.whole_users == ("cy",)


def test_flags_are_taken_together_and_the_first_reason_counts(shop, tmp_path):
    forget = ask(
        shop,
        forget_users=["bo"],
        forget_ids=["b1", "e1"],
        forget_file=file_of(tmp_path, [LETTERS["e1"][1], LETTERS["a2"][1]]),
        forget_pattern="555-0134",
    )
    assert reasons(forget) == {"a2": "file", "b1": "user", "b2": "user", "e1": "id"}


def test_a_file_in_the_layout_of_a_mail_program(shop, tmp_path):
    quoted = (
        "> Dear shop, the parcel that I ordered in March came\r\n> late and the box was torn at one corner. Ana\r\n"
    )
    assert reasons(ask(shop, forget_file=file_of(tmp_path, [quoted]))) == {"a1": "file"}
    (tmp_path / "mails.txt").write_bytes(
        b"\xef\xbb\xbfPlease call me\r\nat 555-0134 before noon.\r\n\r\nNobody wrote this one."
    )
    assert reasons(ask(shop, forget_file=str(tmp_path / "mails.txt"))) == {"a2": "file", "e1": "file"}
    (tmp_path / "mails.csv").write_text('when,body\n2020,"Nobody wrote this one."\n')
    assert reasons(ask(shop, forget_file=str(tmp_path / "mails.csv"))) == {"e1": "file"}
    (tmp_path / "odd.csv").write_text('when,words\n2020,"Nobody wrote this one."\n')
    assert "--text_field" in refusal(shop, forget_file=str(tmp_path / "odd.csv"))
    assert reasons(ask(shop, forget_file=str(tmp_path / "odd.csv"), forget_text_field="words")) == {"e1": "file"}


def test_near_copies_are_offered_by_name(shop, tmp_path):
    near = LETTERS["a1"][1] + "\nSent from my telephone"
    path = file_of(tmp_path, [LETTERS["e1"][1], near])
    message = refusal(shop, forget_file=path)
    assert "1 of its 2 records have the words of none in this run (record 2)" in message
    assert "record 2: 'a1', 'c1'" in message
    assert message.endswith("Give --forget_near true to forget those rows.")
    assert LETTERS["a1"][1] not in message
    taken = ask(shop, forget_file=path, forget_near=True)
    assert reasons(taken) == {"a1": "near copy", "c1": "near copy", "e1": "file"}
    path = file_of(tmp_path, [LETTERS["e1"][1], near, "A letter that is not in the run."])
    assert "(records 2, 3)" in refusal(shop, forget_file=path)
    message = refusal(shop, forget_file=path, forget_near=True)
    assert "1 of its 3 records have the words of none in this run (record 3)" in message
    assert "Take them out of the file" in message


def test_two_near_copies_of_one_row_are_both_in_the_run(shop, tmp_path):
    near = [LETTERS["a1"][1] + end for end in (" One", " Two or three")]
    assert reasons(ask(shop, forget_file=file_of(tmp_path, near), forget_near=True)) == {
        "a1": "near copy",
        "c1": "near copy",
    }


def test_values(shop):
    assert reasons(ask(shop, forget_pattern="bw-77")) == {"b1": "pattern"}
    assert reasons(ask(shop, forget_pattern=r"555-\d{4}", forget_regex=True)) == {"a2": "pattern", "b2": "pattern"}
    assert "stands in none of the 8 records" in refusal(shop, forget_pattern=r"555-\d{4}")
    assert "stands in none of the 8 records" in refusal(shop, forget_pattern="Bw-7")
    assert ask(shop, forget_pattern="one").untrained == ()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ({}, ["names nobody and nothing"]),
        ({"forget_users": "anna"}, ["'anna'", "is no user", "Did you mean 'ana'?"]),
        ({"forget_users": "a1"}, ["'a1' names a record", "--forget_ids"]),
        ({"forget_ids": "ana"}, ["'ana' names a user", "--forget_users"]),
        ({"forget_ids": ["a1", "a9"]}, ["'a9': is no record", "The run has 8 records, such as 'a1', 'a2'"]),
        ({"forget_users": "dee"}, ["'dee'", "its record is held out and was never trained on ('d1')"]),
        ({"forget_users": "ana,dee"}, ["'dee'", "never trained on"]),
        ({"forget_ids": ["a1", "a3", "d1"]}, ["'a3', 'd1': are held out and were never trained on: there is nothing"]),
        ({"forget_pattern": "never trained on"}, ["never trained on ('a3')", "nothing to forget"]),
        ({"forget_users": ["ana", "bo", "cy"], "forget_ids": "e1"}, ["name all 6 rows", "nothing is left to retain"]),
        ({"forget_pattern": ".", "forget_regex": True}, ["names all 6 rows", "base model"]),
        ({"forget_ids": ["a1", "a2", "b1", "b2", "e1"], "forget_copies": True}, ["--forget_copies", "name all 6 rows"]),
        ({"forget_file": "nowhere.jsonl"}, ["nowhere.jsonl", "no such file"]),
    ],
)  # fmt: skip
def test_refusals(shop, flags, parts):
    message = refusal(shop, **flags)
    for part in parts:
        assert part in message


def test_files_that_hold_nothing_to_forget(shop, tmp_path):
    assert "never trained on ('a3', 'd1')" in refusal(
        shop, forget_file=file_of(tmp_path, [LETTERS["a3"][1], LETTERS["d1"][1]])
    )
    some = ask(shop, forget_file=file_of(tmp_path, [LETTERS["a3"][1], LETTERS["e1"][1]]))
    assert reasons(some) == {"e1": "file"}
    assert some.untrained == ("a3",)
    (tmp_path / "empty.jsonl").write_text("")
    assert "is empty" in refusal(shop, forget_file=str(tmp_path / "empty.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes('{"text": "José"}'.encode("latin-1"))
    assert "is not UTF-8" in refusal(shop, forget_file=str(tmp_path / "latin.jsonl"))


def test_another_flag_does_not_excuse_a_file_with_nothing_to_forget(shop, tmp_path):
    path = file_of(tmp_path, [LETTERS["d1"][1]])
    assert "never trained on ('d1')" in refusal(shop, forget_file=path, forget_users="bo")


def test_what_was_forgotten_is_refused_by_name(shop, unlearned):
    child = unlearned(shop, shop, ["a1", "a2", "b1"], name="without")
    message = refusal(child, forget_users="ana")
    assert "'ana'" in message
    assert "2 of its records were forgotten before ('a1', 'a2'; request 1, in" in message
    assert "and 1 never trained on" in message
    assert "forgotten before ('a1'; request 1" in refusal(child, forget_ids=["a1", "e1"])
    assert "forgotten before ('a2'; request 1" in refusal(child, forget_pattern="555-0134")
    forget = ask(child, forget_users="bo")
    assert reasons(forget) == {"b2": "user"}
    assert forget.forgotten_before == ("b1",)
    assert forget.whole_users == ("bo",)
    assert [record.id for record in forget.retained] == ["c1", "e1"]
    assert "name all 3 rows" in refusal(child, forget_users=["bo", "cy"], forget_ids="e1")
    assert ask(child, forget_ids="e1").copies == ()  # c1 repeats a1, which is gone


def test_an_id_that_was_left_out_as_a_copy_is_told(shop):
    shop.dropped.write_text('{"id": "z9", "kept": "a1", "why": "exact"}\nbroken')
    assert "is no record" in refusal(shop, forget_ids="z9")
    shop.dropped.write_text('{"id": "z9", "kept": "a1", "why": "exact"}\n')
    assert refusal(shop, forget_ids="z9").endswith("as a copy of another record. Ask for what stands for it: 'a1'.")


def test_ids_and_users_of_one_name_are_told_apart(tuned):
    records = [
        Record(id="7", text="first", user="8"),
        Record(id="8", text="second", user="7"),
        Record(id="9", text="x"),
    ]
    run = tuned(records, ["7", "8", "9"])
    assert reasons(ask(run, forget_users=[7])) == {"8": "user"}
    assert reasons(ask(run, forget_ids=[7])) == {"7": "id"}
    assert reasons(ask(run, forget_ids="7", forget_users="7")) == {"7": "id", "8": "user"}


def test_a_run_without_users(tuned):
    run = tuned([Record(id=str(n), text=f"letter {n}") for n in range(4)], ["0", "1"])
    assert "its records have no users" in refusal(run, forget_users="ana")
    assert ask(run, forget_ids="0").users == ()


def test_a_text_of_several_people_is_forgotten_with_all_of_them(tuned, tmp_path):
    records = [Record(id=f"r{n}", text="The same letter.", user=f"u{n}") for n in range(3)]
    run = tuned([*records, Record(id="x", text="another", user="u9")], ["r0", "r1", "x"])
    forget = ask(run, forget_file=file_of(tmp_path, ["The same letter."]))
    assert reasons(forget) == {"r0": "file", "r1": "file"}
    alone = ask(run, forget_users="u0")
    assert [copy.record_id for copy in alone.copies] == ["r1"]
    assert alone.unclean == {2: (0,)}
    assert ask(run, forget_users="u0", forget_copies=True).unclean == {2: (0, 1)}


def test_verification_needs_coins(tuned, letters):
    given_run = run_rows(tuned(letters, TRAINED, unit="given", name="given"))
    assert "no coins were recorded" in given_run.no_verification
    with pytest.raises(BadInput, match="unlearning cannot be verified"):
        given_run.refuse_verification()
    assert reasons(forget_set(given_run, ForgetRequest(forget_users="bo"))) == {"b1": "user", "b2": "user"}
    thrown = run_rows(tuned(letters, TRAINED, name="thrown"))
    assert thrown.no_verification == ""
    thrown.refuse_verification()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_request_divides_the_trained_rows(shop, data):
    wanted = data.draw(st.sets(st.sampled_from(TRAINED), min_size=1, max_size=4))
    users = data.draw(st.sets(st.sampled_from(["bo", "cy"]), max_size=1))
    copies = data.draw(st.booleans())
    rows = run_rows(shop)
    request = ForgetRequest(forget_ids=sorted(wanted), forget_users=sorted(users) or None, forget_copies=copies)
    named = wanted | {name for name in TRAINED if LETTERS[name][0] in users}
    quoting = {"c1"} if "a1" in named else {"a1"} if "c1" in named else set()
    expected = named | quoting if copies else named
    if expected == set(TRAINED):
        with pytest.raises(BadInput, match="nothing is left to retain"):
            forget_set(rows, request)
        return
    forget = forget_set(rows, request)
    assert set(reasons(forget)) == expected
    assert sorted([record.id for record in (*forget.records, *forget.retained)]) == sorted(TRAINED)
    assert {copy.record_id for copy in forget.copies} == quoting - named
    assert {name for name, reason in reasons(forget).items() if reason == "copy"} == (
        quoting - named if copies else set()
    )
    assert list(forget.reasons) == sorted(forget.reasons)


def test_texts_stay_out_of_messages(shop, tmp_path):
    secret = "The word that nobody may read is xyzzy."
    write_records(
        shop.records, [Record(id=name, user=user, text=text + secret) for name, (user, text) in LETTERS.items()]
    )
    for flags in (
        {"forget_users": "nobody"},
        {"forget_users": "dee"},
        {"forget_pattern": "xyzzy"},
        {"forget_file": file_of(tmp_path, ["xyzzy " * 20])},
    ):
        assert "nobody may read" not in refusal(shop, **flags)
