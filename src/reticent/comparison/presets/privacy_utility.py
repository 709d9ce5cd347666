# SPDX-License-Identifier: Apache-2.0
"""The cost of a promise of differential privacy, and the leakage that it prevents."""

from __future__ import annotations

from reticent.comparison.defences import DEFENCES
from reticent.comparison.grid import Grid, Method
from reticent.comparison.presets.preset import Study, preset


@preset("privacy-utility")
def privacy_utility() -> Study:
    """Without a promise, and with ε of 8, 3 and 1 per record, IA3 at three learning rates.

    For promises per user give ``defences`` none,user_epsilon8,user_epsilon3,user_epsilon1 beside the preset.
    """
    return Study(
        grid=Grid(
            methods=(Method(method="ia3", learning_rates=(3e-3, 1e-2, 3e-2)),),
            defences=tuple(DEFENCES[name] for name in ("none", "epsilon8", "epsilon3", "epsilon1")),
            seeds=(0, 1),
        ),
        epochs=4,
    )
