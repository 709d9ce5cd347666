# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import fields, replace
from types import ModuleType

import pytest

from reticent.auditing.config import AuditConfig
from reticent.core.finding import Finding, Severity, ThreatModel
from reticent.report.scope import ELSEWHERE, KINDS, NO_ATTACKS, statistics, tried, untried


def test_what_was_tried_is_read_off_the_results(sample: ModuleType) -> None:
    done = tried(sample.extracted())
    assert {"Membership, per record", "Membership, per user", "Extraction", "Personal data"} <= set(done)
    assert "Identifiers" not in done
    assert tried(sample.underpowered()) == []
    assert "Privacy promise" in tried(sample.private())
    for results in (sample.leaking(), sample.extracted(), sample.underpowered()):
        missing = untried(results)
        assert len(tried(results)) + len(missing) == len(KINDS) + 1
        assert missing[-1] == ELSEWHERE


@pytest.mark.parametrize("level", ["record", "user", "canary", "passage", "identifier"])
def test_a_finding_of_any_level_belongs_to_a_kind(sample: ModuleType, level: str) -> None:
    """A level that no kind knows is told by the title of its family's section."""
    with pytest.raises(ValueError, match="is no name"):
        replace(sample.leaking().findings[0], level="an other")
    finding: Finding = replace(sample.leaking().findings[-1], level=level, metric="auc")
    found = replace(sample.underpowered(), findings=(finding,))
    kinds = set(tried(found))
    assert kinds or level == "passage"  # what was pulled out comes with rows of its own


def test_every_switch_of_an_audit_is_known_or_names_itself(sample: ModuleType) -> None:
    switches = {field.name for field in fields(AuditConfig) if isinstance(field.default, bool)}
    assert {kind.switch for kind in KINDS if kind.switch} | NO_ATTACKS >= switches
    new = replace(sample.leaking(), provenance={"audit": dict.fromkeys([*switches, "back_doors"], False)})
    assert "Back doors: not asked for; add --back_doors" in untried(new)
    assert not any("show_text" in line for line in untried(new))
    on = replace(sample.leaking(), provenance={"audit": {"back_doors": True, "whitebox": True}})
    assert not any("back_doors" in line for line in untried(on))
    assert any("white box" in line and "too little to measure" in line for line in untried(on))
    assert not any("add --whitebox" in line for line in untried(on))


def test_who_sees_the_training_or_looks_inside_counts_as_such(sample: ModuleType) -> None:
    first: Finding = sample.leaking().findings[0]
    for access, name in (("train_time", "Poisoning and backdoors"), ("grad", "The inside of the model (white box)")):
        seen = replace(first, threat=ThreatModel(access=access), severity=Severity.NONE)
        assert name not in tried(sample.leaking())
        assert name in tried(replace(sample.leaking(), findings=(seen,)))


def test_statistics_are_what_is_left_each_once(sample: ModuleType) -> None:
    leaking = sample.leaking()
    off = next(run for run in leaking.attacks if not run.ran)
    lines = (*untried(leaking), f"{off.name}: {off.why_not}", "user level: too few", "user level: too few", "other")
    assert statistics(replace(leaking, not_tested=lines)) == ["user level: too few", "other"]
