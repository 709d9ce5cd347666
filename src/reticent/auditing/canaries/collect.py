# SPDX-License-Identifier: Apache-2.0
"""Scores of planted secrets and of their controls, by both models."""

from __future__ import annotations

from dataclasses import dataclass

from reticent.auditing.family import Collection
from reticent.auditing.linked_tables import linked_tables, plain_requests
from reticent.core.table import TokenTable, read_table


@dataclass(frozen=True, kw_only=True, eq=False)
class CanaryEvidence:
    """Tables of the canaries of a case, in their order.

    Args:
        target: of the model under audit.
        reference: of the model that it is compared with; None without one.
    """

    target: TokenTable
    reference: TokenTable | None = None


def collect(audit: Collection) -> CanaryEvidence | None:
    """Score all canaries; None where there are none."""
    if not audit.case.canaries:
        return None
    records = [canary.record for canary in audit.case.canaries]
    paths = linked_tables(audit, plain_requests(audit), records, "canaries")
    tables = {request.model: read_table(path) for request, path in paths.items()}
    return CanaryEvidence(target=tables["target"], reference=tables.get("reference"))
