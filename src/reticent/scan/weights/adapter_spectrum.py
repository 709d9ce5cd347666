# SPDX-License-Identifier: Apache-2.0
"""Scanner: the spectra of a LoRA adapter beside those of clean adapters of the same recipe.

Poisoned adapters were seen to put more of their change into few directions (arXiv:2602.15195). How much is usual
depends on rank, rate, epochs and data, so that only adapters of the same recipe say whether a spectrum is unusual.
"""

from __future__ import annotations

from collections.abc import Sequence

from reticent.core.paper import Paper
from reticent.core.scan import ScanEvidence
from reticent.scan.features import FeatureVector
from reticent.scan.scanner import scanner
from reticent.scan.suspect import Suspect
from reticent.scan.weights.lora_spectrum import lora_spectra
from reticent.scan.weights.most_concentrated import most_concentrated
from reticent.scan.weights.spectrum import spectra_features

BLIND_TO = (
    "A backdoor whose update is spread as that of clean training is, by an attacker who trains against these "
    "statistics, or beside the adapter: in its base, its tokenizer or its template."
)


def adapter_features(suspect: Suspect) -> FeatureVector:
    """Statistics of the spectra by kind of module, for `calibrate`.

    Raises:
        BadInput: as `lora_spectrum.lora_spectra`.
    """
    return spectra_features(lora_spectra(suspect.folder))


@scanner(
    name="adapter_spectrum",
    title="Spectra of the adapter",
    kind="weights",
    null="clean",
    needs=("adapter",),
    blind_to=BLIND_TO,
    paper=Paper("arXiv:2602.15195"),
    features=adapter_features,
    order=20,
)
def adapter_spectrum(suspect: Suspect) -> Sequence[ScanEvidence]:
    """Modules with the most of their change in one direction; by themselves they say nothing."""
    return most_concentrated(lora_spectra(suspect.folder))
