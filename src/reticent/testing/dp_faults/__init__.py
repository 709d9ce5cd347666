# SPDX-License-Identifier: Apache-2.0
"""Named faults of a private training, by what they break; all are in ``FAULTS`` once this is imported."""

from reticent.testing.dp_faults import accounting, batches, clipping, noise, weights
from reticent.testing.dp_faults.fault import FAULTS, Fault, FaultOutcome, FaultSetting, run

__all__ = [
    "FAULTS",
    "Fault",
    "FaultOutcome",
    "FaultSetting",
    "accounting",
    "batches",
    "clipping",
    "noise",
    "run",
    "weights",
]
