# SPDX-License-Identifier: Apache-2.0
"""The monitor on a Trainer's own data: its training set against its evaluation set, logged where the Trainer logs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.snapshot import Snapshot
from reticent.data.read import read
from reticent.data.split import from_files
from reticent.models.encode import EncodedRecord, encode
from reticent.monitor.config import MonitorConfig
from reticent.monitor.monitor import Monitor
from reticent.monitor.panel import make_panel

SIZE = 200
"""Records of each side: enough for an AUC within ± 0.06."""
IGNORED = -100
PREFIX = "reticent/"
"""Begins the names of logged numbers."""
LOGGED = {
    "gap": "gap",
    "tpr@0.1": "tpr_at_10pct_fpr",
    "auc": "auc",
    "tpr@0.01": "tpr_at_1pct_fpr",
    "user_auc": "user_auc",
    "canary_user_auc": "canary_user_auc",
    "copied": "copied",
}
"""The logged metrics, with the field of a snapshot that each is."""


def monitor_trainer(
    trainer: Any,
    *,
    size: int = SIZE,
    out: str | Path | None = None,
    config: MonitorConfig | None = None,
    max_tokens: int | None = None,
    dtype: str = "auto",
    **fields: Any,
) -> Monitor:
    """Add a monitor to a ``transformers.Trainer`` or TRL's ``SFTTrainer``, over its own training and evaluation data.

    Members are drawn from ``trainer.train_dataset``, held-out records from ``trainer.eval_dataset``. Data sets that are
    tokenised already (``input_ids``, with ``labels``, ``completion_mask`` or ``assistant_masks`` where only a part is
    trained on) are read as they are; others by their fields, as `reticent.read` does. After each look the numbers go
    through ``trainer.log``, as ``reticent/auc`` and so on, so every tracker of the Trainer shows them.

    Evaluation rows that are trained on as well are left out. No coin decided who is in which set, so a difference that
    the two sets have without any training shows too: look at the numbers before the first step, and audit the trained
    model for a verdict.

    Args:
        trainer: before ``train()``.
        size: records of each side.
        out: folder of ``monitor.json`` and ``panel.parquet``; None keeps all in memory.
        config: how often to look, and when to stop.
        max_tokens: records that are not tokenised are cut off behind this many tokens, as in training.
        dtype: what looks compute in.
        fields: names of fields, as in `reticent.read`.

    Returns:
        The monitor, which the trainer has now; its property ``watch`` is what was seen.

    Raises:
        BadInput: the trainer has no evaluation set, no tokenizer, or rows that cannot be read.
    """
    tokenizer = getattr(trainer, "processing_class", None) or getattr(trainer, "tokenizer", None)
    if tokenizer is None or not hasattr(tokenizer, "get_vocab"):
        raise BadInput("the trainer", "has no tokenizer", "Give it one (processing_class=tokenizer).")
    sides = {"train_dataset": "m", "eval_dataset": "h"}
    encoded: dict[str, EncodedRecord] = {}
    records = [
        _records(_rows(trainer, name), prefix, tokenizer, encoded, max_tokens=max_tokens, fields=fields)
        for name, prefix in sides.items()
    ]
    trained = {encoded[record.id].token_id.tobytes() for record in records[0]}
    held_out = [record for record in records[1] if encoded[record.id].token_id.tobytes() not in trained]
    if not held_out:
        raise BadInput("trainer.eval_dataset", "holds no row that is not trained on", "Keep some rows out of training.")
    membership = from_files(records[0], held_out, known_fraction=0.0)
    panel = make_panel([*records[0], *held_out], membership, size=size)
    monitor = Monitor(
        panel,
        tokenizer,
        out,
        config=config,
        max_tokens=max_tokens,
        dtype=dtype,
        rows=[encoded[record.id] for record in panel.records],
        log=lambda snapshot: trainer.log(logged(snapshot)),
    )
    trainer.add_callback(monitor)
    return monitor


def logged(snapshot: Snapshot) -> dict[str, float]:
    """The numbers of a snapshot under the names that trackers show, each with the ends of its interval."""
    estimates = {name: getattr(snapshot, field) for name, field in LOGGED.items()}
    numbers = {}
    for name, estimate in estimates.items():
        if estimate is not None:
            numbers[f"{PREFIX}{name}"] = float(estimate.value)
            numbers[f"{PREFIX}{name}_lo"], numbers[f"{PREFIX}{name}_hi"] = float(estimate.lo), float(estimate.hi)
    return numbers


def _rows(trainer: Any, name: str) -> Any:
    rows = getattr(trainer, name, None)
    if isinstance(rows, Mapping):
        raise BadInput(f"trainer.{name}", "holds several sets", "Give the trainer one evaluation set.")
    if rows is None or not hasattr(rows, "__len__") or not len(rows):
        raise BadInput(
            f"trainer.{name}",
            "has no rows, so nothing can be compared",
            "Give the trainer train_dataset= and eval_dataset=, of the same source, with a length.",
        )
    return rows


def _records(
    rows: Any,
    prefix: str,
    tokenizer: Any,
    encoded: dict[str, EncodedRecord],
    *,
    max_tokens: int | None,
    fields: Mapping[str, Any],
) -> Sequence[Record]:
    """Records of one set; ``encoded`` gets their tokens by id."""
    if not (isinstance(rows[0], Mapping) and "input_ids" in rows[0]):
        records: Sequence[Record] = read(rows, id_prefix=prefix, **fields).records
        encoded |= {record.id: encode(record, tokenizer, max_tokens=max_tokens) for record in records}
        return records
    tokenised: dict[str, Record] = {}
    for number in range(len(rows)):
        row = _tokens(rows[number])
        id_ = f"{prefix}{hashlib.sha256(row.token_id.tobytes() + row.trained.tobytes()).hexdigest()[:20]}"
        encoded[id_] = row
        tokenised[id_] = Record(id=id_, text=json.dumps(row.token_id.tolist()))
    return list(tokenised.values())


def _tokens(row: Mapping[str, Any]) -> EncodedRecord:
    """A tokenised row; padding, which is masked, is cut off.

    Raises:
        BadInput: several texts are packed into the row, so it is no record.
    """
    if row.get("seq_lengths") is not None or row.get("position_ids") is not None:
        raise BadInput(
            "the trainer's data",
            "has several texts packed into a row, so a row is no record",
            "Train with packing=False.",
        )
    token_id = np.asarray(row["input_ids"], dtype=np.int32)
    trained = np.ones(len(token_id), dtype=bool)
    if row.get("labels") is not None:
        trained = np.asarray(row["labels"]) != IGNORED
    for mask in ("completion_mask", "assistant_masks"):
        if row.get(mask) is not None:
            trained &= np.asarray(row[mask]).astype(bool)
    if row.get("attention_mask") is not None:
        read_ = np.asarray(row["attention_mask"]).astype(bool)
        token_id, trained = token_id[read_], trained[read_]
    return EncodedRecord(token_id=token_id, trained=trained)
