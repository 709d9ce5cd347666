# SPDX-License-Identifier: Apache-2.0
"""The audit case of an emulated fine-tune: the ensemble, on the records and coins of the run of its small model."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from reticent.auditing.case import AuditCase, from_run
from reticent.core.errors import BadInput
from reticent.core.run_folder import RunFolder
from reticent.models.emulation import read_emulation


def case_of_emulated(folder: Path, *, reference: str | None = None) -> AuditCase:
    """The case to audit an emulated fine-tune by: the coins decided what the small model saw, and nothing else in the
    ensemble saw any of it.

    Args:
        folder: that `reticent emulate` made.
        reference: the model that it is compared with; None for its large model.

    Raises:
        BadInput: its small model is not from a run folder, or that is gone.
    """
    info = read_emulation(folder)
    assert info is not None
    if not info.run or not Path(info.run).is_dir():
        reason = f"its small model's run {info.run!r} is gone" if info.run else "its small model is from no run folder"
        raise BadInput(
            str(folder),
            f"says not what the small model was trained on: {reason}",
            f"Name the records: reticent audit --model {folder} --members FILE --held_out FILE.",
        )
    case = from_run(RunFolder(root=Path(info.run)))
    return replace(
        case,
        title=folder.resolve().name,
        target=str(folder),
        reference=reference,
        about=case.about | {"emulation": asdict(info.settings)},
    )
