# SPDX-License-Identifier: Apache-2.0
"""Questions from files of every shape, and the traps of continual files."""

from __future__ import annotations

import gzip
import json

import pytest

from reticent.core.errors import BadInput
from reticent.unlearning.benchmarks.questions import QuestionFields, read_questions

ROWS = [
    {
        "question": f"Where was writer {number} born?",
        "answer": f"In town {number}.",
        "paraphrased_question": "Birthplace?",
        "paraphrased_answer": f"Town {number} it was.",
        "perturbed_answer": [f"Town {number + wrong} it was." for wrong in (1, 2, 3)],
    }
    for number in range(6)
]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(ROWS, indent=2).encode()),
        ("a.json", lines(ROWS).encode()),
        ("a.jsonl", lines(ROWS).encode()),
        ("a.json", b"\xef\xbb\xbf" + lines(ROWS).encode()),
        ("a.json", b"\n  " + json.dumps(ROWS).encode()),
        ("a.jsonl.gz", gzip.compress(lines(ROWS).encode())),
    ],
)
def test_lists_and_lines_whatever_the_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    questions = read_questions(tmp_path / name, rows_per_user=2)
    assert len(questions) == 6
    assert questions[3].prompt == "Where was writer 3 born?"
    assert questions[3].wrong_answers == ("Town 4 it was.", "Town 5 it was.", "Town 6 it was.")
    assert questions[3].paraphrased_answer == "Town 3 it was."
    assert [question.user for question in questions] == [f"user {number}" for number in (1, 1, 2, 2, 3, 3)]
    assert questions == read_questions(ROWS, rows_per_user=2)


def test_own_fields_and_lacking_ones():
    fields = QuestionFields(prompt="q", answer="a", wrong_answers="bad", user="who")
    rows = [
        {"q": "", "a": "Yes", "bad": "No", "who": 7},
        {"q": "Why?", "a": "So", "who": "ana", "paraphrased_answer": None},
    ]
    first, second = read_questions(rows, fields=fields)
    assert (first.prompt, first.wrong_answers, first.user, first.paraphrased_answer) == ("", ("No",), "7", None)
    assert (second.wrong_answers, second.user) == ((), "ana")
    assert second.record("r1").user == "ana"


def test_a_continual_file_needs_its_version():
    rows = [{**row, "task_id": str(number // 3 + 1)} for number, row in enumerate(ROWS)]
    with pytest.raises(BadInput, match="2 versions of its split"):
        read_questions(rows)
    assert [question.prompt for question in read_questions(rows, where={"task_id": "2"})] == [
        row["question"] for row in ROWS[3:]
    ]
    assert len(read_questions(rows[:3])) == 3
    with pytest.raises(BadInput, match="has no rows where"):
        read_questions(rows, where={"task_id": "9"})


@pytest.mark.parametrize(
    ("rows", "how"),
    [
        ([], {}),
        ([{"question": "Who?"}], {}),
        ([{"question": "Who?", "answer": " "}], {}),
        ([{"question": 7, "answer": "Ana"}], {}),
        ([{"question": "Who?", "answer": "Ana", "perturbed_answer": ["Bo", 3]}], {}),
        ([{"question": "Who?", "answer": "Ana", "perturbed_answer": {"a": "Bo"}}], {}),
        ([{"question": "Who?", "answer": "Ana", "paraphrased_answer": ""}], {}),
        ([{"question": "Who?", "answer": "Ana"}], {"fields": QuestionFields(user="who")}),
        ([{"question": "Who?", "answer": "Ana"}] * 2, {}),
        (ROWS, {"rows_per_user": 4}),
        (ROWS, {"rows_per_user": 0}),
        (ROWS, {"rows_per_user": 2, "fields": QuestionFields(user="question")}),
    ],
)
def test_refusals(rows, how):
    with pytest.raises(BadInput):
        read_questions(rows, **how)


def test_a_refusal_quotes_no_text_and_says_where(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(lines(ROWS[:2]) + '{"question": "secret question"}\n')
    with pytest.raises(BadInput) as refused:
        read_questions(path)
    assert "a.jsonl:3" in str(refused.value)
    assert "secret question" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{not json}"),
        ("a.json", b"[1, 2]"),
        ("a.json", b"[{]"),
        ("a.jsonl", b"\xff\xfe\x00\x00\x01"),
        ("a.jsonl.gz", b"no gzip"),
        ("a.jsonl", b""),
        ("a.json", b"[]"),
    ],
)
def test_garbage_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput):
        read_questions(tmp_path / name)


def test_no_such_file(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(BadInput):
            read_questions(path)
