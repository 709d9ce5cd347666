# SPDX-License-Identifier: Apache-2.0
"""Tiny tuned models that know some rows, one for each tuning, and short unlearnings that go on from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from reticent.core.record import Record
from reticent.models.load import load
from reticent.testing.tiny import save_tiny, tiny_tokenizer
from reticent.testing.unlearned import KnownRows, number_rows
from reticent.train.batches import encode_all
from reticent.train.config import TuneConfig
from reticent.train.held_out import held_out_loss
from reticent.train.objectives.unlearning import Unlearning
from reticent.train.trainer import tune

MAX_TOKENS = 32
TUNINGS = {"full": 1e-2, "lora": 3e-2}
"""Learning rates by which the rows are learned by heart in a second."""


class ShortUnlearning(Protocol):
    """See `unlearned`."""

    def __call__(
        self,
        tuning: str,
        method: str,
        out: Path,
        *,
        rate: float,
        params: dict[str, Any] | None = None,
        epochs: int = 2,
        **more: Any,
    ) -> Path: ...


@pytest.fixture(scope="session")
def rows() -> KnownRows:
    """Rows to be forgotten, never seen, and to be retained."""
    return number_rows(forget=8, unseen=8, retain=12)


@pytest.fixture(scope="session")
def tuned_models(once_a_run: Callable[[str, Callable[[Path], None]], Path], rows: KnownRows) -> Callable[[str], Path]:
    """By the name of a tuning, the folder of a model that knows rows to be forgotten and to be retained."""

    def tuned(tuning: str) -> Path:
        training = TuneConfig(
            method=tuning, epochs=20, learning_rate=TUNINGS[tuning], max_tokens=MAX_TOKENS, dtype="float32"
        )

        def fill(folder: Path) -> None:
            tune(str(save_tiny(folder / "base")), [*rows.forget, *rows.retain], folder / "tuned", training)

        return once_a_run(f"to-be-unlearned-{tuning}", fill) / "tuned"

    return tuned


@pytest.fixture(scope="session")
def unlearned(tuned_models: Callable[[str], Path], rows: KnownRows) -> ShortUnlearning:
    """Goes on from the tuned model to forget the rows, in batches of four; the folder of the outcome."""

    def unlearn(
        tuning: str,
        method: str,
        out: Path,
        *,
        rate: float,
        params: dict[str, Any] | None = None,
        epochs: int = 2,
        **more: Any,
    ) -> Path:
        training = TuneConfig(
            method=tuning,
            epochs=epochs,
            learning_rate=rate,
            batch_size=4,
            max_tokens=MAX_TOKENS,
            warmup=0.0,
            weight_decay=0.0,
            dtype="float32",
        )
        return tune(
            str(tuned_models(tuning)),
            rows.forget,
            out,
            training,
            objectives=[Unlearning(method=method, params=params or {})],
            record_sets={"retain": rows.retain, "unseen": rows.unseen},
            goes_on=True,
            request="a request",
            **more,
        )

    return unlearn


@pytest.fixture(scope="session")
def loss_of() -> Callable[[Path, Sequence[Record]], float]:
    """Mean loss (nats a token) of records under the model in a folder."""

    def loss(folder: Path, records: Sequence[Record]) -> float:
        encoded = encode_all(records, tiny_tokenizer(), MAX_TOKENS).encoded
        model = load(str(folder), dtype="float32").model
        return held_out_loss(model, encoded, size=8, pad=0, bfloat16=False)

    return loss
