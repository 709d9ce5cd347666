# SPDX-License-Identifier: Apache-2.0
"""Chats in the forms that people have, each with the turns that are right, or with the reason why it is bad."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, read_records, write_records
from reticent.data.read import read
from reticent.testing.tiny import tiny_tokenizer

ASKED = {"role": "user", "content": "Where is my parcel?"}
SAID = {"role": "assistant", "content": "It left on Monday."}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"parcel": "A1", "to": "Zoë"}'}}
CALLED = '<tool_call>\n{"name": "find", "arguments": {"parcel": "A1", "to": "Zoë"}}\n</tool_call>'
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "on its way"}


def parts(*texts: str, kind: str = "text") -> list[dict]:
    return [{"type": kind, "text": text} for text in texts]


FORMS = {
    "OpenAI parts": (
        [{**ASKED, "content": parts("Where is", " my parcel?")}, {**SAID, "content": parts("It left", " now.")}],
        ["Where is my parcel?", "It left now."],
    ),
    "Responses API": (
        [{**ASKED, "content": parts("Hi", kind="input_text")}, {**SAID, "content": parts("Ho", kind="output_text")}],
        ["Hi", "Ho"],
    ),
    "parts of an Arrow table": (
        [ASKED, {**SAID, "content": [{"type": "text", "text": "Ho", "image_url": None}], "tool_calls": None}],
        [ASKED["content"], "Ho"],
    ),
    "a refusal": (
        [ASKED, {"role": "assistant", "content": None, "refusal": "I cannot."}],
        [ASKED["content"], "I cannot."],
    ),
    "a refusal as a part": (
        [ASKED, {**SAID, "content": [{"type": "refusal", "refusal": "No."}]}],
        [ASKED["content"], "No."],
    ),
    "null with a call": (
        [ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT, SAID],
        [ASKED["content"], CALLED, "on its way", SAID["content"]],
    ),
    "no content with a call": (
        [ASKED, {"role": "assistant", "tool_calls": [CALL]}, RESULT, SAID],
        [ASKED["content"], CALLED, "on its way", SAID["content"]],
    ),
    "a text and two calls": (
        [ASKED, {**SAID, "tool_calls": [CALL, CALL]}],
        [ASKED["content"], f"{SAID['content']}\n{CALLED}\n{CALLED}"],
    ),
    "an old call": (
        [ASKED, {"role": "assistant", "content": None, "function_call": CALL["function"]}],
        [ASKED["content"], CALLED],
    ),
    "arguments as an object": (
        [
            ASKED,
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "find", "arguments": {"parcel": "A1", "to": "Zoë"}}}],
            },
        ],
        [ASKED["content"], CALLED],
    ),
    "Anthropic": (
        [
            {**ASKED, "content": parts("Hi")},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Look it up."},
                    {"type": "text", "text": "One moment."},
                    {"type": "tool_use", "id": "c", "name": "find", "input": {"parcel": "A1", "to": "Zoë"}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": parts("on its way")}]},
        ],
        ["Hi", f"<think>\nLook it up.\n</think>\n\nOne moment.\n{CALLED}", "on its way"],
    ),
    "reasoning beside the text": (
        [ASKED, {**SAID, "reasoning_content": "\nIt left.\n"}],
        [ASKED["content"], f"<think>\nIt left.\n</think>\n\n{SAID['content']}"],
    ),
    "reasoning in the text": (
        [ASKED, {**SAID, "content": "<think>\nIt left.\n</think>\n\nOk"}],
        [ASKED["content"], "<think>\nIt left.\n</think>\n\nOk"],
    ),
    "Gemini": (
        [{"role": "user", "parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"text": "Ho"}]}],
        ["Hi", "Ho"],
    ),
    "ShareGPT": (
        [
            {"from": "human", "value": "Hi"},
            {"from": "function_call", "value": "{}"},
            {"from": "observation", "value": "x"},
            {"from": "gpt", "value": "Ho"},
        ],
        ["Hi", "{}", "x", "Ho"],
    ),
}
BAD = {
    "a picture": (
        [{**ASKED, "content": [*parts("see"), {"type": "image_url", "image_url": {"url": "x"}}]}, SAID],
        "part of type 'image_url'",
    ),
    "sound": ([ASKED, {**SAID, "content": [{"type": "input_audio"}]}], "part of type 'input_audio'"),
    "null": ([ASKED, {"role": "assistant", "content": None}], "no role and content"),
    "null from the user": ([{"role": "user", "content": None}, SAID], "no role and content"),
    "a number": ([ASKED, {**SAID, "content": 7}], "a int for content"),
    "a call without a name": (
        [ASKED, {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}],
        "without a name",
    ),
    "calls that are no list": ([ASKED, {**SAID, "tool_calls": "find"}], "that are no list"),
    "half a character": ([ASKED, {**SAID, "content": parts("\ud800")}], "half of a character"),
    "none is trained on": ([ASKED, {**SAID, "weight": 0}], "no turn of the assistant"),
    "no turn": ([ASKED, "hello"], "no role and content"),
}


def written(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def turns_of(record: Record) -> tuple[Message, ...]:
    assert record.messages is not None
    return record.messages


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_chats(form: str, tmp_path: Path) -> None:
    turns, contents = FORMS[form]
    (record,) = read(written(tmp_path / "a.jsonl", {"messages": turns, "user": "ana"})).records
    assert [turn.content for turn in turns_of(record)] == contents
    assert {turn.role for turn in turns_of(record)} <= {"user", "assistant", "tool", "system"}
    assert any(trained for trained, _ in record.pieces)


@pytest.mark.parametrize("form", BAD)
def test_what_is_no_text_makes_a_row_bad(form: str, tmp_path: Path) -> None:
    turns, why = BAD[form]
    source = written(tmp_path / "a.jsonl", {"messages": [ASKED, SAID]}, {"messages": turns})
    with pytest.raises(BadInput, match=why) as error:
        read(source)
    assert error.value.given == f"{source}:2"
    assert "see" not in str(error.value)
    assert read(source, on_bad_row="skip").n_rejected == 1


def test_trl_conversational_prompt_and_completion(tmp_path: Path) -> None:
    earlier = [{"role": "system", "content": "Be short."}, ASKED, {"role": "assistant", "content": "Which?"}, ASKED]
    rows = [{"prompt": [ASKED], "completion": [SAID]}, {"prompt": earlier, "completion": [SAID, ASKED, SAID]}]
    one, many = read(written(tmp_path / "a.jsonl", *rows)).records
    assert one.pieces == ((False, ASKED["content"]), (True, SAID["content"]))
    assert [trained for trained, _ in many.pieces] == [False, False, False, False, True, False, True]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "Hi", "completion": [SAID]}, "only one is a list of turns"),
        ({"prompt": [ASKED], "completion": "Ho"}, "only one is a list of turns"),
        ({"prompt": [ASKED], "completion": [ASKED]}, "no turn of the assistant"),
        ({"prompt": [ASKED, SAID], "completion": []}, "no turn of the assistant"),
        ({"prompt": ["Hi"], "completion": [SAID]}, "only one is a list of turns"),
    ],
)
def test_half_of_a_conversational_row_is_bad(row: dict, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=why):
        read(written(tmp_path / "a.jsonl", row))


def test_what_is_trained_on_survives_files_and_the_template(tmp_path: Path) -> None:
    from reticent.models.encode import encode

    turns = [ASKED, {**SAID, "content": "context only", "weight": 0}, ASKED, SAID]
    (record,) = read(written(tmp_path / "a.jsonl", {"messages": turns})).records
    assert [trained for trained, _ in record.pieces] == [False, False, False, True]
    write_records(tmp_path / "r.parquet", [record])
    assert read_records(tmp_path / "r.parquet") == [record]
    (again,) = read(tmp_path / "r.parquet", id_field="id").records
    assert again == record
    tokenizer = tiny_tokenizer()
    found = encode(record, tokenizer, add_eos=True)
    trained = tokenizer.decode(found.token_id[found.trained].tolist())
    assert SAID["content"] in trained
    assert "context only" not in trained


def test_a_plain_chat_keeps_its_hash_whether_or_not_turns_say_that_they_are_trained_on() -> None:
    """Ids, and with them coins, follow from it."""
    turns = tuple(Message(role=turn["role"], content=turn["content"]) for turn in (ASKED, SAID))
    content = Record(id="a", messages=turns).content_hash
    assert content == "6c34748b8460a8a35628d4c8337cbc4154814d5520d55129ec91c727cb74a2e7"
    other = (*turns[:1], Message(role="assistant", content=SAID["content"], trained=False))
    assert Record(id="a", messages=other).content_hash != content


def test_chats_in_other_files(tmp_path: Path) -> None:
    """JSON in a CSV field, and the dictionary of lists that some data sets store."""
    text = json.dumps([ASKED, SAID]).replace('"', '""')
    (tmp_path / "a.csv").write_text(f'user,chat\nana,"{text}"\n', encoding="utf-8")
    columns = {name: [ASKED[name], SAID[name]] for name in ("role", "content")}
    pq.write_table(pa.Table.from_pylist([{"chat": columns, "user": "ana"}]), tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        (record,) = read(tmp_path / name, messages_field="chat").records
        assert [turn.content for turn in turns_of(record)] == [ASKED["content"], SAID["content"]]
