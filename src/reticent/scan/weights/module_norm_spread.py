# SPDX-License-Identifier: Apache-2.0
"""Scanner: how unevenly an adapter's change is spread over its modules (arXiv:2605.30189).

One number an adapter, so that few clean adapters are enough, and one that has to be calibrated for each base.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reticent.core.paper import Paper
from reticent.core.scan import ScanEvidence
from reticent.scan.features import FeatureVector
from reticent.scan.scanner import scanner
from reticent.scan.suspect import Suspect
from reticent.scan.weights.lora_spectrum import lora_spectra
from reticent.scan.weights.spectrum import norm_spread


def spread_feature(suspect: Suspect) -> FeatureVector:
    """The logarithm of the spread, for `calibrate`: unusually even is as strange as unusually uneven.

    Raises:
        BadInput: as `lora_spectrum.lora_spectra`.
    """
    spread = norm_spread(lora_spectra(suspect.folder))
    return FeatureVector(names=("spread of norms over modules",), values=np.log([max(spread, 1e-12)]))


@scanner(
    name="module_norm_spread",
    title="Spread of the adapter's norms over modules",
    kind="weights",
    null="clean",
    needs=("adapter",),
    blind_to="A backdoor whose update has usual norms in all modules; other bases and recipes than the clean ones.",
    paper=Paper("arXiv:2605.30189"),
    features=spread_feature,
    order=21,
)
def module_norm_spread(suspect: Suspect) -> Sequence[ScanEvidence]:
    """The standard deviation over modules of ``‖BA‖_F / √(out · in)``; by itself it says nothing."""
    spectra = lora_spectra(suspect.folder)
    largest = max(spectra, key=lambda spectrum: spectrum.normed_frobenius)
    spread = norm_spread(spectra)
    return [
        ScanEvidence(
            score=spread,
            where=largest.module,
            note=f"norms of {len(spectra)} modules spread by {spread:.3g}; the largest, {largest.normed_frobenius:.3g}",
        )
    ]
