# SPDX-License-Identifier: Apache-2.0
"""Membership: the recorded coins that say which records (and users) the model was trained on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core.atomic import replacing
from reticent.core.errors import BadInput


@dataclass(frozen=True, kw_only=True, eq=False)
class Membership:
    """Membership of each record: in the training data or held out.

    Args:
        record_id: ``[N]`` ids.
        member: ``[N]`` bool: the record was trained on.
        user: ``[N]`` user of the record, ``None`` entries where unknown.
        user_member: ``[N]`` bool: any record of this user was (to be) trained on. Equal to ``member`` without users.
        role: ``[N]``: ``"evaluate"`` rows are attacked; ``"known"`` rows are what the attacker is assumed to know
            (population, prefixes) and are never evaluated; ``"spare"`` rows are neither trained on nor evaluated, so
            that users on both sides show texts chosen by the same coin; ``"fresh"`` rows, never trained on, are
            attacked at user level only: they stand behind a cap on the records of each user, and with them held-out
            records would come from prolific users more often than members do; ``"shared"`` rows have a text that
            another user has too, with another coin, so they are no clean member and no clean held-out: never evaluated
            and no attacker's knowledge; ``"canary"`` rows are planted secrets.
        unit: what the coins were thrown for: ``"record"``, ``"user"``, or ``"given"`` by the person.
        probability: chance that a coin came up "member"; NaN when given.
        seed: of the coins; -1 when given.

    Examples:
        >>> membership = Membership(
        ...     record_id=np.array(["a", "b"], dtype=object), member=np.array([True, False]),
        ...     user=np.array(["ana", "ben"], dtype=object), user_member=np.array([True, False]),
        ...     role=np.array(["evaluate", "evaluate"], dtype=object), unit="given",
        ... )
        >>> len(membership), membership.has_users, membership.take(membership.member).record_id.tolist()
        (2, True, ['a'])
    """

    record_id: npt.NDArray[np.object_]
    member: npt.NDArray[np.bool_]
    user: npt.NDArray[np.object_]
    user_member: npt.NDArray[np.bool_]
    role: npt.NDArray[np.object_]
    unit: str
    probability: float = float("nan")
    seed: int = -1

    def __post_init__(self) -> None:
        if len({len(self.record_id), len(self.member), len(self.user), len(self.user_member), len(self.role)}) != 1:
            raise ValueError("membership columns differ in length")

    def __len__(self) -> int:
        return len(self.record_id)

    @property
    def attacked(self) -> npt.NDArray[np.bool_]:
        """``[N]``: rows that are attacked at some level."""
        return np.isin(self.role.astype(str), ("evaluate", "fresh"))

    @property
    def at_record_level(self) -> npt.NDArray[np.bool_]:
        """``[N]``: rows that are compared record by record; where coins went by user, those of users who are in."""
        rows: npt.NDArray[np.bool_] = self.role == "evaluate"
        return rows & self.user_member if self.unit == "user" else rows

    @property
    def has_users(self) -> bool:
        return all(user is not None for user in self.user[self.role == "evaluate"])

    @property
    def most_of_a_user(self) -> int:
        """Most records of one user that were trained on, or would have been had the user's coin come up (at least)."""
        would = self.member | (~self.user_member & ~self.attacked)
        return max(Counter(user for user in self.user[would] if user is not None).values(), default=0)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Membership:
        """The given rows (indices or a mask)."""
        return Membership(
            record_id=self.record_id[rows],
            member=self.member[rows],
            user=self.user[rows],
            user_member=self.user_member[rows],
            role=self.role[rows],
            unit=self.unit,
            probability=self.probability,
            seed=self.seed,
        )

    @property
    def about(self) -> dict[str, str]:
        """The draw of the coins, as a file states it beside its columns."""
        return {"unit": self.unit, "probability": repr(self.probability), "seed": str(self.seed)}

    def write(self, path: str | Path) -> None:
        """Write ``membership.parquet``, atomically."""
        columns = {
            "record_id": pa.array(self.record_id, pa.string()),
            "member": pa.array(self.member),
            "user": pa.array(self.user, pa.string()),
            "user_member": pa.array(self.user_member),
            "role": pa.array(self.role, pa.string()),
        }
        with replacing(path) as temporary:
            pq.write_table(pa.table(columns).replace_schema_metadata(self.about), temporary)


def read_membership(path: str | Path) -> Membership:
    """Read what ``Membership.write`` wrote."""
    table = pq.read_table(path)
    about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if "unit" not in about:
        raise BadInput(str(path), "is no membership file of reticent", "Give the file that `reticent tune` wrote.")
    column = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    return Membership(
        record_id=column["record_id"],
        member=column["member"].astype(bool),
        user=column["user"],
        user_member=column["user_member"].astype(bool),
        role=column["role"],
        unit=about["unit"],
        probability=float(about["probability"]),
        seed=int(about["seed"]),
    )
