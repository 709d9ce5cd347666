# SPDX-License-Identifier: Apache-2.0
"""The key of a training, which says whether two are the same and whether a folder holds its outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reticent.core.atomic import refuse_foreign_folder
from reticent.core.errors import BadInput
from reticent.core.record import Record, fingerprint
from reticent.privacy.spec import PrivacySpec
from reticent.train.checkpoints import recall
from reticent.train.config import TuneConfig
from reticent.train.objectives.as_text import on_record
from reticent.train.objectives.objective import Objective
from reticent.train.outcome import KIND, LOG


def training_key(
    base_fingerprint: str,
    records: Sequence[Record],
    held_out: Sequence[Record],
    config: TuneConfig,
    spec: PrivacySpec | None = None,
    objectives: Sequence[Objective] = (),
    record_sets: Mapping[str, Sequence[Record]] | None = None,
) -> str:
    """SHA-256 (hex) of all that decides the outcome of a training; arguments as those of `trainer.tune`, settled."""
    settings = replace(config, resume=True, report_to="none").on_record
    spans = [[(span.start, span.end) for span in record.spans] for record in records]
    parts: list[Any] = [base_fingerprint, fingerprint(records), fingerprint(held_out), settings]
    if spec is not None:
        # Users decide who is drawn, and the order of records which of them.
        parts += [asdict(spec), [(record.id, record.user) for record in records]]
        if spec.protect == "spans":
            parts.append(spans)
    kinds = [[span.kind for span in record.spans] for record in records]
    for group, given in on_record(objectives).items():
        read = {"spans": spans, "kinds": kinds} if group != "harden" and _reads_spans(objectives) else {}
        parts.append({group: given} | read)
    if record_sets:
        parts.append({"record_sets": {name: fingerprint(rows) for name, rows in record_sets.items()}})
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _reads_spans(objectives: Sequence[Objective]) -> bool:
    return any(chosen.about.spans for chosen in objectives)


def is_finished(out: Path, key: str, *, resume: bool) -> bool:
    """Does ``out`` hold the outcome of the training with that key, to be taken as it is?

    Raises:
        BadInput: it holds something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        stored_key = json.loads((out / LOG).read_text(encoding="utf-8")).get("key") or recall(out)
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(str(out), "exists and was not made by a tuning", "Choose another folder (--out).") from error
    if stored_key != key and resume:
        raise BadInput(
            str(out),
            "holds the outcome of another training",
            "Choose another folder (--out), or replace it (--resume false).",
        )
    if not resume:
        refuse_foreign_folder(out, KIND)  # before hours of work
    return bool(stored_key == key and resume)
