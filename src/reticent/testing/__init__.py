# SPDX-License-Identifier: Apache-2.0
"""Tools for tests of this package, and of attacks and methods that are written elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reticent.core.lazy import lazy_names

if TYPE_CHECKING:
    from reticent.testing.clip_conformance import check_clip as check_clip
    from reticent.testing.conformance import check_attack as check_attack
    from reticent.testing.malicious_files import make_malicious as make_malicious
    from reticent.testing.tiny import save_tiny as save_tiny
    from reticent.testing.tiny import tiny_model as tiny_model
    from reticent.testing.tiny import tiny_tokenizer as tiny_tokenizer

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
