# SPDX-License-Identifier: Apache-2.0
"""Of a user's texts that are copies or nearly so, only the first is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reticent.core.record import Record
from reticent.data.dedup import DroppedRecord, within_user
from reticent.train.objectives.objective import Objective, objective


@objective("dedup_users", alters={"corpus.records"}, private="always", flag="dedup_users=True")
@dataclass(frozen=True, kw_only=True)
class DedupUsers(Objective):
    """Texts in which a user repeats oneself are left out before coins are thrown."""

    def before_coins(self, records: Sequence[Record]) -> tuple[Sequence[Record], Sequence[DroppedRecord]]:
        """See `within_user`. What it costs in private training stands in `reticent.data.stability`."""
        return within_user(records)
