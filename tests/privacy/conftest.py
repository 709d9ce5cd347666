# SPDX-License-Identifier: Apache-2.0
"""Makes ``engine.py`` available as the fixture ``engine``: tests are no package, so it cannot be imported by name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def engine() -> ModuleType:
    spec = importlib.util.spec_from_file_location("privacy_engine", Path(__file__).with_name("engine.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
