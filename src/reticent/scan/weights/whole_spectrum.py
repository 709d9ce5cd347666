# SPDX-License-Identifier: Apache-2.0
"""Scanner: the spectra of a whole model's difference to its sibling, beside those of clean models tuned alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.paper import Paper
from reticent.core.scan import ScanEvidence
from reticent.scan.features import FeatureVector
from reticent.scan.scanner import scanner
from reticent.scan.suspect import Suspect
from reticent.scan.weights.delta_spectrum import delta_spectra
from reticent.scan.weights.most_concentrated import most_concentrated
from reticent.scan.weights.spectrum import spectra_features


def whole_features(suspect: Suspect) -> FeatureVector:
    """Statistics of the spectra by kind of matrix, for `calibrate`.

    Raises:
        BadInput: as `delta_spectrum.delta_spectra`.
    """
    return spectra_features(list(delta_spectra(suspect.folder, _base(suspect), seed=suspect.seed)))


@scanner(
    name="whole_spectrum",
    title="Spectra of the difference to the sibling",
    kind="weights",
    null="clean",
    needs=("whole", "base"),
    blind_to=(
        "A backdoor that the sibling has too, one in biases or normalisations alone, and one whose update is spread "
        "as that of clean training is."
    ),
    paper=Paper("arXiv:2602.15195"),
    features=whole_features,
    order=22,
)
def whole_spectrum(suspect: Suspect) -> Sequence[ScanEvidence]:
    """Matrices with the most of their difference in one direction; by themselves they say nothing."""
    return most_concentrated(list(delta_spectra(suspect.folder, _base(suspect), seed=suspect.seed)))


def _base(suspect: Suspect) -> Path:
    if suspect.base is None:
        raise BadInput("the scan", "has no trusted sibling to compare with", "Give one with --base.")
    return suspect.base
