# SPDX-License-Identifier: Apache-2.0
"""Extraction attacks, one a file: what can be pulled out of a model word for word. Imports no torch."""

from reticent.attacks.extraction.evidence import Continued, ExtractionInputs, FreeGenerations, short_lengths

__all__ = ["Continued", "ExtractionInputs", "FreeGenerations", "short_lengths"]
