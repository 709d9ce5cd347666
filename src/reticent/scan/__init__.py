# SPDX-License-Identifier: Apache-2.0
"""Scan a model, an adapter or data before they are trusted. Nothing is executed, and nothing comes over the network.

The package can be called: ``reticent.scan(folder)`` is `reticent.workflows.scan.scan`, whichever of its modules was
imported before.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package whose name is that of its main function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # By name: a package may import no layer above it, and this only passes a call on.
        return importlib.import_module("reticent.workflows.scan").scan(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
