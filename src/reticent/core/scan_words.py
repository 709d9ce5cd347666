# SPDX-License-Identifier: Apache-2.0
"""The fixed words of a scan. No phrase is stronger than "nothing found by these scanners": a scan never says safe."""

from __future__ import annotations

FOUND, SUSPICIOUS, NOTHING, NOT_LOOKED = "found", "suspicious", "nothing found", "could not look"
WORDS = (FOUND, SUSPICIOUS, NOTHING, NOT_LOOKED)
"""The worst first. *found*: a file that runs code, or a trigger that was verified; *suspicious*: p below the level."""

FILES = "files"
KINDS = (FILES, "weights", "behaviour", "data")
"""Kinds of what is looked at, from the cheapest on."""

BY_RULE, MADE, CLEAN = NULLS = ("rule", "made", "clean")
"""The null of a scanner: a rule on content; a null that it makes itself (its evidence has p-values); clean models."""
