# SPDX-License-Identifier: Apache-2.0
"""Audit, protect and repair language models that were fine-tuned on private text."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from reticent.attacks.attack import ATTACKS as ATTACKS
    from reticent.attacks.attack import attack as attack
    from reticent.auditing.case import AuditCase as AuditCase
    from reticent.auditing.config import AuditConfig as AuditConfig
    from reticent.comparison.run import compare as compare
    from reticent.core.finding import Estimate as Estimate
    from reticent.core.finding import Finding as Finding
    from reticent.core.membership import Membership as Membership
    from reticent.core.record import Record as Record
    from reticent.core.results import Results as Results
    from reticent.core.table import TokenTable as TokenTable
    from reticent.data.read import read as read
    from reticent.data.split import split as split
    from reticent.monitor.monitor import Monitor as Monitor
    from reticent.privacy.guarantee import PrivacyGuarantee as PrivacyGuarantee
    from reticent.privacy.spec import PrivacySpec as PrivacySpec
    from reticent.report.results_file import read_results as read_results
    from reticent.report.results_file import write_results as write_results
    from reticent.score.requests import Variant as Variant
    from reticent.train.config import TuneConfig as TuneConfig
    from reticent.workflows.audit import audit as audit
    from reticent.workflows.diff import diff as diff
    from reticent.workflows.tune import CanaryConfig as CanaryConfig
    from reticent.workflows.tune import SplitConfig as SplitConfig
    from reticent.workflows.tune import tune as tune

_WHERE = {
    "ATTACKS": "reticent.attacks.attack",
    "AuditConfig": "reticent.auditing.config",
    "CanaryConfig": "reticent.workflows.tune",
    "Estimate": "reticent.core.finding",
    "Finding": "reticent.core.finding",
    "Membership": "reticent.core.membership",
    "Monitor": "reticent.monitor.monitor",
    "PrivacySpec": "reticent.privacy.spec",
    "PrivacyGuarantee": "reticent.privacy.guarantee",
    "Record": "reticent.core.record",
    "Results": "reticent.core.results",
    "SplitConfig": "reticent.workflows.tune",
    "AuditCase": "reticent.auditing.case",
    "TokenTable": "reticent.core.table",
    "TuneConfig": "reticent.train.config",
    "Variant": "reticent.score.requests",
    "attack": "reticent.attacks.attack",
    "audit": "reticent.workflows.audit",
    "compare": "reticent.comparison.run",
    "diff": "reticent.workflows.diff",
    "read": "reticent.data.read",
    "read_results": "reticent.report.results_file",
    "split": "reticent.data.split",
    "tune": "reticent.workflows.tune",
    "write_results": "reticent.report.results_file",
}
"""Where each public name lives. Names are imported when they are first used, so that `import reticent` is quick."""

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'reticent' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
