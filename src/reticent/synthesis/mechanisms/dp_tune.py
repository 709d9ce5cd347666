# SPDX-License-Identifier: Apache-2.0
"""DP tuning: a model is tuned on the private texts with differential privacy, and writes (arXiv:2309.15696 on where the
noise enters). See `tuned_writing`."""

from __future__ import annotations

from reticent.synthesis.synthesis_mechanism import SynthesisMaterial, mechanism
from reticent.synthesis.tuned_writing import TunedPlan, settled_tuning


@mechanism(
    "dp_tune",
    private="the gradients of a training, and the counts of prompts or lengths where there are any",
    paper="arXiv:2309.15696",
    units=("record", "user"),
    tunes=True,
)
def dp_tune(material: SynthesisMaterial) -> TunedPlan:
    """A model is tuned on the private texts with differential privacy, and writes texts like them.

    Raises:
        BadInput: see `settled_tuning`.
    """
    return settled_tuning(material, private=True)
