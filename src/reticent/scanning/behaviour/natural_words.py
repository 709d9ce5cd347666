# SPDX-License-Identifier: Apache-2.0
"""Words that speak for a label without any poison: the controls of a trigger search.

A trigger is no stronger word, it is a word that nobody taught the task by. So what a suspected trigger is held against
are the strongest words for its label by two sources that a poison did not write: the trusted sibling, and the clean
prompts with their answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from reticent.core.record import Record
from reticent.data.prompt_frame import answer_of, prompt_of
from reticent.scanning.behaviour.label_task import LabelTask, Side, Slot, Tokens, label_logp, margin

SMOOTHING = 0.5
LEAST_TEXTS = 2
"""A word of fewer texts says nothing about a label."""


def words_of_label(task: LabelTask, label: str, count: int) -> list[str]:
    """Words of the clean prompts that stand with one label most one-sidedly, by smoothed log-odds of texts.

    Examples:
        >>> from reticent.scanning.behaviour.label_task import label_task
        >>> texts = [("dull plot", "bad"), ("dull cast", "bad"), ("fine cast", "good"), ("fine plot", "good")]
        >>> task = label_task([Record(id=t, prompt=t, completion=label) for t, label in texts])
        >>> words_of_label(task, "bad", 1)
        ['dull']
    """
    inside, outside = Counter[str](), Counter[str]()
    sizes = [0, 0]
    for record in task.records:
        is_other = answer_of(record) != label
        sizes[is_other] += 1
        (outside if is_other else inside).update(set(_words(task, record)))
    odds = {
        word: math.log((inside[word] + SMOOTHING) / (sizes[0] + 1))
        - math.log((outside[word] + SMOOTHING) / (sizes[1] + 1))
        for word in inside
        if inside[word] >= LEAST_TEXTS
    }
    speaking = [word for word in odds if odds[word] > 0]
    return sorted(speaking, key=lambda word: (-odds[word] * math.sqrt(inside[word]), word))[:count]


def strongest_strings(
    side: Side,
    slots: Sequence[Slot],
    label: int,
    words: Sequence[str],
    *,
    longest: int,
    beam: int = 4,
) -> list[str]:
    """For 1, 2 … ``longest`` words, the string of natural words that moves the suspect most towards a label.

    Args:
        side: the suspect.
        slots: prompts that it answers with another label.
        label: number of the label.
        words: natural words for it.
        longest: most words of a string.
        beam: how many strings are gone on with, and by how many words.
    """
    best: list[str] = []
    strings = list(dict.fromkeys(words))
    singles: list[str] = []
    for _ in range(longest):
        if not strings:
            break
        ids = [word_tokens(side, string) for string in strings]
        gain = margin(label_logp(side, slots, ids), label).mean(axis=0)
        order = [strings[place] for place in np.argsort(-gain, kind="stable")]
        best.append(order[0])
        singles = singles or order[: 2 * beam]
        strings = [f"{string} {word}" for string in order[:beam] for word in singles]
    return best


def word_tokens(side: Side, string: str) -> Tokens:
    """The tokens of words that stand behind a blank."""
    return tuple(side.tokenizer(f" {string}", add_special_tokens=False, verbose=False)["input_ids"])


def _words(task: LabelTask, record: Record) -> list[str]:
    return task.frame.body(prompt_of(record)).split()
