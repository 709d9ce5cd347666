# SPDX-License-Identifier: Apache-2.0
"""A verification is held to limits on both sides of 0.5, and what cannot be checked does not pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.section import Section
from reticent.core.unlearning import (
    Measurement,
    UnlearningCheck,
    UnlearningModel,
    UnlearningResults,
    UnlearningVerdict,
)
from reticent.report.unlearning_file import write_unlearning
from reticent.workflows.gate import On
from reticent.workflows.unlearning_gate import gate_unlearning


def results(*aucs: tuple[float, float, float], word: str = "like unseen") -> UnlearningResults:
    numbers = [
        Measurement(
            check="membership",
            model=role,
            role=role,
            what=f"attack {place}",
            metric="auc",
            estimate=Estimate(value=value, lo=lo, hi=hi, n=200, method="DeLong"),
            word=word if role == "after" else "",
        )
        for place, (value, lo, hi) in enumerate(aucs)
        for role in ("after", "before")
    ]
    # What the untouched model shows is not held against the unlearned one.
    numbers = [
        replace(number, estimate=replace(number.estimate, value=0.99, hi=1.0)) if number.role == "before" else number
        for number in numbers
    ]
    check = UnlearningCheck(
        name="membership", section=Section(name="membership", title="Membership"), measured=tuple(numbers)
    )
    return UnlearningResults(
        title="without",
        created="2026-01-01T00:00:00Z",
        verdict=UnlearningVerdict(status="not_detected", headline="Not detected by these attacks."),
        margin=0.1,
        confidence=0.95,
        models=(UnlearningModel(name="unlearned", role="after", fingerprint="9f2c"),),
        checks=(check,),
    )


@pytest.mark.parametrize(
    ("aucs", "on", "code"),
    [
        ([(0.52, 0.45, 0.59), (0.47, 0.41, 0.53)], "value", 0),
        ([(0.52, 0.45, 0.59), (0.47, 0.41, 0.53)], "upper", 0),
        ([(0.52, 0.45, 0.59), (0.63, 0.56, 0.70)], "value", 1),
        ([(0.52, 0.45, 0.61)], "upper", 1),
        ([(0.63, 0.56, 0.70)], "lower", 0),
        ([(0.70, 0.63, 0.77)], "lower", 1),
        ([(0.52, 0.45, 0.59), (0.35, 0.28, 0.42)], "value", 1),
        ([(0.45, 0.38, 0.52)], "upper", 1),
        ([(0.35, 0.28, 0.42)], "lower", 0),
        ([(0.30, 0.23, 0.37)], "lower", 1),
    ],
)
def test_limits_on_both_sides(aucs: list[tuple[float, float, float]], on: On, code: int) -> None:
    outcome = gate_unlearning(results(*aucs), max_forget_auc=0.6, min_forget_auc=0.4, on=on)
    assert outcome.exit_code == code, outcome.lines


def test_what_cannot_be_checked_does_not_pass() -> None:
    few = results((0.5, 0.3, 0.7), word="too few to tell")
    assert gate_unlearning(few, max_forget_auc=0.6).exit_code == 2
    beyond = results((0.7, 0.5, 0.9), word="too few to tell")
    assert gate_unlearning(beyond, max_forget_auc=0.6).exit_code == 1, "an excess is one, however few rows there are"
    nothing = replace(few, checks=())
    assert gate_unlearning(nothing, max_forget_auc=0.6, min_forget_auc=0.4).exit_code == 2


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadInput, match="has no limit to check"):
        gate_unlearning(results((0.5, 0.4, 0.6)))
    for limits in ({"max_forget_auc": 0.3}, {"min_forget_auc": 0.6}, {"max_forget_auc": 1.2}):
        with pytest.raises(BadInput, match="a model that never saw the rows"):
            gate_unlearning(results((0.5, 0.4, 0.6)), **limits)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_unlearning(tmp_path / "unlearning.json", results((0.63, 0.56, 0.70)))
    assert main(["gate", str(tmp_path), "--max-forget-auc", "0.6", "--min-forget-auc", "0.4"]) == 1
    assert "FAIL          max_forget_auc 0.6" in "".join(capsys.readouterr())
    assert main(["gate", str(tmp_path), "--max-forget-auc", "0.7", "--max-auc", "0.6"]) == 2
    assert "Call reticent gate twice" in "".join(capsys.readouterr())
