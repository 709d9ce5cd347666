# SPDX-License-Identifier: Apache-2.0
"""AuditCase: the model and the data of one audit, from a run of `reticent tune` or from any model with two lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from reticent.core.errors import BadInput
from reticent.core.manifest import read_manifest
from reticent.core.membership import Membership, read_membership
from reticent.core.portable import found
from reticent.core.record import Record, fingerprint, read_records
from reticent.core.run_folder import RunFolder
from reticent.core.secret import Secret
from reticent.data.canaries import Canary, read_canaries
from reticent.data.coin import uniform
from reticent.data.secrets_file import read_secrets
from reticent.models.locate import first_line
from reticent.models.tuned import TuningInfo, read_tuned

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel

POPULATION = 512
"""Texts known to be outside that a score is compared with; more of them cost passes and add little."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditCase:
    """The model under audit, its data, and the record of which data it was trained on.

    Args:
        title: shown on the report.
        target: the fine-tuned model: a folder, hub id or catalogue name, or one in memory
            (`reticent.models.in_memory.in_memory`).
        reference: the model it is compared with, likewise; None: the adapter's base, if the target is an adapter.
        records: all records with known membership, in the order of ``membership``.
        membership: for each record whether it was trained on, and the probability of that where coins decided.
        canaries: planted secrets and their controls.
        secrets: to be extracted, besides the planted ones and the personal data of the records.
        max_tokens: tokens of each record that were trained on; longer records are scored up to there.
        about: facts about the training of the target, for the report.

    Examples:
        >>> from reticent.data.split import from_files
        >>> trained = [Record(id=f"in {number}", text="a note") for number in range(20)]
        >>> outside = [Record(id=f"out {number}", text="a note") for number in range(20)]
        >>> case = AuditCase(
        ...     title="my model", target="./tuned", reference="./base",
        ...     records=[*trained, *outside], membership=from_files(trained, outside),
        ... )
        >>> len(case.records), len(case.evaluated) == len(case.evaluated_records)
        (40, True)
    """

    title: str
    target: str | LoadedModel
    reference: str | LoadedModel | None
    records: Sequence[Record]
    membership: Membership
    canaries: Sequence[Canary] = ()
    secrets: Sequence[Secret] = ()
    max_tokens: int | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if [record.id for record in self.records] != list(self.membership.record_id):
            raise ValueError("records and membership must be in the same order")

    @property
    def target_name(self) -> str:
        """The folder or id of the target; of one in memory its fingerprint."""
        return name_of(self.target)

    @property
    def reference_name(self) -> str | None:
        """As ``target_name``, of the reference; None where none is named."""
        return None if self.reference is None else name_of(self.reference)

    def of_role(self, role: str, *, member: bool | None = None) -> list[Record]:
        """Records of one role, in order; only members or only held-out where asked."""
        mask = self.membership.role == role
        if member is not None:
            mask = mask & (self.membership.member == member)
        return [record for record, chosen in zip(self.records, mask, strict=True) if chosen]

    @property
    def population(self) -> list[Record]:
        """Texts that the attacker knows to be outside and compares with: held-out ``known`` ones, then ``spare`` ones
        by hash, ``POPULATION`` together. Neither is trained on or evaluated."""
        spare = sorted(self.of_role("spare", member=False), key=lambda record: uniform(0, "population", record.id))
        return [*self.of_role("known", member=False), *spare][:POPULATION]

    @property
    def evaluated(self) -> Membership:
        """The membership of the records that are attacked, at one level or both."""
        return self.membership.take(self.membership.attacked)

    @property
    def evaluated_records(self) -> list[Record]:
        """The records of ``evaluated``, in the same order."""
        return [record for record, chosen in zip(self.records, self.membership.attacked, strict=True) if chosen]

    @property
    def data_fingerprint(self) -> str:
        return fingerprint(self.records)


def name_of(model: str | LoadedModel) -> str:
    """The folder or id of a model; of one in memory its fingerprint, since folders are told by the model they hold."""
    return model if isinstance(model, str) else f"memory:{model.fingerprint[:16]}"


def from_run(run: RunFolder, *, reference: str | None = None) -> AuditCase:
    """The case that `reticent tune` left in a run folder.

    Raises:
        BadInput: the folder holds no finished fine-tune.
    """
    manifest = read_manifest(run.manifest)
    for path in (run.records, run.membership, run.model):
        if not path.exists():
            raise BadInput(
                str(run.root), f"has no {path.name}, so its fine-tune did not end", "Run `reticent tune` again."
            )
    recorded = read_recorded(run)
    about = manifest.get("tune", {}) if isinstance(manifest, dict) else None
    if not isinstance(about, dict):
        raise BadInput(str(run.manifest), "is broken", "Copy the folder again, or run `reticent tune` again.")
    named = found(str(about["base"]), run.root) if about.get("base") else None
    return AuditCase(
        title=about.get("title", run.root.name),
        target=str(run.model),
        reference=reference or (recorded.tuned.base if recorded.tuned is not None else named),
        records=recorded.records,
        membership=recorded.membership,
        canaries=recorded.canaries,
        secrets=recorded.secrets,
        max_tokens=about.get("max_tokens"),
        about=about,
    )


class RecordedData(NamedTuple):
    """Records and coins of a run folder."""

    records: Sequence[Record]
    membership: Membership
    canaries: Sequence[Canary]
    secrets: Sequence[Secret]
    tuned: TuningInfo | None


def read_recorded(run: RunFolder) -> RecordedData:
    """Records, coins and secrets that a run folder has, and how its model was made, where there is one.

    Raises:
        BadInput: a file is no longer what was written.
    """
    try:
        records, membership = read_records(run.records), read_membership(run.membership)
        canaries = read_canaries(run.canaries) if run.canaries.exists() else ()
        secrets = read_secrets(run.targets) if run.targets.exists() else ()
        tuned = read_tuned(run.model)
        if [record.id for record in records] != list(membership.record_id):
            raise ValueError("records and membership do not fit each other")
    except (pa.ArrowInvalid, ValueError, KeyError, TypeError, OSError) as error:
        reason = f"holds a file that is no longer what was written ({first_line(error)})"
        raise BadInput(
            str(run.root), reason, "Copy the folder again, or delete it and run `reticent tune` again."
        ) from error
    return RecordedData(records, membership, canaries, secrets, tuned)


def counts(case: AuditCase) -> dict[str, int]:
    """Numbers of records, users and canaries by kind, for the report."""
    membership = case.membership
    evaluated = case.evaluated
    tally = Counter(membership.role)
    result = {
        "records": len(membership),
        "trained_on": int(membership.member.sum()),
        "evaluated_members": int(evaluated.member.sum()),
        "evaluated_held_out": int((~evaluated.member).sum()),
        "known_to_attacker": tally.get("known", 0),
        "canaries": len(case.canaries),
        "canaries_planted": sum(canary.planted for canary in case.canaries),
    }
    if evaluated.has_users:
        users = np.unique(evaluated.user.astype(str))
        members = np.unique(evaluated.user[evaluated.user_member].astype(str))
        result |= {"users": len(users), "member_users": len(members), "held_out_users": len(users) - len(members)}
    return result
