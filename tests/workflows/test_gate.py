# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.core.results import (
    CanaryExposure,
    Confound,
    Extraction,
    ExtractionRow,
    GuaranteeAudit,
    GuaranteeBound,
    GuaranteeCheck,
    Power,
    Results,
    Verdict,
)
from reticent.workflows.gate import GateOutcome, LimitCheck, gate, write_junit


def _estimate(value: float, lo: float, hi: float) -> Estimate:
    return Estimate(value=value, lo=lo, hi=hi, n=200, method="DeLong")


def _finding(level: str, metric: str, estimate: Estimate, attack: str = "loss") -> Finding:
    return Finding(
        attack=attack,
        level=level,
        metric=metric,
        estimate=estimate,
        severity=Severity.LOW,
        threat=ThreatModel(access="logprob"),
        statement="",
    )


def _results(*findings: Finding, status: str = "leaks", **more: Any) -> Results:
    return replace(
        Results(
            title="",
            created="",
            verdict=Verdict(status=status, headline=""),
            findings=findings,
            attacks=(),
            curves=(),
            distributions=(),
            exposure=(),
            exposed=(),
            confound=Confound(blind_auc=None, near_duplicates=0, near_duplicate_share=None, separable=False),
            power=(),
            not_tested=(),
            counts={},
            provenance={},
        ),
        **more,
    )


WEAK = _finding("record", "auc", _estimate(0.52, 0.45, 0.59), attack="zlib")
STRONG = _finding("record", "auc", _estimate(0.60, 0.55, 0.65), attack="loss")
USER = _finding("user", "auc", _estimate(0.70, 0.60, 0.80))


@pytest.mark.parametrize(
    ("on", "limit", "code"),
    [
        ("value", 0.60, 0),
        ("value", 0.599, 1),
        ("lower", 0.55, 0),
        ("lower", 0.549, 1),
        ("upper", 0.65, 0),
        ("upper", 0.649, 1),
    ],
)
def test_the_worst_attack_decides_by_the_chosen_end(on: Any, limit: float, code: int) -> None:
    outcome = gate(_results(WEAK, STRONG, USER), max_auc=limit, on=on)
    assert outcome.exit_code == code
    assert outcome.checks[0].attack == "loss"


def test_each_limit_reads_its_own_metric() -> None:
    results = _results(
        STRONG,
        USER,
        _finding("record", "tpr@0.01", _estimate(0.05, 0.02, 0.09)),
        _finding("record", "epsilon_lower", Estimate(value=1.5, lo=1.5, hi=math.inf, n=9, method="one-run")),
        _finding("canary", "exposure_bits", _estimate(4.0, 2.0, 6.0)),
    )
    limits = {"max_auc": 0.6, "max_tpr_at_1pct_fpr": 0.05, "max_user_auc": 0.7}
    limits |= {"max_exposure_bits": 4.0, "max_epsilon": 1.5}
    assert gate(results, **limits).exit_code == 0
    for name, limit in limits.items():
        outcome = gate(results, **limits | {name: limit - 0.001})
        assert [check.name for check in outcome.checks if check.state == "failed"] == [name]
        assert outcome.exit_code == 1


def test_planted_tiers_count_and_controls_do_not() -> None:
    def tier(repetitions: int, value: float) -> CanaryExposure:
        return CanaryExposure(
            tier=f"x{repetitions}",
            kind="record",
            repetitions=repetitions,
            bits=_estimate(value, 0, 20),
            each=(value,),
            ceiling=20,
        )

    results = _results(exposure=(tier(0, 15.0), tier(4, 3.0), tier(16, 8.0)))
    assert gate(results, max_exposure_bits=8.0).exit_code == 0
    assert gate(results, max_exposure_bits=7.9).checks[0].attack == "x16"


@pytest.mark.parametrize(
    "limit", ["max_auc", "max_tpr_at_1pct_fpr", "max_user_auc", "max_exposure_bits", "max_epsilon"]
)
def test_what_was_not_measured_does_not_pass(limit: str) -> None:
    outcome = gate(_results(), **{limit: 1.0})
    assert outcome.exit_code == 2
    assert "cannot be checked" in outcome.lines[0]


def test_a_refused_rate_says_how_many_it_needs_and_had() -> None:
    power = Power(level="record", metric="auc", smallest=0.6, power=0.8, n_member=50, n_held_out=60)
    reason = gate(_results(STRONG, power=(power,)), max_tpr_at_1pct_fpr=0.1).checks[0].reason
    assert "needs ≥ 1000 held-out records (this audit had 60)" in reason


def test_confounded_results_never_pass() -> None:
    assert gate(_results(WEAK, status="confounded"), max_auc=1.0).exit_code == 2


def test_underpowered_results_can_fail_but_not_pass() -> None:
    results = _results(STRONG, status="underpowered")
    assert gate(results, max_auc=0.9).exit_code == 2
    assert gate(results, max_auc=0.5).exit_code == 1


def test_a_missing_interval_end_cannot_be_checked() -> None:
    bound = _finding("record", "epsilon_lower", Estimate(value=1.5, lo=1.5, hi=math.inf, n=9, method="one-run"))
    assert gate(_results(bound), max_epsilon=5, on="upper").exit_code == 2
    assert gate(_results(bound), max_epsilon=5, on="lower").exit_code == 0


def test_a_known_excess_outweighs_an_unknown() -> None:
    outcome = gate(_results(STRONG), max_auc=0.5, max_user_auc=0.5)
    assert [check.state for check in outcome.checks] == ["failed", "unknown"]
    assert outcome.exit_code == 1


