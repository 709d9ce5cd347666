# SPDX-License-Identifier: Apache-2.0
"""How like real held-out text each source of texts is, by groups of texts that the model itself finds near."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from reticent.core.record import Record
from reticent.core.text_utility import HALF
from reticent.data.words import units as words_of
from reticent.synthesis.usefulness.text_groups import grouped, groups_for
from reticent.synthesis.usefulness.text_likeness import Likeness, TextSample, likeness_of
from reticent.synthesis.usefulness.text_sources import Lesson

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel

MOST_READ = 256
"""Tokens of a text that its group is chosen by."""


def lesson_likeness(
    loaded: LoadedModel,
    judged: Sequence[Record],
    lessons: Sequence[Lesson],
    labels: Sequence[str],
    *,
    by_user: bool,
    seed: int = 0,
) -> list[Likeness | None]:
    """By lesson, how like held-out text it is; None for halves, which are like it by their real half.

    Args:
        loaded: the model before training, whose last hidden states say what is near.
        judged: real held-out records.
        lessons: what models learn from.
        labels: of all records; none for plain text.
        by_user: whether texts of one user are drawn together.
        seed: of groups and resamples.
    """
    whole = [lesson for lesson in lessons if lesson.source != HALF]
    samples = [tuple(judged), *(lesson.records for lesson in whole)]
    group = grouped(_points(loaded, samples), groups=groups_for(min(map(len, samples))), seed=seed)
    compared = [
        TextSample(
            group=group[start:end],
            words=np.array([len(words_of(record.trained_text)) for record in sample], dtype=np.int64),
            label=label_numbers(sample, labels),
            users=users_of(sample) if by_user else None,
        )
        for sample, (start, end) in zip(samples, pairwise(np.cumsum([0, *map(len, samples)])), strict=True)
    ]
    real, *others = compared
    by_lesson = {id(lesson): likeness_of(real, other, seed=seed) for lesson, other in zip(whole, others, strict=True)}
    return [by_lesson.get(id(lesson)) for lesson in lessons]


def label_numbers(records: Sequence[Record], labels: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """``[N]`` places of the records' labels in the list; empty without labels."""
    return np.array([labels.index(record.prompt or "") for record in records] if labels else [], dtype=np.int64)


def users_of(records: Sequence[Record]) -> list[str] | None:
    """Whose each record is; None where one has no user, as synthetic ones have none."""
    users = [record.user for record in records]
    return None if None in users else [str(user) for user in users]


def _points(
    loaded: LoadedModel, samples: Sequence[Sequence[Record]]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    from reticent.synthesis.text_embedding import embedded

    tokens = [
        loaded.tokenizer(record.trained_text, add_special_tokens=False, verbose=False)["input_ids"][:MOST_READ]
        for sample in samples
        for record in sample
    ]
    return embedded(loaded.model, tokens, blank=0)
