# SPDX-License-Identifier: Apache-2.0
"""One entry a metric, and what is made of it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from reticent.cli.gate import gate as verb
from reticent.core.metrics import METRICS, Metric, headlines, limits, metric, steps, with_table
from reticent.workflows.gate import gate

PAGE = Path(__file__).parents[2] / "docs" / "reading_the_report.md"


def test_the_table_of_the_documentation_is_made_of_the_metrics() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_table(text) == text, f"stale: python -m reticent.core.metrics {PAGE.relative_to(PAGE.parents[1])}"


def test_every_entry_makes_sense() -> None:
    for name, entry in METRICS.items():
        assert entry.name == name
        assert entry.label
        assert entry.least <= (entry.chance or 0.0) <= entry.most
        assert list(entry.severity_steps) == sorted(entry.severity_steps, reverse=True)
        if entry.severity_steps and not name.startswith("tpr@"):
            assert entry.severity_steps[-1] == entry.chance  # nothing is severe that chance gives


def test_a_rate_that_nobody_listed_has_the_steps_of_its_rate() -> None:
    assert steps("tpr@0.05") == pytest.approx((0.9, 0.5, 0.15, 0.05))
    assert metric("tpr@0.05").percent
    for name in ("tpr@x", "new", "share", "epsilon_if"):
        with pytest.raises(ValueError, match="has no severity steps"):
            steps(name)
    with pytest.raises(ValueError, match="four severity steps or none"):
        Metric(name="x", label="X", severity_steps=(0.1,))


def test_the_console_goes_from_records_to_bounds() -> None:
    assert headlines() == [
        ("record", "auc"), ("record", "tpr@0.01"), ("user", "auc"), ("canary", "exposure_bits"),
        ("passage", "extracted"), ("*", "epsilon_lower"),
    ]  # fmt: skip


def test_every_limit_is_an_argument_and_a_flag() -> None:
    names = ["max_auc", "max_tpr_at_1pct_fpr", "max_user_auc", "max_exposure_bits", "max_epsilon", "max_extracted"]
    assert list(limits()) == names
    for function in (gate, verb):
        parameters = inspect.signature(function).parameters
        assert [name for name in parameters if name in names] == names
        assert all(parameters[name].default is None for name in names)
        assert all(f"{name}: limit on" in (inspect.getdoc(function) or "") for name in names)
        assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        gate(None, max_auk=0.5)
