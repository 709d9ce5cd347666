# SPDX-License-Identifier: Apache-2.0
"""Where things that can be made again are kept between runs: fetched models, tables, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """``$RETICENT_CACHE``, else ``$XDG_CACHE_HOME/reticent``, else ``~/.cache/reticent``; it may not exist yet.

    Where ``$RETICENT_CACHE`` is an address, that is a store beside the cache: see `reticent.core.shared_store`.
    """
    chosen = os.environ.get("RETICENT_CACHE", "")
    if chosen and "://" not in chosen:
        return Path(chosen).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "reticent"
