# SPDX-License-Identifier: Apache-2.0
"""User Inference Attacks on Large Language Models (Kandpal et al., 2024, arXiv:2310.09266)."""

from __future__ import annotations

from reticent.comparison.defences import DEFENCES
from reticent.comparison.grid import Grid, Method
from reticent.comparison.presets.preset import Study, preset


@preset("user-inference", paper="arXiv:2310.09266")
def user_inference() -> Study:
    """User inference against a model, and the effect of caps, deduplication and clipping on it."""
    names = ("none", "cap5", "cap2", "dedup_users", "clip_examples", "clip_batch", "canary_words5", "canary_words10")
    return Study(
        grid=Grid(
            methods=(Method(method="full", learning_rates=(1e-4,)),),
            defences=tuple(DEFENCES[name] for name in names),
            seeds=(0, 1),
        ),
        epochs=4,
        split={"split_unit": "user"},
    )
