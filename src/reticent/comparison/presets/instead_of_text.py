# SPDX-License-Identifier: Apache-2.0
"""Must the model that ships have seen the text at all? Ordinary tuning beside all that can stand in for it."""

from __future__ import annotations

from reticent.comparison.defences import DEFENCES
from reticent.comparison.grid import Grid, Method
from reticent.comparison.presets.preset import Study, preset

NAMES = (
    *("none", "scrub", "epsilon8"),
    *("synthetic_none", "synthetic_dp_tune8", "synthetic_evolution8", "synthetic_prediction8"),
    *("emulate0.3", "emulate1", "emulate2"),
)


@preset("stand-ins")
def stand_ins() -> Study:
    """Ordinary, scrubbed and private tuning, synthetic texts by each mechanism, and a steered base, each audited.

    LoRA at three learning rates. For promises per user give the defences with ``user_`` before them beside the preset.
    """
    return Study(
        grid=Grid(methods=(Method(method="lora"),), defences=tuple(DEFENCES[name] for name in NAMES), seeds=(0, 1)),
        epochs=3,
        canaries={"canaries": 24, "canary_controls": 250},
        audit={"extraction": True},
    )
