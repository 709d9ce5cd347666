# SPDX-License-Identifier: Apache-2.0
"""Data with too little in it for one attack switch that attack off, not the audit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reticent.auditing.case import from_run
from reticent.auditing.config import AuditConfig
from reticent.core.run_folder import RunFolder
from reticent.workflows.audit import audit


def test_known_texts_without_a_token_to_predict_switch_off_what_needs_them(tuned, tmp_path):
    subject = from_run(RunFolder(root=tuned))
    known = np.isin(subject.membership.role.astype(str), ("known", "spare"))
    records = [
        replace(record, text="") if hidden else record for record, hidden in zip(subject.records, known, strict=True)
    ]
    config = AuditConfig(attacks="loss,rmia", dtype="float32")
    results = audit(replace(subject, records=records), config, out=tmp_path / "audit")
    runs = {run.name: run for run in results.attacks}
    assert known.any()
    assert runs["loss"].ran
    assert not runs["rmia"].ran
    assert "no known non-members" in runs["rmia"].why_not
