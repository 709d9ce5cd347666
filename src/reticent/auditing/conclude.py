# SPDX-License-Identifier: Apache-2.0
"""From evidence to results: pure, no model and no file. Every audit family is treated alike; none is named here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

from reticent.auditing.attack_kind import POISONING, unknown_switches
from reticent.auditing.case import AuditCase, counts
from reticent.auditing.config import AuditConfig
from reticent.auditing.error_budget import Allowance, allot
from reticent.auditing.family import Family, FamilySection, Judgement, Prepared, families, leak_levels
from reticent.auditing.verdict import verdict
from reticent.core.finding import Finding
from reticent.core.manifest import environment, now
from reticent.core.redteam_marker import marker_sentence
from reticent.core.results import Confound, KindOfAttack, Results
from reticent.core.section import Section
from reticent.report.scope import untried


def conclude(
    case: AuditCase,
    evidence: Mapping[str, Any],
    confound: Confound,
    config: AuditConfig,
    *,
    models: Mapping[str, Any] | None = None,
    key: str,
) -> Results:
    """Judge all evidence, and say what could not be judged.

    One error, ``1 - config.confidence``, covers everything that the report claims. It is divided by weights that are
    fixed beforehand over the claims of the families; kinds without a claim get nothing. Tested hypotheses pass on the
    error that they do not need; intervals keep their part.

    Args:
        case: the model and the data under audit.
        evidence: by family; None, or no entry, where a family has none.
        confound: the difference between members and held-out records that shows without any model.
        config: of the audit.
        models: entries of the manifest about the models.
        key: secret, of the hashes that stand for ids.
    """
    judgement = Judgement(case=case, config=config, confound=confound, key=key)
    active = [family for family in families() if evidence.get(family.name) is not None]
    for family in active:
        prepared = family.prepare(evidence[family.name], judgement)
        judgement = replace(judgement, prepared={**judgement.prepared, family.name: prepared})
    allowance = allot(
        1 - config.confidence, [claim for prepared in judgement.prepared.values() for claim in prepared.claims]
    )
    for family in active:
        section = _section(family, judgement, allowance)
        judgement = replace(judgement, sections={**judgement.sections, family.name: section})
    return _results(judgement, models or {})


def _section(family: Family, judgement: Judgement, allowance: Allowance) -> FamilySection:
    prepared: Prepared = judgement.prepared[family.name]
    return family.evaluate(prepared.evidence, judgement, allowance).jointly(judgement.config.confidence)


def _results(judgement: Judgement, models: Mapping[str, Any]) -> Results:
    case, confound, config = judgement.case, judgement.confound, judgement.config
    sections = judgement.sections.values()
    findings = (
        *chain.from_iterable(section.urgent for section in sections),
        *chain.from_iterable((*section.findings, *section.conditional) for section in sections),
    )
    power = tuple(chain.from_iterable(section.power for section in sections))
    shown = tuple(chain.from_iterable(section.sections for section in sections))
    fields = {name: value for section in sections for name, value in section.fields.items()}
    results = Results(
        title=case.title,
        created=now(),
        verdict=verdict(
            (*findings, *_of_sections(shown, confound)),
            confound,
            power,
            levels=leak_levels(),
            itself=_itself(models),
            of_text=bool(config.synthetic),
        ),
        findings=findings,
        confound=confound,
        power=power,
        not_tested=tuple(_not_tested(judgement)),
        counts=counts(case) | {name: count for section in sections for name, count in section.counts.items()},
        provenance=_provenance(case, models, config),
        sections=shown,
        **fields,
    )
    results = replace(results, kinds=kinds_of(results, config, judgement.sections))
    marks = tuple(marker_sentence({"kind": kind}, name) for name, kind in models.get("redteam", {}).items())
    results = replace(results, verdict=replace(results.verdict, sentences=(*marks, *results.verdict.sentences)))
    return replace(results, not_tested=(*untried(results), *results.not_tested))


def kinds_of(results: Results, config: AuditConfig, sections: Mapping[str, FamilySection]) -> tuple[KindOfAttack, ...]:
    """The kinds of attack that all families declare, tried or not.

    Args:
        results: of the audit.
        config: of the audit.
        sections: by family, what it gave. A family that declares no kind is one itself.
    """
    settings = asdict(config)
    kinds: list[KindOfAttack] = []
    switches: set[str] = set()
    for family in families():
        switches |= {family.switch, *(kind.switch for kind in family.kinds)}
        of_family = [kind.of(results, settings) for kind in family.kinds if kind.applies(results)]
        kinds += of_family if family.kinds else [_itself_as_kind(family, config, sections)]
    return (*kinds, POISONING.of(results, settings), *unknown_switches(settings, switches))


def _itself_as_kind(family: Family, config: AuditConfig, sections: Mapping[str, FamilySection]) -> KindOfAttack:
    name = family.name.replace("_", " ").capitalize()
    if family.name in sections:
        return KindOfAttack(name=name, tried=True)
    if family.is_asked_for(config):
        return KindOfAttack(name=name, tried=False, line=f"{name}: there was too little to measure")
    flag = f"--{family.switch}" if hasattr(config, family.switch) else f"--more_families {family.switch}"
    return KindOfAttack(name=name, tried=False, line=f"{name}: not asked for; add {flag}")


def _of_sections(sections: Sequence[Section], confound: Confound) -> Iterator[Finding]:
    """Findings of sections, without those that say nothing where the two sides differ without any model."""
    for section in sections:
        if not (section.needs_membership and confound.no_claim):
            yield from section.findings


def _not_tested(judgement: Judgement) -> Iterator[str]:
    for section in judgement.sections.values():
        yield from section.not_tested
    if judgement.confound.blind_auc is None:
        yield f"confounding: {judgement.confound.note}"


def _provenance(case: AuditCase, models: Mapping[str, Any], config: AuditConfig) -> dict[str, Any]:
    return {
        "models": {"target": case.title} | dict(models),
        "data": {"fingerprint": case.data_fingerprint, "unit": case.membership.unit},
        "training": case.about,
        "audit": asdict(config),
        "environment": environment(),
    }


def _itself(models: Mapping[str, Any]) -> bool:
    """True where the model was compared with its own weights."""
    target, reference = models.get("target_fingerprint"), models.get("reference_fingerprint")
    return target is not None and target == reference
