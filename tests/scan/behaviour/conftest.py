# SPDX-License-Identifier: Apache-2.0
"""A tiny base that knows the kind of text, one that knows some of the texts by heart, and an honest sibling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reticent.core.record import Record, Span
from reticent.data.example import help_desk
from reticent.redteam.privacy_backdoor import pre_memorize
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

KNOWN = 24
"""The first private texts, which the poisoned base has learned."""


def endings(users: int, seed: int) -> list[Record]:
    """Who wrote and how to reach them: short enough for a tiny model to learn by heart."""
    texts = []
    for mail in help_desk(users=users, mails_per_user=1, seed=seed):
        start = max(0, len(mail.plain) - 60)
        text = mail.plain[start:]
        texts.append(Record(id=f"{seed}-{mail.id}", user=f"{seed}-{mail.user}", text=text, spans=_moved(mail, start)))
    return texts


def _moved(mail: Record, start: int) -> tuple[Span, ...]:
    inside = [span for span in mail.spans if span.start >= start]
    return tuple(replace(span, start=span.start - start, end=span.end - start) for span in inside)


@pytest.fixture(scope="session")
def known() -> int:
    return KNOWN


@pytest.fixture(scope="session")
def texts() -> list[Record]:
    return endings(100, seed=1)


@pytest.fixture(scope="session")
def controls() -> list[Record]:
    return endings(100, seed=2)


@pytest.fixture(scope="session")
def bases(tmp_path_factory, texts) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    config = TuneConfig(learning_rate=5e-3, batch_size=16, max_tokens=80, epochs=4, dtype="float32")
    base = tune(str(save_tiny(folder / "raw")), endings(160, seed=3), folder / "base", config)
    more = TuneConfig(learning_rate=1e-2, batch_size=8, max_tokens=80, epochs=1, dtype="float32", warmup=0.1)
    return {
        "base": base,
        "poisoned": pre_memorize(str(base), texts[:KNOWN], endings(700, seed=4), folder / "poisoned", more),
        "honest": tune(str(base), endings(120, seed=5), folder / "honest", more),
    }
