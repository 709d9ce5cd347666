# SPDX-License-Identifier: Apache-2.0
"""The callbacks that `reticent tune` adds to a training that is monitored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.canaries import Canary
from reticent.models.load import load_tokenizer
from reticent.models.tuning.method import TUNINGS
from reticent.monitor.config import MonitorConfig
from reticent.monitor.monitor import Monitor
from reticent.monitor.panel import fitting_panel, make_panel
from reticent.monitor.risk_list import RISKS, RiskList
from reticent.train.config import BATCH_SIZE, EPOCHS, TuneConfig


def watching(
    config: MonitorConfig,
    base: str,
    records: Sequence[Record],
    membership: Membership,
    canaries: Sequence[Canary],
    *,
    trained: Sequence[Record],
    training: TuneConfig,
    out: Path,
) -> list[Any]:
    """The callbacks that ``config`` asks for.

    Args:
        config: what to watch.
        base: folder, hub id or catalogue name of the model before training.
        records: all that coins were thrown for.
        membership: of ``records``.
        canaries: secrets and controls.
        trained: what is trained on.
        training: how.
        out: the run folder.
    """
    tokenizer = load_tokenizer(base)
    callbacks: list[Any] = []
    if config.watches:
        settled = training.settled(TUNINGS.get(training.method).learning_rate)
        if config.monitor_panel is not None:
            panel = make_panel(records, membership, canaries, size=config.monitor_panel)
        else:
            panel = fitting_panel(
                records,
                membership,
                canaries,
                trained=trained,
                epochs=settled.epochs or EPOCHS,
                batch_size=settled.batch_size or BATCH_SIZE,
                every=config.monitor_every,
                tokenizer=tokenizer,
                max_tokens=training.max_tokens,
            )
        callbacks.append(
            Monitor(panel, tokenizer, out, config=config, max_tokens=training.max_tokens, dtype=training.dtype)
        )
    if config.risk_list:
        members = [record for record, inside in zip(records, membership.member, strict=True) if inside]
        callbacks.append(
            RiskList(
                records=members,
                tokenizer=tokenizer,
                path=out / RISKS,
                at=config.risk_at,
                max_tokens=training.max_tokens,
                dtype=training.dtype,
            )
        )
    return callbacks
