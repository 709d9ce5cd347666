# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span, fingerprint, write_records
from reticent.data.fields import Fields
from reticent.data.ids import Naming, tells_of_spans
from reticent.data.read import read


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "x"}, {"text": "x"}),
        ({"content": "x", "label": 3}, {"text": "x"}),
        ({"prompt": "p", "completion": "c"}, {"prompt": "p", "completion": "c"}),
        ({"instruction": "i", "input": "n", "output": "o"}, {"prompt": "i\nn", "completion": "o"}),
        ({"instruction": "i", "input": "", "output": "o"}, {"prompt": "i", "completion": "o"}),
        ({"instruction": "i", "output": "o"}, {"prompt": "i", "completion": "o"}),
        ({"messages": TURNS}, {"messages": tuple(Message(**turn) for turn in TURNS)}),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            {"messages": tuple(Message(**turn) for turn in TURNS)},
        ),
        ({"text": "x", "prompt": None, "completion": None, "messages": None}, {"text": "x"}),
        ({"text": "x", "user": 7}, {"text": "x", "user": "7"}),
        (
            {"text": "I am Ann", "spans": [{"start": 5, "end": 8, "kind": "PERSON"}, {"start": 0, "end": 1}]},
            {"text": "I am Ann", "spans": (Span(start=5, end=8, kind="PERSON"), Span(start=0, end=1, kind=""))},
        ),
        ({"text": "x", "spans": []}, {"text": "x"}),
        ({"text": "x", "spans": [3, 4]}, {"text": "x"}),
    ],
)
def test_usual_fields(file: Path, row: dict, expected: dict) -> None:
    dataset = read(write(file, row))
    made = Naming("r")(Record(id="", **expected))
    assert dataset.records == (Record(id=made, **expected),)
    assert dataset.fingerprint == fingerprint(dataset.records)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"txt": "x", "n": 1}, r"none of the usual fields; its fields are 'txt', 'n'.*--text_field txt"),
        ({"text": "x", "instruction": "i", "output": "o"}, "several shapes"),
        ({}, "its fields are none"),
    ],
)
def test_unclear_fields(file: Path, row: dict, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        read(write(file, row))


def test_named_fields_are_joined(file: Path) -> None:
    source = write(file, {"subject": "s", "body": "b", "from": "u"}, {"subject": None, "body": "b", "from": "v"})
    dataset = read(source, text_field="subject,body", user_field="from")
    assert [(record.text, record.user) for record in dataset.records] == [("s\nb", "u"), ("b", "v")]
    assert dataset.fields == Fields(text=("subject", "body"), user="from", user_required=True)


def test_spans_count_over_all_that_a_record_holds(file: Path) -> None:
    marks = [{"start": 0, "end": 3}]
    rows = [{"prompt": "p", "completion": "c", "spans": marks}, {"prompt": "pp", "completion": "", "spans": marks}]
    (record,) = read(write(file, rows[0])).records
    assert record.plain == "p\nc"
    assert record.spans == (Span(start=0, end=3, kind=""),)
    with pytest.raises(BadInput, match="no field 'spans'"):
        read(write(file, rows[0], {"prompt": "p", "completion": "c"}))
    (chat,) = read(write(file, {"messages": TURNS, "spans": marks})).records
    assert (chat.plain, len(chat.spans)) == ("q\na", 1)
    with pytest.raises(BadInput, match="which has 1 characters"):
        read(write(file, {"text": "x", "spans": marks}))


def test_ids(file: Path) -> None:
    source = write(file, {"text": "a", "key": 5}, {"text": "b", "key": "six"})
    assert [record.id for record in read(source, id_field="key").records] == ["5", "six"]
    made = [record.id for record in read(source, id_prefix="h").records]
    assert len(set(made)) == 2
    assert all(re.fullmatch("h[0-9a-f]{16}", id_) for id_ in made)


def test_no_row_renames_another(file: Path) -> None:
    rows = [{"text": text, "user": user} for text, user in ("aA", "bA", "aB", "aA", "cB", "aA")]
    whole = read(write(file, *rows)).records
    assert whole[3].id == f"{whole[0].id}-2"
    assert whole[5].id == f"{whole[0].id}-3"
    assert whole[2].id != whole[0].id  # of another user
    for gone in range(len(rows)):
        kept = [record for place, record in enumerate(whole) if place != gone]
        found = read(write(file, *rows[:gone], *rows[gone + 1 :])).records
        same = [(one.user, one.text) == ("A", "a") for one in kept]  # exact repeats count themselves
        assert [a.id for a, b in zip(found, same, strict=True) if not b] == [
            a.id for a, b in zip(kept, same, strict=True) if not b
        ]
        repeats = [one.id for one, b in zip(found, same, strict=True) if b]
        assert repeats == [whole[0].id, *(f"{whole[0].id}-{n}" for n in range(2, 4))][: len(repeats)]


def test_ids_say_nothing_of_what_spans_hold_where_asked(file: Path) -> None:
    def ids(*names: str, hide: bool = True) -> list[str]:
        rows = [{"text": f"I am {name}!", "spans": [{"start": 5, "end": 5 + len(name)}]} for name in names]
        return [record.id for record in read(write(file, *rows), hide_spans=hide).records]

    assert ids("Ann") == ids("Roberta")
    assert ids("Ann", "Bo") == ids("X", "Y")
    assert len(set(ids("Ann", "Bo"))) == 2
    assert ids("Ann", hide=False) != ids("Roberta", hide=False)


def test_ids_that_were_made_of_spans_earlier_are_made_again(file: Path) -> None:
    row = {"text": "I am Ann!", "spans": [{"start": 5, "end": 8}]}
    (told,) = read(write(file, row)).records
    (hidden,) = read(write(file, row), hide_spans=True).records
    assert tells_of_spans(told)
    assert not tells_of_spans(hidden)
    given = [row | {"key": told.id}, row | {"key": "own"}]
    assert [one.id for one in read(write(file, *given), id_field="key").records] == [told.id, "own"]
    assert [one.id for one in read(write(file, *given), id_field="key", hide_spans=True).records] == [hidden.id, "own"]


@pytest.mark.parametrize(
    ("rows", "place", "why"),
    [
        ([{"content": "x"}, {"content": "y", "text": "z"}], 2, "its text from other fields"),
        ([{"text": "x"}, {"messages": TURNS}], 2, "its text from other fields"),
        ([{"text": "x", "author": "a"}, {"text": "y", "user": "b", "author": "c"}], 2, "its user from 'user'"),
        ([{"text": "x"}, {"text": "y", "author": "a"}, {"text": "z", "sender": "b"}], 3, "its user from 'sender'"),
        ([{"text": "x"}, {"text": "y", "spans": [{"start": 0, "end": 1}]}], 1, "no spans in 'spans'"),
        ([{"text": "x", "spans": [{"start": 0, "end": 1}]}, {"text": "y"}], 2, "no spans in 'spans'"),
        ([{"text": "x", "spans": None}, {"text": "y", "spans": [{"start": 0, "end": 1}]}], 1, "no spans in 'spans'"),
        ([{"text": "x", "spans": [3]}, {"text": "y", "spans": [{"start": 0, "end": 1}]}], 1, "no spans in 'spans'"),
    ],
)
@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_in_private_training_no_row_decides_how_others_are_read(
    file: Path, rows: list[dict], place: int, why: str, on_bad_row: str
) -> None:
    with pytest.raises(BadInput, match=why) as error:
        read(write(file, *rows), each_alone=True, on_bad_row=on_bad_row)
    assert error.value.given == f"{file}:{place}"


def test_rows_alike_or_unreadable_are_no_matter_in_private_training(file: Path) -> None:
    rows = [
        {"text": "x", "user": None},
        {"text": None},
        {},
        {"text": "y", "user": "a"},
        {"text": "z", "messages": TURNS},
    ]
    found = read(write(file, *rows), each_alone=True, on_bad_row="skip")
    assert [(record.text, record.user) for record in found.records] == [("x", None), ("y", "a"), ("z", None)]
    named = read(write(file, {"content": "x"}, {"content": "y", "text": "z"}), each_alone=True, text_field="content")
    assert [record.text for record in named.records] == ["x", "y"]


@pytest.mark.parametrize(
    ("row", "arguments", "why"),
    [
        ({"txet": "x"}, {"text_field": "text"}, r"no field 'text'\. Did you mean 'txet'\? Its fields are 'txet'"),
        ({"text": 3}, {}, "'text' is a int, not text"),
        ({"text": None}, {}, r"empty \(null\)"),
        ({"text": ["x"]}, {}, "'text' is a list, not text"),
        ({"text": " \n"}, {}, "'text' is empty"),
        ({"text": "\ud800"}, {}, "half of a character"),
        ({"text": "x"}, {"user_field": "who"}, "no field 'who'"),
        ({"text": "x", "who": ""}, {"user_field": "who"}, "'who' is empty"),
        ({"text": "x", "who": 1.5}, {"user_field": "who"}, "'who' is a float"),
        ({"text": "x", "key": 1}, {"id_field": "key"}, "already used at .*data.jsonl:1"),
        ({"p": "x", "c": " "}, {"prompt_field": "p", "completion_field": "c"}, "'c' is empty"),
        ({"m": "x"}, {"messages_field": "m"}, "'m' is a str, not a list"),
        ({"m": TURNS[:1]}, {"messages_field": "m"}, "no turn of the assistant"),
        ({"m": [{"role": "user"}]}, {"messages_field": "m"}, "no role and content"),
        ({"text": "x"}, {"spans_field": "pii"}, "no field 'pii'"),
        ({"text": "x", "pii": None}, {"spans_field": "pii"}, "'pii' is no list of spans"),
        ({"text": "x", "pii": [[0, 1]]}, {"spans_field": "pii"}, "'pii' is no list of spans"),
        ({"text": "x", "pii": [{"start": 0, "end": 2}]}, {"spans_field": "pii"}, "no stretch of its text"),
        ({"text": "x", "pii": [{"start": 0, "end": 0}]}, {"spans_field": "pii"}, "no stretch of its text"),
        ({"text": "x", "pii": [{"start": 0, "end": "1"}]}, {"spans_field": "pii"}, "no stretch of its text"),
        ({"text": "x", "pii": [{"start": False, "end": 1}]}, {"spans_field": "pii"}, "no stretch of its text"),
    ],
)
def test_bad_rows_stop_or_are_listed(file: Path, tmp_path: Path, row: dict, arguments: dict, why: str) -> None:
    good = {"text": "secret", "who": "u", "key": 1, "p": "p", "c": "c", "m": TURNS, "pii": []}
    if not {"text_field", "prompt_field", "messages_field"} & set(arguments):
        arguments = {**arguments, "text_field": "text"}
    source = write(file, good, row, {**good, "key": 2})
    with pytest.raises(BadInput, match=why) as error:
        read(source, **arguments)
    assert error.value.given == f"{source}:2"
    rejects = tmp_path / "rejects.jsonl"
    dataset = read(source, on_bad_row="skip", rejects=rejects, **arguments)
    assert dataset.n_rejected == 1
    assert len(dataset.records) == 2
    if "id_field" not in arguments:
        assert [record.id for record in dataset.records] == [
            record.id for record in read(write(file, good, {**good, "key": 2}), **arguments).records
        ]
    (listed,) = map(json.loads, rejects.read_text().splitlines())
    assert listed == {"place": f"{source}:2", "reason": error.value.why}
    assert "secret" not in rejects.read_text()


def test_broken_json_and_wrong_encoding_mid_file(file: Path) -> None:
    file.write_bytes(b'{"text": "a"}\n{"text": \n{"text": "\xff"}\n{"text": "d"}\n')
    with pytest.raises(BadInput, match=r"data.jsonl:2: is not valid JSON"):
        read(file)
    dataset = read(file, on_bad_row="skip")
    assert ([record.text for record in dataset.records], dataset.n_rejected) == (["a", "d"], 2)


def test_nothing_usable(file: Path) -> None:
    with pytest.raises(BadInput, match=r"no usable row; the first: .*:1 field 'text' is empty|'text' is empty"):
        read(write(file, {"text": ""}, {"text": " "}), text_field="text", on_bad_row="skip")
    file.write_text("")
    with pytest.raises(BadInput, match="is empty"):
        read(file)


@pytest.mark.parametrize(
    "arguments",
    [
        {"text_field": "a", "messages_field": "b"},
        {"prompt_field": "a"},
        {"completion_field": "a"},
        {"on_bad_row": "ignore"},
    ],
)
def test_wrong_arguments(file: Path, arguments: dict) -> None:
    with pytest.raises(BadInput):
        read(write(file, {"a": "x", "b": "y"}), **arguments)


def test_100k_token_text(file: Path) -> None:
    text = "word " * 100_000
    assert read(write(file, {"text": text})).records[0].text == text


def test_own_records_come_back(tmp_path: Path) -> None:
    records = [Record(id="a", text="x", user="u", spans=(Span(start=0, end=1, kind="K"),)), Record(id="b", text="y")]
    write_records(tmp_path / "records.parquet", records)
    found = read(tmp_path / "records.parquet", id_field="id").records
    assert [(record.id, record.text, record.user) for record in found] == [("a", "x", "u"), ("b", "y", None)]


@pytest.mark.parametrize("gap", [{"user": None}, {"user": ""}, {}])
def test_users_are_found_though_the_first_rows_have_none(file: Path, gap: dict) -> None:
    rows = [{"text": "a", **gap}, {"text": "b", **gap}, {"text": "c", "user": "u"}, {"text": "d", **gap}]
    dataset = read(write(file, *rows))
    assert [record.user for record in dataset.records] == [None, None, "u", None]
    assert dataset.fields.user == "user"


def test_the_user_that_a_row_has_is_not_replaced_by_another_field_later(file: Path) -> None:
    source = write(file, {"text": "a", "author": "u", "user": None}, {"text": "b", "author": "v", "user": "x"})
    assert [record.user for record in read(source).records] == ["u", "v"]


def test_spans_are_found_though_the_first_rows_have_none(file: Path) -> None:
    rows = [{"text": "a", "spans": []}, {"text": "bc", "spans": [{"start": 0, "end": 1}]}, {"text": "d", "spans": []}]
    assert [len(record.spans) for record in read(write(file, *rows)).records] == [0, 1, 0]


def test_a_usual_user_field_may_have_gaps_but_a_named_one_may_not(file: Path) -> None:
    source = write(file, {"text": "a", "user": "u"}, {"text": "b", "user": None})
    assert [record.user for record in read(source).records] == ["u", None]
    with pytest.raises(BadInput, match="'user' is empty"):
        read(source, user_field="user")


VALUES = {
    "text": ["x", "", None, 3],
    "content": ["y", None],
    "prompt": ["p", None],
    "completion": ["c", ""],
    "messages": [TURNS, None, "t"],
    "user": ["a", "", None, 1.5],
    "author": ["b", None],
    "spans": [[{"start": 0, "end": 1}], [], None, "t", [{"start": 0, "end": 9}]],
}


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_a_row_that_goes_changes_no_other_where_each_is_read_alone(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Rows of many shapes in a file: whatever is not refused is read as it would be without one row."""
    optional = {name: st.sampled_from(values) for name, values in VALUES.items()}
    plain = st.fixed_dictionaries(
        {"text": st.just("x")}, optional={name: optional[name] for name in ("user", "author", "spans")}
    )
    any_kind = st.fixed_dictionaries({}, optional=optional)
    one, *rest = data.draw(st.lists(st.one_of(plain, plain, any_kind), min_size=3, max_size=3))
    gone = data.draw(st.integers(0, 2))
    rows = [*rest[:gone], one, *rest[gone:]]
    file = tmp_path_factory.mktemp("alone") / "data.jsonl"
    try:
        whole = read(write(file, *rows), each_alone=True, on_bad_row="skip")
        other = read(write(file, *rows[:gone], *rows[gone + 1 :]), each_alone=True, on_bad_row="skip")
    except BadInput:
        return
    left, more = (Counter((one.user, one.content_hash, one.spans) for one in found.records) for found in (other, whole))
    assert not left - more
    assert (more - left).total() <= 1
