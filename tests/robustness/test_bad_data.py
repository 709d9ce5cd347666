# SPDX-License-Identifier: Apache-2.0
"""Bad records through the command line: exit code 2, a message that helps, and nothing written or changed."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def tune(base, tmp_path, tools):
    """The command that tunes on a file; nothing may be left in ``tmp_path / "run"`` when it is refused."""
    return lambda data, *more: ("tune", data, "--model", base, "--out", tmp_path / "run", *tools.tune, *more)


@pytest.fixture(autouse=True)
def nothing_is_left(request, tmp_path):
    """A refused command makes no run folder."""
    yield
    if "refuse" in request.node.name:
        assert not (tmp_path / "run").exists()


def test_an_empty_file_is_refused(refused, tune, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    refused(*tune(empty), given=str(empty), why="is empty", fix="at least one record")


def test_a_missing_file_is_refused(refused, tune, tmp_path):
    refused(*tune(tmp_path / "no.jsonl"), given="no.jsonl", why="no such file", fix="Check the path")


def test_a_file_that_is_not_utf8_is_refused_with_its_line(refused, tune, tmp_path, tools):
    path = tools.write_rows(tmp_path / "latin.jsonl", tools.mails(12))
    path.write_bytes(path.read_bytes() + '{"text": "Grüße aus Köln", "user": "u"}\n'.encode("latin-1"))
    message = refused(*tune(path), given=f"{path}:49", why="not UTF-8", fix="Save the file as UTF-8")
    assert "0xfc" in message


def test_json_that_breaks_off_in_the_middle_is_refused_with_its_line(refused, tune, tmp_path, tools):
    rows = [json.dumps(row) for row in tools.mails(12)]
    rows[30] = rows[30][:25]
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join(rows))
    message = refused(*tune(path), given=f"{path}:31", why="not valid JSON", fix="one JSON object on each line")
    assert "order" not in message, "a message never quotes private text"


def test_bad_rows_are_counted_and_listed_when_asked_to_skip_them(reticent, tune, tmp_path, tools):
    rows = [json.dumps(row) for row in tools.mails(20)]
    rows[30], rows[40], rows[50] = rows[30][:25], '{"user": "user 3"}', "7"
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join(rows))
    outcome = reticent(*tune(path, "--on-bad-row", "skip"))
    assert outcome.code == 0, outcome.err
    rejects = tmp_path / "run" / "rejects.jsonl"
    assert f"3 bad rows skipped; see {rejects}" in outcome.err
    listed = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [row["place"] for row in listed] == [f"{path}:{line}" for line in (31, 41, 51)]
    assert ["not valid JSON" in listed[0]["reason"], "'text'" in listed[1]["reason"]] == [True, True]
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_only_bad_rows_are_refused_even_when_asked_to_skip_them(refused, tune, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"a\n{"b\n')
    refused(*tune(path, "--on-bad-row", "skip"), given=str(path), why="no usable row", fix="one JSON object")


def test_a_missing_field_is_refused_with_the_near_one(refused, tune, mails):
    refused(
        *tune(mails, "--text-field", "txet"),
        given=f"{mails}:1", why="has no field 'txet'", fix="Did you mean 'text'? Its fields are 'id', 'user', 'text'",
    )  # fmt: skip


def test_fields_with_unusual_names_are_refused_with_the_names_that_there_are(refused, tune, tmp_path, tools):
    path = tools.write_rows(tmp_path / "odd.jsonl", [{"note": f"note {i}", "by": "me"} for i in range(20)])
    refused(*tune(path), given=str(path), why="its fields are 'note', 'by'", fix="--text_field")


def test_a_field_that_is_missing_further_down_is_refused_with_its_line(refused, tune, tmp_path, tools):
    rows = tools.mails(12)
    del rows[20]["text"]
    path = tools.write_rows(tmp_path / "gap.jsonl", rows)
    refused(*tune(path), given=f"{path}:21", why="has no field 'text'", fix="Its fields are 'id', 'user'")


def test_a_split_by_user_without_users_is_refused(refused, tune, tmp_path, tools):
    path = tools.write_rows(tmp_path / "nobody.jsonl", [{"text": row["text"]} for row in tools.mails(12)])
    refused(
        *tune(path, "--split_unit", "user"),
        given="split_unit='user'",
        why="48 of 48 records have no user",
        fix="--split_unit record",
    )


def test_a_split_by_user_with_one_user_is_refused(refused, tune, tmp_path, tools):
    path = tools.write_rows(tmp_path / "one.jsonl", [row | {"user": "me"} for row in tools.mails(12)])
    refused(*tune(path, "--split_unit", "user"), given="split_unit='user'", why="one user", fix="--split_unit record")


def test_too_few_records_are_refused(refused, tune, tmp_path, tools):
    path = tools.write_rows(tmp_path / "few.jsonl", tools.mails(2))
    refused(*tune(path), given="8 records", why="too few", fix="Give at least 10")


@pytest.mark.parametrize(
    ("probability", "missing"),
    [("0.999999", "no held-out records"), ("0.000001", "no members")],
    ids=["all_in", "all_out"],
)
def test_coins_that_leave_a_side_empty_are_refused(refused, tune, tmp_path, tools, probability, missing):
    path = tools.write_rows(tmp_path / "mails.jsonl", tools.mails(12))
    argv = tune(path, "--split_unit", "record", "--probability", probability)
    refused(*argv, given="48 records", why=missing, fix="a probability nearer to 0.5")


@pytest.mark.parametrize("value", ["0", "1"])
def test_a_certain_coin_is_refused(refused, tune, mails, value):
    refused(*tune(mails, "--probability", value), given=f"probability={value}", why="between 0 and 1", fix="0.5")


def test_ids_that_are_used_twice_are_refused_with_both_places(refused, tune, tmp_path, tools):
    rows = tools.mails(12)
    rows[17]["id"] = rows[3]["id"]
    path = tools.write_rows(tmp_path / "twice.jsonl", rows)
    message = refused(*tune(path, "--id-field", "id"), given=f"{path}:18", why="already used at", fix="its own id")
    assert f"already used at {path}:4" in message


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--epochs", "0"),
        ("--learning-rate", "-1"),
        ("--max-tokens", "0"),
        ("--max-records", "-5"),
        ("--min-user-records", "0"),
        ("--canaries", "-1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(reticent, tune, mails, flag, value):
    outcome = reticent(*tune(mails, flag, value))
    assert outcome.code == 2
    assert flag.strip("-").replace("-", "_") in outcome.err
    assert "must be " in outcome.err


def test_a_corrected_command_is_not_told_that_the_folder_is_taken(refused, reticent, tune, mails, tmp_path):
    refused(*tune(mails, "--learning-rate", "1e30"), given="learning_rate", why="diverged", fix="lower learning rate")
    assert not (tmp_path / "run").exists()
    assert reticent(*tune(mails)).code == 0


# ---- an audit of any model with lists -------------------------------------------------------------------------------


@pytest.fixture
def sides(mails, tmp_path, tools):
    """Two files: 80 members, 80 held-out."""
    rows = [json.loads(line) for line in mails.read_text().splitlines()]
    return tools.write_rows(tmp_path / "in.jsonl", rows[::2]), tools.write_rows(tmp_path / "out.jsonl", rows[1::2])


@pytest.fixture
def audit(tuned, tmp_path, tools):
    return lambda *more: ("audit", "--model", tuned / "model", "--out", tmp_path / "run", *tools.audit, *more)


@pytest.mark.parametrize(("label", "why"), [("true", "evaluated are members"), ("false", "evaluated are held-out")])
def test_a_list_with_only_one_side_is_refused(refused, audit, mails, tmp_path, tools, label, why):
    ids = [row["id"] for row in tools.mails()]
    labels = tmp_path / "labels.csv"
    labels.write_text("id,member\n" + "".join(f"{id_},{label}\n" for id_ in ids))
    argv = audit("--data", mails, "--membership", labels, "--id-field", "id")
    refused(*argv, given="160 records", why=why, fix="Give records of both kinds")


def test_an_id_that_is_labelled_twice_is_refused(refused, audit, mails, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("id,member\nu0m0,true\nu0m0,false\n")
    argv = audit("--data", mails, "--membership", labels, "--id-field", "id")
    refused(*argv, given=f"{labels}:3", why="given twice", fix="Give each id once")


def test_ids_without_a_label_are_refused(refused, audit, mails, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("id,member\nu0m0,true\nu0m1,false\n")
    argv = audit("--data", mails, "--membership", labels, "--id-field", "id")
    refused(*argv, given="158 ids", why="in the data but not in the membership", fix="same ids")


def test_an_id_on_both_sides_is_refused(refused, audit, sides):
    inside, outside = sides
    outside.write_text(outside.read_text() + inside.read_text().splitlines()[0].replace("order", "ordre") + "\n")
    argv = audit("--members", inside, "--held-out", outside, "--id-field", "id")
    refused(*argv, given="1 ids, such as 'u0m0'", why="among the members and among the held-out", fix="one file")


def test_an_empty_side_is_refused(refused, audit, sides, tmp_path):
    inside, _ = sides
    (tmp_path / "none.jsonl").write_text("")
    refused(
        *audit("--members", inside, "--held-out", tmp_path / "none.jsonl"), given="none.jsonl", why="empty", fix="Give"
    )


def test_half_of_the_files_is_refused(refused, audit, sides):
    refused(*audit("--members", sides[0]), given="the records", why="not", fix="--members FILE --held_out FILE")


def test_empty_and_one_token_texts_are_dropped_and_counted(reticent, audit, sides, tmp_path, tools):
    inside, outside = sides
    for path, tag, letters in ((inside, "a", "klm"), (outside, "b", "xyz")):
        # one byte each is one token for the tiny tokenizer: nothing precedes it, so nothing predicts it
        short = [{"id": f"{tag}{i}", "user": f"user {i}", "text": letter} for i, letter in enumerate(letters)]
        empty = {"id": f"{tag}9", "user": "user 9", "text": "  "}
        path.write_text(path.read_text() + "".join(json.dumps(row) + "\n" for row in [*short, empty]))
    outcome = reticent(*audit("--members", inside, "--held-out", outside, "--on-bad-row", "skip", "--id-field", "id"))
    assert outcome.code == 0, outcome.err
    counts = json.loads((tmp_path / "run" / "results.json").read_text())["counts"]
    known = counts["known_to_attacker"]
    assert counts["records"] == 166
    assert counts["evaluated_members"] + counts["evaluated_held_out"] == 166 - known

    from reticent.core.table import read_table

    table = read_table(tmp_path / "run" / "tables" / "evaluate.target.parquet")
    short = {id_ for id_, n in zip(table.record_id, table.lengths, strict=True) if n == 0}
    assert short == {id_ for id_ in table.record_id if id_[0] in "ab"}
    assert counts["dropped_without_tokens"] == len(short) > 0
    assert len((tmp_path / "run" / "rejects.jsonl").read_text().splitlines()) == 2
    assert "2 bad rows skipped" in outcome.err


def test_only_one_token_texts_are_refused_by_an_audit(refused, audit, tmp_path, tools):
    letters = "abcdefghijklmnopqrstuvwxyz"
    inside = tools.write_rows(tmp_path / "in.jsonl", [{"text": letter} for letter in letters])
    outside = tools.write_rows(tmp_path / "out.jsonl", [{"text": letter.upper()} for letter in letters])
    argv = audit("--members", inside, "--held-out", outside)
    refused(*argv, given="the records", why="none has a trained token", fix="at least two tokens")


@pytest.mark.parametrize("tokens", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_long_text_is_audited_in_windows(reticent, audit, sides, tmp_path, tokens):
    inside, outside = sides
    long = {"id": "long", "user": "user 0", "text": " ".join(f"{i:05d}" for i in range(tokens // 6 + 2))}
    inside.write_text(inside.read_text() + json.dumps(long) + "\n")
    outcome = reticent(*audit("--members", inside, "--held-out", outside, "--id-field", "id", "--attacks", "loss,zlib"))
    assert outcome.code == 0, outcome.err

    from reticent.core.table import read_table

    table = read_table(tmp_path / "run" / "tables" / "evaluate.target.parquet")
    lengths = dict(zip(table.record_id, table.lengths, strict=True))
    assert lengths["long"] == len(long["text"]) - 1 > tokens
