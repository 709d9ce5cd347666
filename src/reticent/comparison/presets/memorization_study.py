# SPDX-License-Identifier: Apache-2.0
"""Memorization in NLP Fine-tuning Methods (Mireshghallah et al., 2022, arXiv:2205.12506)."""

from __future__ import annotations

from reticent.comparison.grid import Grid, Method
from reticent.comparison.presets.preset import Study, preset


@preset("memorization-study", paper="arXiv:2205.12506")
def memorization_study() -> Study:
    """Memorization by tuning method: full, head, two adapters and LoRA, three learning rates each, with secrets.

    The paper's grid at its plotted learning rates, spread so that each sweep has a rate below and one above. Its
    secrets are planted 25 or 50 times; here a third of them are planted 16 times.
    """
    return Study(
        grid=Grid(
            methods=(
                Method(method="full", learning_rates=(2e-5, 5e-5, 1e-4)),
                Method(method="head", learning_rates=(1e-4, 3e-4, 8e-4)),
                Method(method="adapter", params={"reduction_factor": 16}, learning_rates=(5e-4, 1e-3, 2e-3)),
                Method(method="adapter", params={"reduction_factor": 2}, learning_rates=(2e-4, 5e-4, 1e-3)),
                Method(method="lora", learning_rates=(2e-4, 5e-4, 1e-3)),
            ),
            seeds=(0, 1),
        ),
        epochs=4,
        canaries={"canaries": 24, "canary_controls": 250},
    )
