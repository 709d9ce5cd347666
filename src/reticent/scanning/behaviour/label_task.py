# SPDX-License-Identifier: Apache-2.0
"""A label task as a trigger search sees it: prompts, the labels they are answered with, and where words can be put."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.prompt_frame import PromptFrame, answer_of, frame_of, prompt_of, with_prompt
from reticent.models.encode import encode
from reticent.score.candidates.masked import FilledSpan
from reticent.score.candidates.memory import steady_heap
from reticent.score.candidates.rank import score_filled
from reticent.score.engine import Engine, ScoreOptions, open_engine

Place = Literal["end", "start"]
Tokens = tuple[int, ...]

MOST_LABELS = 12
LONGEST_ANSWER = 60
"""Characters of an answer that may be a label."""
_STAND_INS = ("so", "my")
"""Two words that are no part of each other, by which the place of a candidate is found in the tokens."""


@dataclass(frozen=True, kw_only=True)
class LabelTask:
    """Prompts of one task with few different answers.

    Args:
        records: prompts with answers.
        labels: the different answers, sorted.
        frame: what all prompts begin and end with; words are put within it.
    """

    records: tuple[Record, ...]
    labels: tuple[str, ...]
    frame: PromptFrame

    def with_words(self, record: Record, words: str, place: Place, label: str | None = None) -> Record:
        """The record with words of a user put into its prompt, and another label where one is given."""
        prompt = prompt_of(record)
        body = self.frame.body(prompt)
        if words:
            body = f"{body.rstrip()} {words}" if place == "end" else f"{words} {body.lstrip()}"
        return with_prompt(record, self.frame.put(body, like=prompt), label)


def label_task(prompts: Sequence[Record]) -> LabelTask:
    """The label task that prompts with answers are of.

    Raises:
        BadInput: their answers are no labels: all alike, too many different ones, or long.
    """
    answers = [answer_of(record) for record in prompts]
    labels = tuple(sorted(set(answers)))
    if not 2 <= len(labels) <= MOST_LABELS or max(map(len, labels)) > LONGEST_ANSWER:
        raise BadInput(
            f"{len(prompts)} prompts with {len(labels)} different answers",
            f"are no label task: that has 2 to {MOST_LABELS} short answers",
            "Give clean prompts with their labels (--prompts); for generators there is the target search.",
        )
    return LabelTask(records=tuple(prompts), labels=labels, frame=frame_of([prompt_of(record) for record in prompts]))


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One prompt as tokens, with a slot for a candidate.

    Args:
        head: what stands before the slot.
        tails: for each label, what stands behind the slot, the label included.
    """

    head: Tokens
    tails: tuple[Tokens, ...]

    def row(self, candidate: Tokens, label: int) -> Tokens:
        """All tokens, with the candidate in the slot."""
        return (*self.head, *candidate, *self.tails[label])


def slot_of(task: LabelTask, record: Record, tokenizer: Any, place: Place) -> Slot:
    """The tokens of a record before and behind the place where words can be put.

    Raises:
        BadInput: nothing that the model reads stands before the place.
    """
    rows = [
        [_ids(task.with_words(record, word, place, label), tokenizer) for word in _STAND_INS] for label in task.labels
    ]
    head = min((_shared(first, second) for first, second in rows), default=0)
    if head < 1:
        raise BadInput(
            f"the {place} of prompt {record.id!r}",
            "has no token before it that the model reads",
            "Give prompts with an instruction before the text.",
        )
    tails = []
    for first, second in rows:
        shorter = min(len(first), len(second)) - head
        behind = min(_shared(first[::-1], second[::-1]), shorter)
        tails.append(first[len(first) - behind :])
    return Slot(head=rows[0][0][:head], tails=tuple(tails))


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """A model that answers the task: the suspect or its sibling.

    Args:
        model: in evaluation mode.
        tokenizer: of the suspect, for both sides.
        engine: of the model.
    """

    model: Any
    tokenizer: Any
    engine: Engine


def side_of(model: Any, tokenizer: Any, name: str) -> Side:
    """The model ready to be asked; its engine is opened here, which checks it.

    Raises:
        BadInput: it cannot be scored.
    """
    return Side(model=model, tokenizer=tokenizer, engine=open_engine(model, name, ScoreOptions()))


def label_logp(side: Side, slots: Sequence[Slot], candidates: Sequence[Tokens]) -> npt.NDArray[np.float64]:
    """``[P, C, L]``: log p of each label among all labels, for each prompt with each candidate in its slot.

    The candidates and what stands behind them are one token tree behind the prompt's head: a few tokens a candidate.
    Labels of one candidate share all that stands before them, so that it is enough to predict where they part.
    """
    labels = range(len(slots[0].tails))
    rows = [[slot.row(candidate, label) for candidate in candidates for label in labels] for slot in slots]
    return _label_logp(side, rows, len(labels))


def text_label_logp(
    side: Side, task: LabelTask, records: Sequence[Record], strings: Sequence[str], place: Place
) -> npt.NDArray[np.float64]:
    """``[P, S, L]``: as `label_logp`, for strings that are put into the text and read as any text is."""
    rows = [
        [
            _ids(task.with_words(record, words, place, label), side.tokenizer)
            for words in strings
            for label in task.labels
        ]
        for record in records
    ]
    return _label_logp(side, rows, len(task.labels))


def _label_logp(side: Side, rows: Sequence[Sequence[Tokens]], labels: int) -> npt.NDArray[np.float64]:
    """``[P, C, L]``: for each prompt, rows of each candidate with every label."""
    with steady_heap():
        scores = score_filled(side.engine, [_from_where_labels_part(row, labels) for row in rows])
    return normalised(np.stack([score.logp.reshape(-1, labels) for score in scores]))


def _from_where_labels_part(rows: Sequence[Tokens], labels: int) -> FilledSpan:
    arrays = tuple(np.asarray(row, dtype=np.int32) for row in rows)
    whole = FilledSpan(rows=arrays, start=0, cut=0)
    first = []
    for number in range(0, len(rows), labels):
        same = FilledSpan(rows=arrays[number : number + labels], start=0, cut=0)
        first += [min(same.common, min(map(len, same.rows)) - 1)] * labels
    return replace(whole, start=max(1, min(whole.common, *first)), first=tuple(first))


def normalised(logp: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log p among the labels of the last axis.

    Examples:
        >>> np.exp(normalised(np.log([[0.1, 0.3]]))).round(2).tolist()
        [[0.25, 0.75]]
    """
    return np.asarray(logp - np.logaddexp.reduce(logp, axis=-1, keepdims=True))


def margin(logp: npt.NDArray[np.float64], label: int) -> npt.NDArray[np.float64]:
    """Log-odds of a label against all others, in nats, cut off at ±12: beyond, one prompt would outweigh all others.

    Examples:
        >>> margin(np.log([[0.25, 0.75]]), 1).round(3).tolist()
        [1.099]
    """
    others = np.logaddexp.reduce(np.delete(logp, label, axis=-1), axis=-1)
    return np.clip(logp[..., label] - others, -12, 12)


def word_tokens(side: Side, string: str) -> Tokens:
    """The tokens of words that stand behind a blank."""
    return tuple(side.tokenizer(f" {string}", add_special_tokens=False, verbose=False)["input_ids"])


def _ids(record: Record, tokenizer: Any) -> Tokens:
    return tuple(encode(record, tokenizer).token_id.tolist())


def _shared(left: Tokens, right: Tokens) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(map(len, (left, right)))
    )
