# SPDX-License-Identifier: Apache-2.0
"""The secrets that an audit tries to extract: canaries, secrets that the case brings, and personal data."""

from __future__ import annotations

from typing import NamedTuple

from reticent.auditing.case import AuditCase
from reticent.auditing.extraction.secrets import canary_secrets, given_secrets, marked_secrets
from reticent.core.secret import Secret
from reticent.data.pii.detect import detect

MOST = 100
"""Secrets of one group; enough for an interval of ± 0.1."""


class ChosenSecrets(NamedTuple):
    """The secrets to extract, and the numbers of those left out because people on the other side have them too."""

    secrets: list[Secret]
    common: int
    """Listed secrets."""
    shared: int = 0
    """Values of personal data that records hold which were trained on."""


def secrets_of(case: AuditCase) -> ChosenSecrets:
    """Planted secrets, what was handed in, and marked or found personal data of the attacked records."""
    membership = case.evaluated
    member = case.membership.member.tolist()
    by_user = case.membership.unit == "user"
    attacked = set(membership.record_id.tolist())
    elsewhere = [(r, m) for r, m in zip(case.records, member, strict=True) if r.id not in attacked]
    marked, shared = marked_secrets(
        case.evaluated_records,
        membership.member.tolist(),
        most=MOST,
        find=detect,
        by_user=by_user,
        elsewhere=elsewhere,
    )
    listed, common = given_secrets(case.secrets, case.records, member, most=MOST, by_user=by_user)
    return ChosenSecrets([*canary_secrets(case.canaries, most=MOST), *listed, *marked], common, shared)
