# SPDX-License-Identifier: Apache-2.0
"""Clipped sums of per-unit gradients."""

from reticent.privacy.clip.api import ClippedSum, Clipper, make_clipper

__all__ = ["ClippedSum", "Clipper", "make_clipper"]
