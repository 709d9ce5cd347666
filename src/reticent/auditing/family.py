# SPDX-License-Identifier: Apache-2.0
"""One audit family: a kind of evidence, from the model that gives it to the findings in the report.

A family is a folder of this package whose ``family.py`` registers it (`FAMILIES`); other distributions register theirs
under the entry-point group ``reticent.auditing``. Nothing else names it: `reticent.workflows.audit` and
`reticent.auditing.conclude` run all that are registered.

``refuse``    says no to settings that cannot be, before a model is loaded.
``before``    reads files or trains models while the audited models do not take memory yet.
``collect``   is the only step with a model. It may be killed and repeated: finished tables and texts are reused.
``prepare``   names the hypotheses, and their share of the report's error (`Claim`). Pure, as all that follows.
``evaluate``  turns evidence into a `FamilySection`: findings, their power, and the statistics that were refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reticent.auditing.attack_kind import AttackKind
from reticent.auditing.case import AuditCase
from reticent.auditing.config import AuditConfig
from reticent.auditing.error_budget import Allowance, Claim
from reticent.auditing.leak_level import LeakLevel
from reticent.auditing.models import Models
from reticent.core.errors import BadInput
from reticent.core.finding import Finding
from reticent.core.registry import Registry
from reticent.core.results import Confound, Power
from reticent.core.run_folder import RunFolder
from reticent.core.section import Section
from reticent.score.engine import ScoreOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class Collection:
    """All that evidence is collected from.

    Args:
        case: the model and the data under audit.
        config: of the audit.
        models: opened.
        options: of scoring.
        cache: content-addressed store, shared between runs.
        run: the folder that results go to.
        tuned: the run folder that `reticent tune` made of the model; None where there is none.
        before: by family, the outcome of its ``before``.
        evidence: by family, of those that collected earlier.
    """

    case: AuditCase
    config: AuditConfig
    models: Models
    options: ScoreOptions
    cache: Path
    run: RunFolder
    tuned: RunFolder | None
    before: Mapping[str, Any]
    evidence: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """All that findings are judged by.

    Args:
        case: the model and the data under audit.
        config: of the audit.
        confound: the difference between members and held-out records that shows without any model.
        key: secret, of the hashes that stand for ids.
        prepared: by family, of those that came before.
        sections: by family, of those that came before.
    """

    case: AuditCase
    config: AuditConfig
    confound: Confound
    key: str = ""
    prepared: Mapping[str, Prepared] = field(default_factory=dict)
    sections: Mapping[str, FamilySection] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Evidence that is ready to be judged.

    Args:
        evidence: in the form that the family judges.
        claims: groups of findings that will be made of it. Fixed before any is looked at.
    """

    evidence: Any
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FamilySection:
    """The part of the results that one family gives.

    Args:
        findings: their intervals hold together with all others of the report.
        conditional: findings that each hold by themselves, under an assumption.
        urgent: findings that stand before all others.
        power: the smallest effects that could have been seen.
        not_tested: one line for each statistic that had to be refused, with the reason.
        counts: of units, for the table of counts.
        sections: tables for the page and for CSV files, with findings of their own where they stand best beside these.
        fields: of `reticent.core.results.Results` that the family fills, by name. A later family may complete an
            earlier one's.
    """

    findings: tuple[Finding, ...] = ()
    conditional: tuple[Finding, ...] = ()
    urgent: tuple[Finding, ...] = ()
    power: tuple[Power, ...] = ()
    not_tested: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)

    def jointly(self, confidence: float) -> FamilySection:
        """The section with the probability that all intervals of the report hold written into its findings."""
        sections = (replace(part, findings=_jointly(part.findings, confidence)) for part in self.sections)
        return replace(self, findings=_jointly(self.findings, confidence), sections=tuple(sections))


def _jointly(findings: Sequence[Finding], confidence: float) -> tuple[Finding, ...]:
    return tuple(replace(finding, estimate=replace(finding.estimate, joint=confidence)) for finding in findings)


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of evidence.

    Args:
        name: of the folder.
        order: families run by rising order, and may read those before them.
        collect: evidence from models; None where there is none.
        prepare: ``(evidence, judgement) -> Prepared``.
        evaluate: ``(prepared, judgement, allowance) -> FamilySection``.
        refuse: ``(config, case, tuned run folder)``; raises `BadInput`.
        before: ``(config, case, tuned run folder)``; its outcome is found in `Collection.before`.
        levels: meanings of the levels of its findings.
        kinds: kinds of attack that it tries, for the part of the report on what was not tested. A family without any
            is a kind itself, by its name.
        switch: a field of `AuditConfig` that asks for it, or its own name, which ``AuditConfig.more_families`` then
            holds; empty: it always runs.
        needs_model: whether it asks a model; such families rest where a text alone is audited.
    """

    name: str
    order: int
    collect: Callable[[Collection], Any]
    prepare: Callable[[Any, Judgement], Prepared]
    evaluate: Callable[[Any, Judgement, Allowance], FamilySection]
    refuse: Callable[[AuditConfig, AuditCase, RunFolder | None], None] = _nothing
    before: Callable[[AuditConfig, AuditCase, RunFolder | None], Any] = _nothing
    levels: tuple[LeakLevel, ...] = ()
    kinds: tuple[AttackKind, ...] = ()
    switch: str = ""
    needs_model: bool = True

    def is_asked_for(self, config: AuditConfig) -> bool:
        """True where the audit's settings ask for it."""
        if self.needs_model and config.of_text_alone:
            return False
        if not self.switch:
            return True
        return bool(getattr(config, self.switch, False)) or self.switch in config.family_names


FAMILIES: Registry[Family] = Registry("audit family", "reticent.auditing")


def family(**about: Any) -> Family:
    """Register a family: ``family(name=…, order=…, collect=…, prepare=…, evaluate=…)``."""
    return FAMILIES.add(about["name"], Family(**about))


def families(config: AuditConfig | None = None) -> Sequence[Family]:
    """All families by rising order; those that ``config`` asks for, where it is given."""
    entries = (entry for entry in FAMILIES if config is None or entry.is_asked_for(config))
    return sorted(entries, key=lambda entry: (entry.order, entry.name))


def refuse_more_families(config: AuditConfig) -> None:
    """Refuse names in ``AuditConfig.more_families`` that ask for nothing.

    Raises:
        BadInput: a name that no family has, or of a family that always runs or has a switch of its own.
    """
    for name in config.family_names:
        switch = FAMILIES.get(name).switch
        if not switch:
            raise BadInput(f"--more_families {name}", "runs in every audit", "Leave it out.")
        if hasattr(config, switch):
            raise BadInput(f"--more_families {name}", "has a flag of its own", f"Give --{switch}.")


def leak_levels() -> tuple[LeakLevel, ...]:
    """The meanings of all levels, the plainest harm first."""
    return tuple(sorted((level for entry in families() for level in entry.levels), key=lambda level: level.place))
