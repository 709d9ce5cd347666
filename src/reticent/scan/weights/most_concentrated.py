# SPDX-License-Identifier: Apache-2.0
"""Modules with the most of their change in one direction, as evidence for a person who wants to look closer."""

from __future__ import annotations

from collections.abc import Sequence

from reticent.core.scan import ScanEvidence
from reticent.scan.weights.spectrum import ModuleSpectrum

SHOWN = 5


def most_concentrated(spectra: Sequence[ModuleSpectrum], *, shown: int = SHOWN) -> list[ScanEvidence]:
    """The modules of the highest ``σ₁ / Σσ``, the highest first; the score is that share.

    Args:
        spectra: of all modules.
        shown: how many.
    """
    highest = sorted(spectra, key=lambda spectrum: (-spectrum.top_share, spectrum.module))[:shown]
    return [
        ScanEvidence(
            score=spectrum.top_share,
            where=spectrum.module,
            note=(
                f"{spectrum.top_share:.0%} of the change is in one direction: σ₁ {spectrum.sigma1:.3g}, stable rank "
                f"{spectrum.stable_rank:.2f}, kurtosis {spectrum.kurtosis:.2f}"
            ),
        )
        for spectrum in highest
    ]
