# SPDX-License-Identifier: Apache-2.0
"""Clipped sums of per-unit gradients."""

from reticent.privacy.clip.api import Clipped, Clipper, make_clipper

__all__ = ["Clipped", "Clipper", "make_clipper"]
