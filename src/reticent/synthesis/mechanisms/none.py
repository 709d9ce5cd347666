# SPDX-License-Identifier: Apache-2.0
"""No protection: a model is tuned as usual and writes. There to compare with; see `tuned_writing`."""

from __future__ import annotations

from reticent.synthesis.synthesis_mechanism import SynthesisMaterial, mechanism
from reticent.synthesis.tuned_writing import TunedPlan, settled_tuning


@mechanism("none", private="nowhere", paper="arXiv:2502.14921", units=(), tunes=True)
def none(material: SynthesisMaterial) -> TunedPlan:
    """A model is tuned on the private texts as usual and writes texts like them, which promises nothing to anybody.

    Raises:
        BadInput: see `settled_tuning`.
    """
    return settled_tuning(material, private=False)
