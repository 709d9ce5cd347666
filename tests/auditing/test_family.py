# SPDX-License-Identifier: Apache-2.0
"""Families at their seams: names that ask for nothing, claims of one name, levels that nobody described, sections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reticent.auditing.case import AuditCase
from reticent.auditing.conclude import conclude
from reticent.auditing.config import AuditConfig
from reticent.auditing.error_budget import Allowance, Claim, allot
from reticent.auditing.family import FAMILIES, FamilySection, Judgement, Prepared, family, refuse_more_families
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.core.record import Record
from reticent.core.results import Confound, Results
from reticent.core.section import Column, Section, Table, Words
from reticent.data.split import from_files
from reticent.workflows.gate import gate

CLEAN = Confound(blind_auc=None, near_duplicates=0, near_duplicate_share=None, separable=False)
SHARE = Estimate(value=0.9, lo=0.8, hi=0.97, n=40, method="Clopper-Pearson")
FOUND = Finding(
    attack="echo", level="echo", metric="extracted", estimate=SHARE, severity=Severity.HIGH,
    threat=ThreatModel(access="text"), statement="It repeats what it is told.",
)  # fmt: skip


@pytest.fixture
def added() -> Iterator[Any]:
    """Adds families of one section each, and takes them out again."""
    names: list[str] = []

    def add(name: str, section: FamilySection, claims: tuple[Claim, ...] = ()) -> None:
        def evaluate(evidence: Any, judgement: Judgement, allowance: Allowance) -> FamilySection:
            return section

        def prepare(evidence: Any, judgement: Judgement) -> Prepared:
            return Prepared(evidence=evidence, claims=claims)

        FAMILIES.names()  # discovers the package's own first
        family(name=name, order=90, collect=lambda audit: 1, prepare=prepare, evaluate=evaluate, switch=name)
        names.append(name)

    yield add
    for name in names:
        del FAMILIES._things[name]


def concluded(*names: str, confound: Confound = CLEAN) -> Results:
    inside, outside = ([Record(id=f"{side}{number}", text="x") for number in range(5)] for side in "ab")
    case = AuditCase(title="t", target="t", reference=None, records=[*inside, *outside],
                     membership=from_files(inside, outside))  # fmt: skip
    return conclude(case, dict.fromkeys(names, 1), confound, AuditConfig(), key="k")


def test_a_level_that_no_family_describes_is_named_in_the_headline(added: Any) -> None:
    added("echo", FamilySection(findings=(FOUND,)))
    assert concluded("echo").verdict.headline.endswith("trained on: echos (high severity).")


def test_two_families_keep_their_sections_and_findings_in_them_count(added: Any) -> None:
    columns = (
        Column(name="what", label="What"),
        Column(name="share", label="Share", kind="estimate", metric="extracted"),
    )
    for name in ("echo", "mirror"):
        table = Table(name=f"{name}-shares", title=name, columns=columns, rows=((Words(text="all"), SHARE),))
        finding = replace(FOUND, attack=name, level="passage")
        added(name, FamilySection(sections=(Section(name=name, title=name, findings=(finding,), tables=(table,)),)))
    results = concluded("echo", "mirror")
    assert [section.name for section in results.sections] == ["echo", "mirror"]
    assert results.verdict.status == "leaks"
    assert {finding.estimate.joint for finding in results.all_findings} == {0.95}
    assert gate(results, max_extracted=0.5).exit_code == 1
    unequal = replace(CLEAN, blind_auc=replace(SHARE, lo=0.7), separable=True)
    assert concluded("echo", "mirror", confound=unequal).verdict.status == "confounded"


def test_claims_of_one_name_or_without_weight_are_refused(added: Any) -> None:
    added("echo", FamilySection(), (Claim(name="echo", weight=1.0),))
    added("mirror", FamilySection(), (Claim(name="echo", weight=1.0),))
    with pytest.raises(ValueError, match="names of their own"):
        concluded("echo", "mirror")
    for weight in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="weights above 0"):
            allot(0.05, [Claim(name="echo", weight=weight)])
    assert allot(0.05, []).parts == {}


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("echoes", "is not known"),
        ("membership", "runs in every audit"),
        ("extraction", "has a flag of its own"),
        ("pii", "has a flag of its own"),
    ],
)
def test_names_that_ask_for_nothing_are_refused(names: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        refuse_more_families(AuditConfig(more_families=names))


def test_a_family_without_a_flag_is_asked_for_by_its_name(added: Any) -> None:
    added("echo", FamilySection())
    refuse_more_families(AuditConfig(more_families=" echo ,"))
    assert FAMILIES.get("echo").is_asked_for(AuditConfig(more_families="echo"))
    assert not FAMILIES.get("echo").is_asked_for(AuditConfig())
