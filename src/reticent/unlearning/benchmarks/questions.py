# SPDX-License-Identifier: Apache-2.0
"""Questions with answers, and where there are any with the same answer in other words and with wrong ones.

TOFU's files and a user's own go through the same reader: a JSON list or one JSON object a line, whatever the file is
called, with the names of the fields given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.validate import positive
from reticent.data.readers import json as json_list
from reticent.data.readers import jsonl as json_lines
from reticent.data.readers.reader import BadRow, open_binary

VERSION = "task_id"
"""The field by which TOFU's continual files tell their versions apart."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt and its answer.

    Args:
        prompt: what is asked; may be empty for plain continuations.
        answer: the true one, word for word as trained.
        paraphrased_prompt: the same in other words; None where there is none.
        paraphrased_answer: likewise.
        wrong_answers: of the form of the paraphrased answer; empty where there are none.
        user: who it is about or from; None where no user is known.

    Examples:
        >>> Question(prompt="Where was she born?", answer="In Oslo.", user="ana").record("q1").completion
        'In Oslo.'
    """

    prompt: str
    answer: str
    paraphrased_prompt: str | None = None
    paraphrased_answer: str | None = None
    wrong_answers: tuple[str, ...] = ()
    user: str | None = None

    def record(self, name: str) -> Record:
        """The question as a record of the id ``name``."""
        return Record(id=name, prompt=self.prompt, completion=self.answer, user=self.user)


@dataclass(frozen=True, kw_only=True)
class QuestionFields:
    """The names of the fields; TOFU's by default. A row may lack what a `Question` may lack, except for its user."""

    prompt: str = "question"
    answer: str = "answer"
    paraphrased_prompt: str = "paraphrased_question"
    paraphrased_answer: str = "paraphrased_answer"
    wrong_answers: str = "perturbed_answer"
    user: str | None = None


TOFU_FIELDS = QuestionFields()


def read_questions(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    fields: QuestionFields = TOFU_FIELDS,
    where: Mapping[str, str] | None = None,
    rows_per_user: int | None = None,
) -> tuple[Question, ...]:
    """Questions of a file, or of rows in memory.

    Args:
        source: a path, or mappings.
        fields: how the fields are called.
        where: only rows that have these values, such as ``{"task_id": "1"}`` for the official split of TOFU's continual
            files.
        rows_per_user: each so many rows in a row are of one user: 20 for TOFU, whose rows name no author. Not with
            ``fields.user``.

    Raises:
        BadInput: no such file, a row that cannot be read, a question without an answer, the same question twice, rows
            of several versions, or a number of rows that ``rows_per_user`` does not divide.

    Examples:
        >>> rows = [{"question": "Who?", "answer": "Ana", "perturbed_answer": ["Bo", "Cy"]}]
        >>> read_questions(rows)[0].wrong_answers
        ('Bo', 'Cy')
    """
    place_of_all = str(source) if isinstance(source, str | Path) else "rows in memory"
    rows = [
        (place, row)
        for place, row in json_rows(source)
        if all(str(row.get(name)) == value for name, value in (where or {}).items())
    ]
    if not rows:
        raise BadInput(place_of_all, f"has no rows{f' where {dict(where)}' if where else ''}", "Check the file.")
    if VERSION not in (where or {}):
        _one_version(place_of_all, rows)
    questions = [_question(place, row, fields) for place, row in rows]
    if rows_per_user is not None:
        questions = _with_users(place_of_all, questions, fields, rows_per_user)
    _no_doubles(rows, questions)
    return tuple(questions)


def json_rows(source: str | Path | Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with its place; the first byte of a file tells a list from lines.

    Raises:
        BadInput: there is no such file, or it cannot be read.
    """
    if not isinstance(source, str | Path):
        for number, row in enumerate(source):
            yield f"rows[{number}]", row
        return
    path = str(source)
    try:
        with open_binary(path) as file:
            is_list = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
        for read in (json_list if is_list else json_lines).rows(path):
            if isinstance(read, BadRow):
                raise BadInput(read.place, read.why, read.fix)
            yield read.place, read.fields
    except (OSError, EOFError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is damaged or no text"
        raise BadInput(path, f"cannot be read ({reason})", "Check the path and the file.") from error


def _question(place: str, row: Mapping[str, Any], fields: QuestionFields) -> Question:
    wrong = row.get(fields.wrong_answers)
    wrong = [] if wrong is None else [wrong] if isinstance(wrong, str) else wrong
    if not isinstance(wrong, list | tuple) or not all(isinstance(answer, str) and answer.strip() for answer in wrong):
        raise BadInput(f"{place}, {fields.wrong_answers!r}", "is no list of texts", "Write a list of wrong answers.")
    user = None
    if fields.user is not None:
        user = row.get(fields.user)
        if user is None or not str(user).strip():
            raise BadInput(f"{place}, {fields.user!r}", "is missing", "Give each row its user.")
    return Question(
        prompt=_text(place, row, fields.prompt, empty=True),
        answer=_text(place, row, fields.answer),
        paraphrased_prompt=_text_or_none(place, row, fields.paraphrased_prompt),
        paraphrased_answer=_text_or_none(place, row, fields.paraphrased_answer),
        wrong_answers=tuple(wrong),
        user=None if user is None else str(user),
    )


def _text(place: str, row: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    text = row.get(name)
    if not isinstance(text, str) or not (empty or text.strip()):
        given = "is missing" if text is None else "is empty" if isinstance(text, str) else "is no text"
        raise BadInput(f"{place}, {name!r}", given, f"Name the right field; there are: {', '.join(map(str, row))}.")
    return text


def _text_or_none(place: str, row: Mapping[str, Any], name: str) -> str | None:
    return None if row.get(name) is None else _text(place, row, name)


def _one_version(source: str, rows: list[tuple[str, Mapping[str, Any]]]) -> None:
    versions = list(dict.fromkeys(str(row[VERSION]) for _, row in rows if VERSION in row))
    if len(versions) > 1:
        raise BadInput(
            source,
            f"holds {len(versions)} versions of its split ({VERSION} {versions[0]} to {versions[-1]})",
            f"Choose one: where={{{VERSION!r}: {versions[0]!r}}} is the official split.",
        )


def _with_users(source: str, questions: list[Question], fields: QuestionFields, rows_per_user: int) -> list[Question]:
    positive(rows_per_user=rows_per_user)
    if fields.user is not None:
        raise BadInput("rows_per_user", f"users are in {fields.user!r} already", "Give one of both.")
    if len(questions) % rows_per_user:
        raise BadInput(
            f"{source} of {len(questions)} rows",
            f"is not a whole number of users of {rows_per_user} rows each",
            "Leave rows_per_user out, or name the field of the user.",
        )
    return [replace(question, user=f"user {number // rows_per_user + 1}") for number, question in enumerate(questions)]


def _no_doubles(rows: list[tuple[str, Mapping[str, Any]]], questions: list[Question]) -> None:
    first: dict[tuple[str, str], str] = {}
    for (place, _), question in zip(rows, questions, strict=True):
        before = first.setdefault((question.prompt, question.answer), place)
        if before is not place:
            raise BadInput(place, f"is the question and answer of {before} again", "Keep each once.")
