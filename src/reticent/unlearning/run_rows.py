# SPDX-License-Identifier: Apache-2.0
"""The rows of a run as its model stands: trained on and still in it, taken out by an earlier request, or never in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reticent.core.errors import BadInput
from reticent.core.membership import Membership, read_membership
from reticent.core.record import Record, fingerprint, read_records
from reticent.core.run_folder import RunFolder
from reticent.data.canaries import Canary, read_canaries
from reticent.data.user_shards import shard_of
from reticent.unlearning.left_out_shards import shards_left_out
from reticent.unlearning.parents import Chain, chain

FORGOTTEN = "forgotten"
"""The role of rows that an earlier request took out: no members any more, and no clean held-out rows either."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRows:
    """Records of the run at the root of a chain, and the membership that its last model has.

    Args:
        chain: from the run of `reticent tune` to the run that is looked at.
        records: ``[N]`` of the root.
        membership: of them, in the same order, as the coins of the root fell.
        canaries: planted secrets of the root; their copies are trained on beside the records.
    """

    chain: Chain
    records: tuple[Record, ...]
    membership: Membership
    canaries: tuple[Canary, ...] = ()

    @cached_property
    def is_forgotten(self) -> npt.NDArray[np.bool_]:
        """``[N]``: taken out by an earlier request."""
        gone = self.chain.forgotten
        return np.array([record.id in gone for record in self.records], dtype=bool)

    @cached_property
    def is_trained(self) -> npt.NDArray[np.bool_]:
        """``[N]``: trained on, and not taken out since."""
        return np.asarray(self.membership.member & ~self.is_forgotten)

    @cached_property
    def is_lost(self) -> npt.NDArray[np.bool_]:
        """``[N]``: trained on and still wanted, but in a shard that was left out with what was forgotten."""
        lost = [self.was_left_out(record) for record in self.records]
        return np.asarray(self.is_trained & np.array(lost, dtype=bool))

    def was_left_out(self, record: Record) -> bool:
        """True for a record, or a copy of a planted secret, in a shard that the last model was made without."""
        dropped, count = self._left_out
        return bool(dropped) and shard_of(record, count) in dropped

    @property
    def present_canaries(self) -> tuple[Canary, ...]:
        """Planted secrets all of whose copies the last model was trained on, and those never planted."""
        lost = {copy.id.rpartition("/")[0] for copy in self.planted if self.was_left_out(copy)}
        return tuple(canary for canary in self.canaries if canary.id not in lost)

    @cached_property
    def _left_out(self) -> tuple[frozenset[int], int]:
        return shards_left_out(self.chain, lambda identity: self.records[self.place[identity]])

    @cached_property
    def place(self) -> dict[str, int]:
        """Record id → its place."""
        return {record.id: place for place, record in enumerate(self.records)}

    @property
    def present_membership(self) -> Membership:
        """The membership that an audit of the last model goes by: rows taken out have the role ``FORGOTTEN``, and so
        have those that were lost with them."""
        role = np.where(self.is_forgotten | self.is_lost, FORGOTTEN, self.membership.role).astype(object)
        return replace(self.membership, member=np.asarray(self.is_trained & ~self.is_lost), role=role)

    @property
    def no_verification(self) -> str:
        """The reason why unlearning cannot be verified in this run; empty where it can.

        Rows that are forgotten are compared with rows never trained on. Unless coins decided between the two, they may
        differ for other reasons, and any difference, or none, would be taken for an effect of the unlearning.
        """
        if self.membership.unit != "given":
            return ""
        return (
            "the membership was given and no coins were recorded, so rows that were trained on may differ from the "
            "others by more than training"
        )

    def refuse_verification(self) -> None:
        """Refuse to verify where that would say nothing.

        Raises:
            BadInput: see ``no_verification``.
        """
        if self.no_verification:
            raise BadInput(
                str(self.chain.root.root),
                f"unlearning cannot be verified: {self.no_verification}",
                "Unlearn without verification, or fine-tune with `reticent tune`, which throws and records coins.",
            )

    @property
    def planted(self) -> tuple[Record, ...]:
        """Copies of planted secrets that were trained on beside the records: a retraining needs them too."""
        with_users = all(record.user is not None for record in self.records)
        return tuple(
            replace(canary.record, id=f"{canary.id}/copy{copy:03d}", user=canary.id if with_users else None)
            for canary in self.canaries
            if canary.planted
            for copy in range(canary.repetitions)
        )


def run_rows(run: RunFolder) -> RunRows:
    """Read the rows of a run of `reticent tune`, or of an unlearning, from the run at its root.

    Raises:
        BadInput: as `parents.chain`; the texts at the root are damaged, or others than those that were unlearned.
    """
    runs = chain(run)
    root = runs.root
    try:
        records, membership = read_records(root.records), read_membership(root.membership)
        canaries = read_canaries(root.canaries) if root.canaries.exists() else ()
        if [record.id for record in records] != list(membership.record_id):
            raise ValueError("records and membership do not fit each other")
    except (pa.ArrowException, ValueError, KeyError, TypeError, OSError) as error:
        reason = f"holds a file that is no longer what was written ({str(error).splitlines()[0][:200]})"
        raise BadInput(
            str(root.root), reason, "Copy the folder again, or delete it and run `reticent tune` again."
        ) from error
    rows = RunRows(chain=runs, records=tuple(records), membership=membership, canaries=tuple(canaries))
    _check_links(rows)
    return rows


def trained_rows(run: RunFolder) -> list[Record]:
    """Records that the model of a run was trained on and that no request took out of it, in the order of the data.

    Raises:
        BadInput: as `run_rows`.
    """
    rows = run_rows(run)
    return [record for record, trained in zip(rows.records, rows.is_trained, strict=True) if trained]


def retained_rows(run: RunFolder, forget: Collection[str]) -> list[Record]:
    """``trained_rows`` without the ids that a new request takes out.

    Args:
        run: that the request is made to.
        forget: ids of records.

    Raises:
        BadInput: as `run_rows`.
    """
    gone = set(forget)
    return [record for record in trained_rows(run) if record.id not in gone]


def _check_links(rows: RunRows) -> None:
    if not rows.chain.links:
        return
    data = fingerprint(rows.records)
    root = rows.chain.root.root
    for link in rows.chain.links:
        strangers = [row.record_id for row in link.request if row.record_id not in rows.place]
        if link.data != data or strangers:
            raise BadInput(
                str(link.run.root),
                f"was unlearned from other data than {root} holds",
                "Put the run there that it was made from, or unlearn again in a new folder.",
            )
    repeated = sum(len(link.request) for link in rows.chain.links) - len(rows.chain.forgotten)
    if repeated:
        raise BadInput(
            str(rows.chain.last.root),
            f"has {repeated} rows that two requests of its chain took out, so a file of them was changed",
            "Copy the run folders again.",
        )
