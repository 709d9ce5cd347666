# SPDX-License-Identifier: Apache-2.0
"""Results of one training's snapshots, record by record, aligned with every other training's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.membership import read_membership
from reticent.core.run_folder import RunFolder
from reticent.core.snapshot import TrainingHistory
from reticent.monitor.log import read_history, read_panel

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshots:
    """``M`` looks at the ``N`` records of a panel; records without a token to predict are left out.

    Args:
        watch: the log of the looks.
        step: ``[M]`` optimizer steps; the first is 0.
        epoch: ``[M]``.
        record_id, user: ``[N]``; ``None`` users where unknown.
        member: ``[N]`` trained on.
        user_member: ``[N]`` any record of this user was.
        role: ``[N]`` ``"evaluate"`` or ``"fresh"``.
        nll: ``[M, N]`` sum over trained tokens, nats.
        base_nll: ``[N]`` the same under the base.
        tokens: ``[N]``.
        by_user: whether coins were thrown for users.
    """

    watch: TrainingHistory
    step: npt.NDArray[np.int64]
    epoch: Floats
    record_id: npt.NDArray[np.object_]
    user: npt.NDArray[np.object_]
    member: Mask
    user_member: Mask
    role: npt.NDArray[np.object_]
    nll: Floats
    base_nll: Floats
    tokens: Floats
    by_user: bool

    @property
    def gain(self) -> Floats:
        """``[M, N]``: mean loss of a record under the base minus that now, nats a token; higher = member."""
        gains: Floats = (self.base_nll - self.nll) / self.tokens
        return gains

    @property
    def attacked(self) -> Mask:
        """``[N]``: rows compared at record level. Where coins were thrown for users, those of users who are in: only
        the record's coin then differs between the sides."""
        rows: Mask = (self.role == "evaluate") & (self.user_member | (not self.by_user))
        return rows

    @property
    def fresh(self) -> Mask:
        """``[N]``: records that were not trained on."""
        return ~self.member


def read_snapshots(folder: Path) -> Snapshots:
    """The looks of the cell in ``folder``.

    Raises:
        BadInput: a file is missing, broken, or the two do not fit each other.
    """
    run = RunFolder(root=folder)
    watch, table = read_history(run.monitor), read_panel(run.panel)
    column = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    keep = np.isin(column["role"].astype(str), ("evaluate", "fresh"))
    steps = np.array([moment.step for moment in watch.moments], dtype=np.int64)
    first = keep & (column["step"] == steps[0])
    ids = column["record_id"][first]
    place = {id_: i for i, id_ in enumerate(ids.tolist())}
    nll = np.full((len(steps), len(ids)), np.nan)
    at = {step: i for i, step in enumerate(steps.tolist())}
    rows = [row for row in np.flatnonzero(keep).tolist() if column["step"][row] in at]
    for row in rows:
        nll[at[int(column["step"][row])], place[column["record_id"][row]]] = column["nll"][row]
    if np.isnan(nll).any() or len(place) < len(ids) or steps[0] != 0:
        raise BadInput(str(folder), "has looks that do not fit its panel", "Delete this cell to train it again.")
    tokens = column["tokens"][first].astype(np.float64)
    some = tokens > 0
    return Snapshots(
        watch=watch,
        step=steps,
        epoch=np.array([moment.epoch for moment in watch.moments]),
        record_id=ids[some],
        user=column["user"][first][some],
        member=column["member"][first].astype(bool)[some],
        user_member=column["user_member"][first].astype(bool)[some],
        role=column["role"][first][some],
        nll=nll[:, some],
        base_nll=column["base_nll"][first][some],
        tokens=tokens[some],
        by_user=read_membership(run.membership).unit == "user",
    )


def common_held_out(looks: Sequence[Snapshots]) -> set[str]:
    """Ids of records that no training saw and every panel holds: what utility is measured on."""
    sides = [set(history.record_id[history.fresh].tolist()) for history in looks]
    return set.intersection(*sides) if sides else set()
