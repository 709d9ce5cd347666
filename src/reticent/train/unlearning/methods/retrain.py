# SPDX-License-Identifier: Apache-2.0
"""Retraining without (Cao and Yang, "Towards Making Systems Forget with Machine Unlearning", S&P 2015): the same
training from the same base, without the rows to be forgotten. Exact by construction, and the measure of all others."""

from __future__ import annotations

from reticent.train.unlearning.method import UNLEARNERS, Unlearner

UNLEARNERS.add(
    "retrain",
    Unlearner(
        name="retrain",
        kind="exact",
        summary="Trains again from the base without the forget rows; for a fine-tune with LoRA often the cheapest.",
        direction="none",
        paper="doi:10.1109/SP.2015.35",
    ),
)
