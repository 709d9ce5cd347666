# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import ModuleType

from reticent.core.finding import Severity
from reticent.report import summary


def test_the_best_attack_is_the_one_that_leaks_most(sample: ModuleType) -> None:
    results = sample.leaking()
    best = summary.best(results, "user", "auc")
    assert best is not None
    assert best.estimate.value == max(estimate.value for _, estimate in summary.aucs(results, "user"))
    assert summary.best(results, "user", "tpr@0.01") is None


def test_findings_are_parted_and_ordered_by_severity(sample: ModuleType) -> None:
    findings = (*sample.leaking().findings, *sample.not_detected().findings)
    detected, clean = summary.by_severity(findings)
    assert len(detected) + len(clean) == len(findings)
    order = [list(Severity).index(finding.severity) for finding in detected]
    assert order == sorted(order)
    assert {finding.severity for finding in clean} == {Severity.NONE}


def test_planted_secrets_are_compared_with_controls(sample: ModuleType) -> None:
    most, controls = summary.planted(sample.leaking())
    assert most is not None
    assert controls is not None
    assert (most.repetitions, controls.repetitions) == (16, 0)
    assert summary.planted(sample.leaking(), "user") == (None, None)


def test_chance_is_put_in_words() -> None:
    assert "about 11 would have p ≤ 0.01" in summary.expected_by_chance("record", 1104)
    assert "about 2 would have p ≤ 0.1" in summary.expected_by_chance("user", 20)
    assert summary.expected_by_chance("user", 0) == ""
