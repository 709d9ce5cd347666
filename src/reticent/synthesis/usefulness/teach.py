# SPDX-License-Identifier: Apache-2.0
"""Let a small model learn from each source of texts, and judge all of them on the same real held-out texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reticent.core.atomic import write_text
from reticent.core.record import Record
from reticent.synthesis.usefulness.judged_losses import JudgedLosses, judged_losses, losses_on_record
from reticent.synthesis.usefulness.text_sources import Lesson
from reticent.train.config import TuneConfig

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """A model before training, how it is trained, and what it is judged on.

    Args:
        base: the model: a folder, hub id or catalogue name.
        fingerprint: of its weights.
        training: how it learns.
        judged: real held-out records.
        labels: that can stand before them; none for plain text.
        folder: where models lie while they are trained, and losses of those that are done.
    """

    base: str
    fingerprint: str
    training: TuneConfig
    judged: Sequence[Record]
    labels: Sequence[str]
    folder: Path

    def untrained(self, loaded: LoadedModel) -> JudgedLosses:
        """Losses of the model before training."""
        return judged_losses(loaded, self.judged, self.labels, max_tokens=self.training.max_tokens)

    def taught(self, lesson: Lesson) -> JudgedLosses:
        """Losses of the model that learned from ``lesson``. What was done before is not done again; a training that was
        killed goes on; weights are deleted once they are judged.

        Raises:
            BadInput: the texts cannot be trained on.
        """
        from reticent.models.load import load
        from reticent.train.trainer import tune

        key = lesson.key(self._about)[:32]
        done, place = self.folder / f"{key}.json", self.folder / key
        earlier = _read(done, len(self.judged), len(self.labels))
        if earlier is not None:
            return earlier
        model = tune(self.base, lesson.records, place / "model", self.training)
        loaded = load(str(model), dtype=self.training.dtype, device=self.training.device)
        losses = judged_losses(loaded, self.judged, self.labels, max_tokens=self.training.max_tokens)
        write_text(done, json.dumps(losses.on_record))
        shutil.rmtree(place, ignore_errors=True)
        return losses

    @property
    def _about(self) -> str:
        judged = [[record.prompt, record.text, record.completion] for record in self.judged]
        return json.dumps([self.fingerprint, self.training.on_record, judged, list(self.labels)], ensure_ascii=True)


def taught_all(
    teacher: Teacher, given: Sequence[Lesson], advance: Callable[[int], None] = lambda done: None
) -> list[JudgedLosses]:
    """Losses by lesson, in order."""
    losses = []
    for lesson in given:
        losses.append(teacher.taught(lesson))
        advance(1)
    return losses


def _read(path: Path, texts: int, labels: int) -> JudgedLosses | None:
    """Losses of an earlier call; None where there are none, or they are broken."""
    try:
        losses = losses_on_record(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    whole = losses.nats.shape == losses.tokens.shape == (texts,) and losses.by_label.shape == (texts, labels)
    return losses if whole else None
