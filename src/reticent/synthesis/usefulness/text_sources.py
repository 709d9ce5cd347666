# SPDX-License-Identifier: Apache-2.0
"""Texts that models learn from, to see what each source is worth: real, synthetic, half of each, as many of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reticent.core.record import Record
from reticent.core.text_utility import HALF, REAL, SYNTHETIC
from reticent.data.coin import uniform


@dataclass(frozen=True, kw_only=True)
class WrittenText:
    """A synthetic text with its topic; empty where it has none."""

    text: str
    topic: str = ""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """The texts that one model learns from.

    Args:
        name: of the synthetic texts; "real" for real ones.
        source: see `reticent.core.text_utility.SOURCES`.
        records: in an order that chance chose.
    """

    name: str
    source: str
    records: tuple[Record, ...]

    def key(self, about: str) -> str:
        """SHA-256 (hex) of the texts and of ``about``, all else that decides what comes of them."""
        texts = [[record.prompt, record.text, record.completion] for record in self.records]
        return hashlib.sha256(json.dumps([about, texts], ensure_ascii=True).encode()).hexdigest()


def labels_of(real: Sequence[Record], written: Sequence[Sequence[WrittenText]]) -> tuple[str, ...]:
    """The labels of real text: prompts that several records have, where synthetic texts have them too; else none.

    Args:
        real: all real records.
        written: each of the synthetic samples.

    Examples:
        >>> film = [Record(id=str(n), prompt=("bad", "good")[n % 2], completion=f"film {n}") for n in range(8)]
        >>> labels_of(film, [[WrittenText(text="well made", topic="good")]])
        ('bad', 'good')
        >>> labels_of(film, [[WrittenText(text="well made")]])
        ()
    """
    if not all(record.prompt is not None for record in real):
        return ()
    prompts = sorted({(record.prompt or "").strip() for record in real})
    has_labels = all(text.topic in prompts for sample in written for text in sample)
    return tuple(prompts) if has_labels and 2 <= len(prompts) <= min(MOST_LABELS, len(real) // 4) else ()


MOST_LABELS = 32
"""More prompts than that are no labels."""


def as_judged(records: Sequence[Record], labels: Sequence[str]) -> list[Record]:
    """Real records in the shape that models learn and are judged by: with their label before them, or plain text."""
    if labels:
        return [replace(record, prompt=(record.prompt or "").strip(), spans=()) for record in records]
    return [Record(id=record.id, text=record.plain, user=record.user) for record in records]


def as_learned(written: Sequence[WrittenText], labels: Sequence[str]) -> list[Record]:
    """Synthetic texts in the same shape; empty ones are left out."""
    texts = [text for text in written if text.text.strip()]
    if labels:
        return [Record(id=f"s{n:06d}", prompt=text.topic, completion=text.text) for n, text in enumerate(texts)]
    return [Record(id=f"s{n:06d}", text=text.text) for n, text in enumerate(texts)]


def chosen(records: Sequence[Record], most: int, *, seed: int, purpose: str) -> tuple[Record, ...]:
    """At most so many records by keyed chance, in the order of that chance."""
    return tuple(sorted(records, key=lambda record: uniform(seed, purpose, record.id))[:most])


def lessons(real: Sequence[Record], samples: Sequence[tuple[str, Sequence[Record]]], *, texts: int,
            seed: int) -> list[Lesson]:  # fmt: skip
    """Real text, then each sample by itself and with half of it replaced by real text.

    Args:
        real: records that were read.
        samples: names and records of synthetic texts.
        texts: of each lesson.
        seed: of the choice.
    """
    taught = [Lesson(name=REAL, source=REAL, records=chosen(real, texts, seed=seed, purpose="lesson"))]
    for name, sample in samples:
        synthetic = chosen(sample, texts, seed=seed, purpose="lesson")
        half = (*taught[0].records[: texts // 2], *synthetic[: texts - texts // 2])
        taught += [Lesson(name=name, source=SYNTHETIC, records=synthetic), Lesson(name=name, source=HALF, records=half)]
    return taught
