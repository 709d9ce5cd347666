# SPDX-License-Identifier: Apache-2.0
"""Private trainings that began and gave no model (yet): what they spent stays on record beside where it would be.

Who looked at held-out losses, or at a checkpoint, has seen what a training gave, whether it finished or not. A line is
written before the first step and taken away once the model lies there with its own promise. A training that ended early
(its loss was no longer finite, a check failed) or was started over leaves its line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.privacy.guarantee import PrivacyGuarantee


@dataclass(frozen=True, kw_only=True)
class StartedTraining:
    """A training that began.

    Args:
        plan: fingerprint of its plan, the key included; empty where a finished model was replaced.
        data: fingerprint of the data set, see `reticent.core.record.fingerprint`; empty where it is not known.
        promise: what all its steps cost.
        steps: after how many it ended; None while that is open.
        broken: its self-check failed, so what it showed is not covered by ``promise``.
    """

    plan: str
    data: str
    promise: PrivacyGuarantee
    steps: int | None = None
    broken: bool = False


def begun_file(out: Path) -> Path:
    """Where the trainings of the model folder ``out`` are on record: beside it, hidden."""
    return out.with_name(f".{out.name}.begun.jsonl")


def read_begun(out: Path) -> list[StartedTraining]:
    """The trainings of ``out`` that began and did not finish.

    Raises:
        BadInput: the file is broken.
    """
    path = begun_file(out)
    if not path.exists():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [
            StartedTraining(**row | {"promise": PrivacyGuarantee.from_json(json.dumps(row["promise"]))}) for row in rows
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(str(path), "is broken", "Choose another folder (--out), and keep this one.") from error


def begin(out: Path, training: StartedTraining) -> None:
    """Put ``training`` on record, before its first step; one that goes on is there already."""
    trainings = read_begun(out)
    if all(earlier.plan != training.plan for earlier in trainings):
        _write(out, [*trainings, training])


def ended(out: Path, *, plan: str, steps: int, broken: bool) -> None:
    """Note after how many steps a training ended that will not be gone on with."""
    rows = read_begun(out)
    _write(out, [replace(row, steps=steps, broken=broken) if row.plan == plan else row for row in rows])


def finished(out: Path, *, plan: str, replaced: StartedTraining | None = None) -> None:
    """Take a training off the record: its model lies in ``out`` with its promise, maybe where another lay."""
    others = [row for row in read_begun(out) if row.plan != plan]
    _write(out, [*others, *([replaced] if replaced is not None else [])])


def _write(out: Path, trainings: Sequence[StartedTraining]) -> None:
    if not trainings:
        begun_file(out).unlink(missing_ok=True)
        return
    rows = [asdict(training) | {"promise": json.loads(training.promise.to_json())} for training in trainings]
    write_text(begun_file(out), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
