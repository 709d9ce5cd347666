# SPDX-License-Identifier: Apache-2.0
"""Makes ``sample.py`` available as the fixture ``sample``: tests are no package, so it cannot be imported by name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from reticent.auditing.conclude import kinds_of
from reticent.auditing.config import AuditConfig
from reticent.core.results import Results


@pytest.fixture(scope="session")
def sample() -> ModuleType:
    spec = importlib.util.spec_from_file_location("report_sample", Path(__file__).with_name("sample.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    makers = {name: make for name, make in vars(module).items() if getattr(make, "__annotations__", {}) == MAKER}
    for name, make in makers.items():
        setattr(module, name, with_kinds(make))
    return module


MAKER = {"return": "Results"}
"""Annotations of the functions that make a sample."""


def with_kinds(make: Callable[[], Results]) -> Callable[[], Results]:
    """The sample with the kinds of attack that its results show, as an audit lists them."""

    def made() -> Results:
        results = make()
        return replace(results, kinds=kinds_of(results, AuditConfig(), {}))

    return made
