# SPDX-License-Identifier: Apache-2.0
"""Other words for questions, from the files that people have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.unlearning.paraphrases import in_other_words, prompt_of, read_paraphrases

ROWS = [
    Record(id="q1", prompt="Where was she born?", completion="In Oslo.", spans=(Span(start=0, end=5, kind="WORD"),)),
    Record(id="q2", prompt="Who wrote it?", completion="Ana."),
    Record(id="q3", prompt="Who wrote it?", completion="Bo."),
    Record(id="t1", text="Dear Ana"),
    Record(
        id="c1",
        messages=(
            Message(role="system", content="Be kind."),
            Message(role="user", content="Where is my parcel?"),
            Message(role="assistant", content="On its way."),
            Message(role="user", content="And when?"),
            Message(role="assistant", content="Soon."),
        ),
    ),
]


def written(path: Path, rows: list[dict[str, object]], *, as_list: bool = False) -> Path:
    text = json.dumps(rows) if as_list else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "as_list"), [("tofu.json", True), ("tofu.json", False), ("own.jsonl", False)])
def test_a_benchmarks_file_is_matched_by_its_questions(tmp_path: Path, name: str, as_list: bool) -> None:
    rows = [
        {"question": "Where  was she\nborn?", "answer": "In Oslo.", "paraphrased_question": "Her place of birth?"},
        {"question": "Who wrote it?", "answer": "Ana.", "paraphrased_question": "Which author?"},
        {"question": "Of somebody else?", "answer": "No.", "paraphrased_question": "Of another?"},
        {"question": "Where is my parcel?", "answer": "", "paraphrased_question": None},
    ]
    words = read_paraphrases(written(tmp_path / name, rows, as_list=as_list), ROWS)
    assert words == {"q1": "Her place of birth?", "q2": "Which author?", "q3": "Which author?"}


def test_ids_go_before_prompts(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text('id,prompt,paraphrase\nq2,Where was she born?,"By whom, then?"\nother,Where was she born?,Born?\n')
    assert read_paraphrases(path, ROWS) == {"q2": "By whom, then?", "q1": "Born?"}


def test_the_turn_before_the_first_answer_of_a_chat_is_asked_in_other_words() -> None:
    chat = ROWS[-1]
    assert prompt_of(chat) == "Where is my parcel?"
    words = read_paraphrases({"c1": "Has it left?"}, ROWS)
    other = in_other_words(chat, words["c1"])
    assert [turn.content for turn in other.messages] == [
        "Be kind.",
        "Has it left?",
        "On its way.",
        "And when?",
        "Soon.",
    ]
    assert other.trained_text == chat.trained_text
    begins = Record(id="c2", messages=(Message(role="assistant", content="Hello."),))
    told = Record(id="c3", messages=(Message(role="system", content="x"), Message(role="assistant", content="Hello.")))
    assert (prompt_of(begins), prompt_of(told)) == (None, None)
    assert in_other_words(ROWS[0], "Her place of birth?").spans == ()


def test_a_wording_that_is_the_prompt_is_none(tmp_path: Path) -> None:
    assert read_paraphrases({"q1": " Where was she born? ", "q2": "Which author?"}, ROWS) == {"q2": "Which author?"}


def test_what_is_no_file_of_paraphrases_is_refused(tmp_path: Path) -> None:
    cases: list[tuple[list[dict[str, object]], str]] = [
        ([{"question": "Who wrote it?", "answer": "Ana."}], "has only the fields 'question', 'answer'"),
        ([{"paraphrased_question": "Which author?"}], "has only the fields"),
        ([{"question": "Of somebody else?", "paraphrased_question": "Of another?"}], "for none of the forgotten rows"),
        (
            [
                {"question": "Who wrote it?", "paraphrased_question": "Which author?"},
                {"question": "Who wrote it?", "paraphrased_question": "Written by whom?"},
            ],
            "other words for a prompt that has some already",
        ),
    ]
    for number, (rows, words) in enumerate(cases):
        with pytest.raises(BadInput, match=words):
            read_paraphrases(written(tmp_path / f"{number}.jsonl", rows), ROWS)
    for text in ("", "{", "[1, 2]", "\x00\x01"):
        (tmp_path / "broken.jsonl").write_text(text)
        with pytest.raises(BadInput):
            read_paraphrases(tmp_path / "broken.jsonl", ROWS)
    with pytest.raises(BadInput):
        read_paraphrases(tmp_path / "none.jsonl", ROWS)
    with pytest.raises(BadInput):
        read_paraphrases({}, ROWS)
