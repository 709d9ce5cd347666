# SPDX-License-Identifier: Apache-2.0
"""The audit case of an unlearned run: its model, and the membership that its last model has."""

from __future__ import annotations

from reticent.auditing.case import AuditCase, from_run
from reticent.core.run_folder import RunFolder
from reticent.models.tuned import read_tuned
from reticent.unlearning.run_rows import run_rows


def case_of_unlearned(run: RunFolder, *, reference: str | None = None) -> AuditCase:
    """The case to audit an unlearned run by. Rows that were forgotten are neither members nor held out: how far they
    are forgotten is for `reticent.verify` to say.

    Args:
        run: of `reticent unlearn`.
        reference: the model that it is compared with; None for the base that the run at the root was tuned from.

    Raises:
        BadInput: as `reticent.unlearning.run_rows.run_rows`.
    """
    rows = run_rows(run)
    root = from_run(rows.chain.root, reference=reference)
    tuned = read_tuned(run.model)
    return AuditCase(
        title=run.root.name,
        target=str(run.model),
        reference=reference or (tuned.base if tuned is not None else root.reference),
        records=rows.records,
        membership=rows.present_membership,
        canaries=rows.present_canaries,
        secrets=(),
        max_tokens=root.max_tokens,
        about=root.about,
    )
