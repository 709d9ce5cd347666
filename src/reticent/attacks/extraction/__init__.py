# SPDX-License-Identifier: Apache-2.0
"""Extraction attacks, one a file: what can be pulled out of a model word for word. Imports no torch."""

from reticent.attacks.extraction.evidence import ExtractionInputs, FreeGenerations, SecretContinuations, short_lengths

__all__ = ["ExtractionInputs", "FreeGenerations", "SecretContinuations", "short_lengths"]
