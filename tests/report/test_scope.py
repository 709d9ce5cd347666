# SPDX-License-Identifier: Apache-2.0
"""Kinds of attack: declared by the families, listed in the results, and read from there."""

from __future__ import annotations

from dataclasses import fields, replace
from types import ModuleType

import pytest

from reticent.auditing import conclude
from reticent.auditing.attack_kind import NO_ATTACKS, unknown_switches
from reticent.auditing.conclude import kinds_of
from reticent.auditing.config import AuditConfig
from reticent.auditing.family import FAMILIES, FamilySection, families
from reticent.core.finding import Finding, Severity, ThreatModel
from reticent.core.results import KindOfAttack, Results
from reticent.core.section import Section
from reticent.report.scope import ELSEWHERE, statistics, tried, untried


def again(results: Results, **settings: bool) -> Results:
    """The results with the kinds of attack that they show."""
    return replace(results, kinds=kinds_of(results, AuditConfig(**settings), {}))


def test_what_was_tried_is_read_off_the_results(sample: ModuleType) -> None:
    done = tried(sample.extracted())
    assert {"Membership, per record", "Membership, per user", "Extraction", "Personal data"} <= set(done)
    assert "Identifiers" not in done
    assert tried(sample.underpowered()) == []
    assert "Privacy promise" in tried(sample.private())
    for results in (sample.leaking(), sample.extracted(), sample.underpowered()):
        kinds = [kind for family in families() for kind in family.kinds if kind.applies(results)]
        declared = len(kinds) + 1  # and poisoning, which no family tries
        missing = untried(results)
        assert len(tried(results)) + len(missing) == declared + 1
        assert missing[-1] == ELSEWHERE


@pytest.mark.parametrize("level", ["record", "user", "canary", "passage", "identifier"])
def test_a_finding_of_any_level_belongs_to_a_kind(sample: ModuleType, level: str) -> None:
    """A level that no kind knows is told by the title of its family's section."""
    with pytest.raises(ValueError, match="is no name"):
        replace(sample.leaking().findings[0], level="an other")
    finding: Finding = replace(sample.leaking().findings[-1], level=level, metric="auc")
    kinds = set(tried(again(replace(sample.underpowered(), findings=(finding,)))))
    assert kinds or level == "passage"  # what was pulled out comes with rows of its own


def test_every_switch_of_an_audit_is_known_or_names_itself(sample: ModuleType) -> None:
    switches = {field.name for field in fields(AuditConfig) if isinstance(field.default, bool)}
    known = {kind.switch for family in families() for kind in family.kinds} | {family.switch for family in families()}
    assert known | NO_ATTACKS >= switches
    (new,) = unknown_switches({**dict.fromkeys(switches, False), "back_doors": False}, known)
    assert (new.name, new.line) == ("Back doors", "Back doors: not asked for; add --back_doors")
    assert not list(unknown_switches({"back_doors": True, "show_text": False}, known))
    on = again(sample.leaking(), whitebox=True)
    assert any("white box" in line and "too little to measure" in line for line in untried(on))
    assert not any("add --whitebox" in line for line in untried(on))


def test_a_family_that_declares_no_kind_is_one_itself(sample: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = replace(FAMILIES.get("identifiers"), name="echo", kinds=(), switch="echo")
    monkeypatch.setattr(conclude, "families", lambda: [echo])
    results = sample.leaking()

    def line(settings: AuditConfig, **sections: FamilySection) -> KindOfAttack:
        kind, poisoning, *_ = kinds_of(results, settings, sections)
        assert poisoning.name == "Poisoning and backdoors"
        return kind

    nothing = AuditConfig()
    assert line(nothing).line == "Echo: not asked for; add --more_families echo"
    assert line(AuditConfig(more_families="echo")).line == "Echo: there was too little to measure"
    assert line(nothing, echo=FamilySection()).tried
    listed = replace(results, kinds=kinds_of(results, nothing, {"echo": FamilySection()}))
    section = Section(name="echo", title="Echo", tables=())
    assert [name for name in tried(replace(listed, sections=(section,))) if name == "Echo"] == ["Echo"]


def test_who_sees_the_training_or_looks_inside_counts_as_such(sample: ModuleType) -> None:
    first: Finding = sample.leaking().findings[0]
    for access, name in (("train_time", "Poisoning and backdoors"), ("grad", "The inside of the model (white box)")):
        seen = replace(first, threat=ThreatModel(access=access), severity=Severity.NONE)
        assert name not in tried(sample.leaking())
        assert name in tried(again(replace(sample.leaking(), findings=(seen,))))


def test_statistics_are_what_is_left_each_once(sample: ModuleType) -> None:
    leaking = sample.leaking()
    off = next(run for run in leaking.attacks if not run.ran)
    lines = (*untried(leaking), f"{off.name}: {off.why_not}", "user level: too few", "user level: too few", "other")
    assert statistics(replace(leaking, not_tested=lines)) == ["user level: too few", "other"]
