# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from dataclasses import replace
from types import ModuleType

from rich.console import Console

from reticent.core.results import Results, Verdict
from reticent.report.console import print_summary


def _printed(results: Results) -> str:
    file = io.StringIO()
    print_summary(results, console=Console(file=file, width=200, color_system=None))
    return file.getvalue()


def test_the_verdict_and_the_strongest_findings_are_printed_with_intervals(sample: ModuleType) -> None:
    text = _printed(sample.leaking())
    assert "LEAK DETECTED This model gives away" in text
    assert "0.943 [" in " ".join(text.split())
    for shown in ("TPR at 1 % FPR", "12.40 bits", "[11.50, 13.30]", "[3.10, ∞) 95 %, one-sided", "δ = 1e-5"):
        assert shown in text
    assert "gradient_norm" in text
    assert "zlib" not in text


def test_a_promise_is_printed_with_its_unit(sample: ModuleType) -> None:
    text = " ".join(_printed(sample.private()).split())
    assert "promised: ε = 8.00 per user at δ = 1e-05" in text
    assert "with the runs beside it: 2 private trainings together: ε = 11.32 per user at δ = 1e-05" in text


def test_what_comes_out_word_for_word_is_printed(sample: ModuleType) -> None:
    text = " ".join(_printed(sample.extracted()).split())
    assert "passage level, Share pulled out: 70 % [50, 90]" in text
    assert "n = 40, discoverable" in text


def test_a_confounded_audit_prints_no_membership_number(sample: ModuleType) -> None:
    text = _printed(sample.confounded())
    assert "NO CLAIM POSSIBLE" in text
    assert "ratio" not in text
    assert "ε lower bound" not in text


def test_an_audit_of_nothing_prints_its_verdict(sample: ModuleType) -> None:
    assert "TOO FEW UNITS TO SAY" in _printed(sample.underpowered())


def test_markup_in_results_is_shown_not_obeyed(sample: ModuleType) -> None:
    hostile = replace(sample.underpowered(), verdict=Verdict(status="leaks", headline="[bold red]x[/] [link=y]z"))
    assert "[bold red]x[/] [link=y]z" in _printed(hostile)
