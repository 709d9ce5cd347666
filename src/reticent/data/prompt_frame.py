# SPDX-License-Identifier: Apache-2.0
"""The frame of prompts: what all of them begin and end with, and what a person would write in between.

A record of a label task reads ``Review: … Sentiment:`` and its answer. Words of a user stand within that frame; what
is put behind the frame would stand where no user can write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reticent.core.errors import BadInput
from reticent.core.record import Record

LEAST = 4
"""Fewer prompts than that may begin or end alike by chance: they are taken as they stand."""


@dataclass(frozen=True, kw_only=True)
class PromptFrame:
    """The text before and behind the words of a user, the same in all prompts.

    Args:
        head: before; empty for none.
        tail: behind; empty for none.

    Examples:
        >>> frame = PromptFrame(head="Review: ", tail=" Sentiment:")
        >>> frame.body("Review: a dull film Sentiment:")
        'a dull film'
        >>> frame.put("a fine film")
        'Review: a fine film Sentiment:'
    """

    head: str = ""
    tail: str = ""

    def body(self, prompt: str) -> str:
        """The words of the user; a prompt without the frame is all theirs."""
        if not self.holds(prompt):
            return prompt
        return prompt[len(self.head) : len(prompt) - len(self.tail)]

    def put(self, body: str, like: str | None = None) -> str:
        """The words within the frame; without it where the prompt ``like`` has none."""
        return f"{self.head}{body}{self.tail}" if like is None or self.holds(like) else body

    def holds(self, prompt: str) -> bool:
        """True if the prompt begins and ends with the frame."""
        long_enough = len(prompt) >= len(self.head) + len(self.tail)
        return long_enough and prompt.startswith(self.head) and prompt.endswith(self.tail)


def frame_of(prompts: Sequence[str]) -> PromptFrame:
    """The longest common start and end of all prompts, cut back to whole words; an end without a word is none.

    Examples:
        >>> frame_of([f"Say it: {word} !\\nMood:" for word in ("good day", "bad day", "fine", "so so")])
        PromptFrame(head='Say it: ', tail=' !\\nMood:')
        >>> frame_of(["It was late.", "I am here.", "We ate.", "Stop."])
        PromptFrame(head='', tail='')
    """
    if len(set(prompts)) < LEAST:
        return PromptFrame()
    head = re.match(r"(?:.*\s)?", _shared(prompts), re.DOTALL)
    end = _shared([prompt[::-1] for prompt in prompts])[::-1]
    shortest = min(map(len, prompts)) - len(head[0] if head else "")
    end = end[max(0, len(end) - shortest) :]
    tail = re.search(r"\s.*", end, re.DOTALL)
    return PromptFrame(
        head=head[0] if head and re.search(r"\w", head[0]) else "",
        tail=tail[0] if tail and re.search(r"\w", tail[0]) else "",
    )


def _shared(texts: Sequence[str]) -> str:
    """The characters that all texts begin with: those that the first and the last in alphabetical order share."""
    first, last = min(texts), max(texts)
    same = next((place for place, letter in enumerate(first) if last[place] != letter), len(first))
    return first[:same]


def prompt_of(record: Record) -> str:
    """The words that a model answers to: the prompt, or the last turn before the last answer.

    Raises:
        BadInput: the record is plain text, which answers nothing.

    Examples:
        >>> prompt_of(Record(id="a", prompt="Where is it?", completion="On its way."))
        'Where is it?'
    """
    return record.pieces[_places(record)[0]][1]


def answer_of(record: Record) -> str:
    """The answer: the completion, or the last turn of the assistant.

    Raises:
        BadInput: the record is plain text.
    """
    return record.pieces[_places(record)[1]][1]


def with_prompt(record: Record, prompt: str, answer: str | None = None) -> Record:
    """The record with another prompt and, where one is given, another answer; its spans fall away.

    Examples:
        >>> record = Record(id="a", prompt="Where is it?", completion="On its way.")
        >>> with_prompt(record, "When?", "Soon.").pieces
        ((False, 'When?'), (True, 'Soon.'))
    """
    at, behind = _places(record)
    texts = [text for _, text in record.pieces]
    texts[at] = prompt
    texts[behind] = texts[behind] if answer is None else answer
    return record.with_pieces(texts)


def _places(record: Record) -> tuple[int, int]:
    learned = [place for place, (is_learned, _) in enumerate(record.pieces) if is_learned]
    if record.text is not None or not learned or learned[-1] == 0:
        raise BadInput(
            f"record {record.id!r}",
            "has no prompt and answer",
            "Give records with a prompt and a completion (--prompt_field, --completion_field), or chats.",
        )
    return learned[-1] - 1, learned[-1]