@pytest.mark.parametrize(
    "limits", [{}, {"max_auc": 1.5}, {"max_auc": math.nan}, {"max_auc": 0.0}, {"max_epsilon": -1}, {"on": "mean"}]
)
def test_senseless_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        gate(_results(STRONG), **limits)


def test_the_junit_file_counts_and_escapes(tmp_path: Path) -> None:
    hostile = _finding("record", "auc", _estimate(0.9, 0.8, 1.0), attack='<script>"&\x00\ud800')
    outcome = gate(_results(hostile, USER), max_auc=0.6, max_user_auc=0.8, max_epsilon=1.0)
    write_junit(tmp_path / "gate.xml", outcome)
    suite = ET.fromstring((tmp_path / "gate.xml").read_text(encoding="utf-8")).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    children = [[child.tag for child in case] for case in suite]
    assert children == [["failure"], ["system-out"], ["error"]]
    assert '<script>"&\ufffd\ufffd' in str(suite[0][0].get("message"))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["passed", "failed", "unknown"]), min_size=1, max_size=5))
def test_the_exit_code_is_zero_only_if_all_passed(states: list[Any]) -> None:
    checks = tuple(LimitCheck(name="x", limit=1, state=s, measured=None, attack="", reason="") for s in states)
    outcome = GateOutcome(checks=checks)
    assert (outcome.exit_code == 0) == all(state == "passed" for state in states)
    assert len(outcome.lines) == len(states) + 1


def _promise(**changed: Any) -> GuaranteeAudit:
    bound = GuaranteeBound(
        units="users", unit="user", assumption="", estimate=_estimate(1.0, 1.0, math.inf), promised=8.0
    )
    promise = GuaranteeAudit(
        sentence="ε = 8.00 per user",
        unit="user",
        epsilon=8.0,
        delta=1e-5,
        user_epsilon=None,
        user_delta=None,
        bounds=(bound,),
        auc=None,
        auc_attack="",
        auc_limit=0.9997,
        checks=(),
        not_covered=(),
        not_compared=(),
    )
    return replace(promise, **changed)


@pytest.mark.parametrize(
    ("promise", "limit", "unit", "code", "said"),
    [
        (None, 8, "user", 2, "was trained without a promise"),
        (_promise(), 8, "user", 0, "ε = 8 per user at δ = 1e-05 is within the limit"),
        (_promise(), 4, "user", 1, "is above the limit"),
        (_promise(), 100, "record", 2, "promises no ε per record"),
        (_promise(unit="record", user_epsilon=41.5), 8, "record", 0, "ε = 8 per record"),
        (_promise(unit="record", user_epsilon=41.5), 8, "user", 1, "ε = 41.5 per user"),
        (_promise(unit="record"), 8, "user", 2, "promises no ε per user"),
    ],
)
def test_a_limit_on_the_promise(promise: GuaranteeAudit | None, limit: float, unit: str, code: int, said: str) -> None:
    for status in ("leaks", "confounded", "underpowered"):
        outcome = gate(
            replace(_results(status=status), promise=promise), max_promised_epsilon=limit, promised_unit=unit
        )
        assert outcome.exit_code == code
        assert said in outcome.lines[0]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"bounds": (replace(_promise().bounds[0], promised=0.9),)}, "ε ≥ 1 per user (users"),
        (
            {"checks": (GuaranteeCheck(name="noise", measured="0", bound="1", passed=False),)},
            "the check 'noise' failed",
        ),
        ({"auc": _estimate(0.9, 0.8, 1.0), "auc_limit": 0.75}, "an AUC above 0.75"),
    ],
)
def test_a_broken_promise_fails_whatever_the_limits(broken: dict[str, Any], said: str) -> None:
    results = _results(_finding("record", "auc", _estimate(0.5, 0.45, 0.55)))
    assert gate(replace(results, promise=_promise()), max_auc=0.9).exit_code == 0
    outcome = gate(replace(results, promise=_promise(**broken)), max_auc=0.9)
    assert outcome.exit_code == 1
    assert said in outcome.lines[1]


def _row(mine: float, base: float | None, **more: Any) -> ExtractionRow:
    settings: dict[str, Any] = {"attack": "discoverable", "group": "planted once", "metric": "share"} | more
    apart = None if base is None else _estimate(mine - base, mine - base - 0.1, mine - base + 0.1)
    return ExtractionRow(
        family="extraction",
        target=_estimate(mine, mine - 0.1, mine + 0.1),
        base=None if base is None else _estimate(base, base, base),
        difference=apart,
        n=200,
        access="text",
        summary="",
        **settings,
    )


@pytest.mark.parametrize(
    ("rows", "limit", "code"),
    [
        ([_row(0.5, 0.3)], 0.3, 0),
        ([_row(0.5, 0.3)], 0.1, 1),
        ([_row(0.5, None)], 0.3, 1),
        ([_row(0.0, 0.0)], 0.0, 0),
        ([_row(0.0, 0.0), _row(0.9, 0.0, control=True), _row(0.9, 0.0, metric="mean")], 0.1, 0),
        ([], 0.5, 2),
    ],
)
def test_the_limit_on_what_is_pulled_out(rows: list[ExtractionRow], limit: float, code: int) -> None:
    assert gate(_results(extraction=Extraction(rows=tuple(rows))), max_extracted=limit).exit_code == code


def test_without_extraction_its_limit_is_not_passed() -> None:
    outcome = gate(_results(), max_extracted=0.5)
    assert outcome.exit_code == 2
    assert "reticent audit --extraction" in outcome.lines[0]
