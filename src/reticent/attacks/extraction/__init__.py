# SPDX-License-Identifier: Apache-2.0
"""Extraction attacks, one a file: what can be pulled out of a model word for word. Imports no torch."""

from reticent.attacks.extraction.attack import EXTRACTIONS, ExtractionAttack, extraction
from reticent.attacks.extraction.evidence import Drawn, Evidence, Written

__all__ = ["EXTRACTIONS", "Drawn", "Evidence", "ExtractionAttack", "Written", "extraction"]
