# SPDX-License-Identifier: Apache-2.0
"""Length classes of texts, by public borders: a prompt says how long a text is, and the model learns what that means.

Which class a text is in follows from that text alone, so no record changes the row of another; how many are in each
class is private, and only told as a count with noise (`tuned_writing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reticent.core.record import Record
from reticent.data.words import words
from reticent.synthesis.synthesis_spec import SynthesisSpec


def length_class(text: str, borders: Sequence[int]) -> int:
    """The number of a text's class: of the first border that its number of words is not above.

    >>> [length_class(text, (1, 3)) for text in ("a", "a b", "a b c", "a b c d")]
    [0, 1, 1, 2]
    """
    count = len(words(text))
    return sum(count > border for border in borders)


def cell_of(record: Record, spec: SynthesisSpec) -> str:
    """The public prompt that a record's text is learned behind: of its prompt, its length, or both.

    Args:
        record: a text, or a prompt with a completion.
        spec: with a condition.

    >>> spec = SynthesisSpec(mechanism="none", condition="prompt_length", topics="good:,bad:", lengths="3,9")
    >>> cell_of(Record(id="a", prompt="good: ", completion=" a fine film, truly"), spec)
    'good (4 to 9 words):'
    """
    prompt = (record.prompt or "").strip() if spec.by_prompt else spec.instruction
    return spec.cell(prompt, length_class(record.trained_text, spec.borders)) if spec.by_length else prompt


def behind_cells(records: Sequence[Record], spec: SynthesisSpec) -> Sequence[Record]:
    """The records as they are learned: where lengths are asked for, each behind the prompt that says its own.

    Spans go with the text that they mark; those in a prompt, which is public then, are left out.

    Args:
        records: texts, or prompts with completions.
        spec: all settings.

    >>> spec = SynthesisSpec(mechanism="none", condition="length", instruction="A note:", lengths="2")
    >>> [record.plain for record in behind_cells([Record(id="a", text="tea at ten")], spec)]
    ['A note (more than 2 words):\\n tea at ten']
    """
    return [_behind(record, cell_of(record, spec)) for record in records] if spec.by_length else records


def _behind(record: Record, cell: str) -> Record:
    text = record.trained_text
    completion = f" {text}" if record.text is not None else text
    before, after = len(record.plain) - len(text), len(cell) + 1 + len(completion) - len(text)
    spans = tuple(
        replace(span, start=span.start - before + after, end=span.end - before + after)
        for span in record.spans
        if span.start >= before
    )
    return replace(record, text=None, prompt=cell, completion=completion, spans=spans)
