# SPDX-License-Identifier: Apache-2.0
"""Other words for the questions of forgotten rows: a model may have forgotten a wording, and still know the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.readers.reader import BadRow, rows_of
from reticent.unlearning.benchmarks.questions import json_rows
from reticent.unlearning.normal_text import normal_text

IDS = ("id", "record_id")
PROMPTS = ("prompt", "question", "instruction")
PARAPHRASES = ("paraphrased_prompt", "paraphrased_question", "paraphrased_instruction", "paraphrase")
"""Fields of the file; of each kind the first that a row has counts."""
JSON = (".json", ".jsonl", ".ndjson")


def read_paraphrases(source: str | Path | Mapping[str, str], records: Sequence[Record]) -> dict[str, str]:
    """Other words for the prompts of records, by the record's id.

    A row of the file belongs to the record of its ``id``, or else to all whose prompt it repeats: ``prompt``, as the
    field is called in TOFU ``question``; of a chat the last turn before the first that is trained on. Rows of other
    records are passed over, and so are rows without other words, or whose other words are the prompt itself.

    Args:
        source: a JSON, JSONL, CSV or Parquet file with ``paraphrased_prompt`` (or TOFU's ``paraphrased_question``)
            beside ``id`` or ``prompt``; or id → other words.
        records: that are asked about.

    Raises:
        BadInput: no such file, a row without any of the fields, two wordings of one prompt, or none that belongs to a
            record.

    Examples:
        >>> asked = [Record(id="q1", prompt="Where was she born?", completion="In Oslo.")]
        >>> read_paraphrases({"q1": "What is her place of birth?", "q2": "Who?"}, asked)
        {'q1': 'What is her place of birth?'}
    """
    by_id = {record.id: record for record in records}
    by_prompt: dict[str, list[Record]] = {}
    for record in records:
        if (prompt := prompt_of(record)) is not None:
            by_prompt.setdefault(normal_text(prompt), []).append(record)
    paraphrases: dict[str, str] = {}
    for place, row in _rows(source):
        identity, prompt, words = (_field(row, names) for names in (IDS, PROMPTS, PARAPHRASES))
        if not any(name in row for name in PARAPHRASES) or (identity is None and prompt is None):
            raise BadInput(
                place,
                f"has only the fields {', '.join(repr(str(name)[:80]) for name in row)}",
                f"Name them {IDS[0]!r} or {PROMPTS[0]!r}, and {PARAPHRASES[0]!r}.",
            )
        if words is None:
            continue
        direct = by_id.get(identity) if identity is not None else None
        owners = [direct] if direct is not None else by_prompt.get(normal_text(prompt or ""), [])
        for record in owners:
            asked = prompt_of(record)
            if asked is None or normal_text(words) == normal_text(asked):
                continue
            if paraphrases.setdefault(record.id, words) != words:
                raise BadInput(place, "gives other words for a prompt that has some already", "Give each prompt once.")
    if not paraphrases:
        raise BadInput(
            "the paraphrases" if isinstance(source, Mapping) else str(source),
            "have other words for none of the forgotten rows that judge",
            "Give rows with the id or the prompt of such rows, or leave them out (--paraphrases).",
        )
    return paraphrases


def prompt_of(record: Record) -> str | None:
    """The text that a record answers to: its prompt, of a chat the last turn before the first that is trained on.

    >>> prompt_of(Record(id="q1", prompt="Who?", completion="Ana")), prompt_of(Record(id="t", text="Dear Ana"))
    ('Who?', None)
    """
    if record.messages is None:
        return record.prompt or None
    place = _turn(record)
    return None if place is None else record.messages[place].content


def in_other_words(record: Record, words: str) -> Record:
    """The record with ``words`` in place of what `prompt_of` gives.

    >>> in_other_words(Record(id="q1", prompt="Who?", completion="Ana"), "Which person?").prompt
    'Which person?'
    """
    if record.messages is None:
        return replace(record, prompt=words, spans=())
    place = _turn(record)
    turns = [replace(turn, content=words) if at == place else turn for at, turn in enumerate(record.messages)]
    return replace(record, messages=tuple(turns), spans=())


def _turn(record: Record) -> int | None:
    """Place of the turn that the first trained one answers."""
    turns = record.messages or ()
    first = next((place for place, turn in enumerate(turns) if turn.is_learned), 0)
    return first - 1 if first and turns[first - 1].role != "system" else None


def _rows(source: str | Path | Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(source, Mapping):
        for identity, words in source.items():
            yield f"the paraphrase of {identity!r}", {IDS[0]: identity, PARAPHRASES[0]: words}
        return
    if str(source).lower().removesuffix(".gz").endswith(JSON):
        yield from json_rows(source)
        return
    for row in rows_of(str(source)):
        if isinstance(row, BadRow):
            raise BadInput(row.place, row.why, row.fix)
        yield row.place, row.fields


def _field(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), None)
