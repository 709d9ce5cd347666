# SPDX-License-Identifier: Apache-2.0
"""One audit from start to end: choose attacks, score once, judge each level, write results and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from reticent.auditing import planted
from reticent.auditing.choose import Available, Choice, choose, listed
from reticent.auditing.config import AuditConfig
from reticent.auditing.epsilon import epsilon_findings
from reticent.auditing.evidence import Evidence, gather, write_scores
from reticent.auditing.exposed import exposed
from reticent.auditing.levels import NOTHING, judge
from reticent.auditing.models import Models, open_models
from reticent.auditing.scored import Units, record_level, user_level
from reticent.auditing.subject import Subject, counts, from_run
from reticent.auditing.users import UserEvidence, user_evidence
from reticent.auditing.verdict import verdict
from reticent.confound import check
from reticent.core.errors import BadInput
from reticent.core.finding import Finding
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.membership import Membership
from reticent.core.results import CanaryExposure, Confound, Results
from reticent.models.catalog import cache_folder
from reticent.report.render import write_report
from reticent.report.results import write_results
from reticent.run_folder import RunFolder
from reticent.score.engine import ScoreOptions

LIMITS = (
    "Attacks that were not run, and attacks not yet invented: a lower bound on leakage is all that an audit gives.",
    "Extraction by generation, and personal data in what the model writes: the model was only scored, not sampled.",
    "Attackers who saw or poisoned the training itself.",
)


def audit(
    what: Subject | RunFolder | str | Path, config: AuditConfig | None = None, *, out: str | Path | None = None
) -> Results:
    """Audit a model; results, scores, tables and report are written to the run folder.

    The same call again reuses the tables that were made, also after a kill.

    Args:
        what: a run folder of `reticent.tune`, or a subject made of any model and data.
        config: how; None for the defaults.
        out: the folder to write to; needed for a subject, by default the run folder itself otherwise.

    Raises:
        BadInput: a model or the data cannot be used; an unknown attack.
    """
    config = config or AuditConfig()
    if isinstance(what, Subject):
        if out is None:
            raise BadInput("out=None", "a subject has no folder of its own", "Say where results go (out=...).")
        subject, run = what, RunFolder(root=Path(out))
    else:
        made = what if isinstance(what, RunFolder) else RunFolder(root=Path(what))
        subject, run = from_run(made), RunFolder(root=Path(out)) if out is not None else made
    users = user_evidence(subject.evaluated)
    models = open_models(subject, dtype=config.dtype, device=config.device)
    choice = choose(config.attacks, _available(subject, models, users))
    options = ScoreOptions(max_tokens=subject.max_tokens)
    about = {"target": subject.target, "reference": models.compared_with, "data": subject.data_fingerprint}
    cache = cache_folder() / "tables"
    with run.kept_if(run.results.exists):
        run.record("audit", about | {"max_tokens": subject.max_tokens, "audit": asdict(config)})
        evidence = gather(subject, models, choice.run, cache=cache, tables=run.tables, options=options)
        write_scores(run.scores, evidence)
        confound = check(subject.records, subject.membership)
        results = conclude(subject, models, choice, evidence, confound, config)
        write_results(run.results, results)
        write_report(run.report, results)
    said = asdict(config) | models.about | {"finished": now()}
    write_manifest(run.manifest, audit=said, environment=environment())
    return results


def conclude(
    subject: Subject, models: Models, choice: Choice, evidence: Evidence, confound: Confound, config: AuditConfig
) -> Results:
    """From evidence to results: pure, no model and no file."""
    users = user_evidence(evidence.coins)
    records = record_level(evidence, seed=config.seed)
    people = user_level(evidence, users) if users else None
    judged = partial(judge, confidence=config.confidence, confounded=confound.separable, seed=config.seed)
    by_record = judged(records.level)
    by_user = judged(people.level) if people else NOTHING
    tiers = _tiers(subject, evidence, config.confidence)
    levels = [(records, by_record)] + ([(people, by_user)] if people else [])
    findings = (
        *by_record.findings,
        *by_user.findings,
        *planted.findings(tiers),
        *(finding for units, _ in levels for finding in _epsilon(units, evidence.coins, config)),
    )
    power = (*by_record.power, *by_user.power)
    shown = {record.id: record.plain for record in subject.records} if config.show_text else {}
    return Results(
        title=subject.title,
        created=now(),
        verdict=verdict(findings, confound, power),
        findings=findings,
        attacks=listed(choice, evidence.notes),
        curves=(*by_record.curves, *by_user.curves),
        distributions=(*by_record.distributions, *by_user.distributions),
        exposure=tiers,
        exposed=tuple(
            row
            for units, outcome in levels
            if outcome.best is not None
            for row in exposed(units.level, outcome.best, units.ids, subject.data_fingerprint, shown)
        ),
        confound=confound,
        power=power,
        not_tested=(
            *records.refused,
            *by_record.refused,
            *by_user.refused,
            *_not_tested(subject, choice, users),
            *LIMITS,
        ),
        counts=counts(subject) | {"dropped_without_tokens": evidence.dropped},
        provenance={
            "models": models.about | {"target": subject.title},
            "data": {"fingerprint": subject.data_fingerprint, "unit": subject.membership.unit},
            "training": subject.about,
            "audit": asdict(config),
            "environment": environment(),
        },
    )


def _epsilon(units: Units, coins: Membership, config: AuditConfig) -> Sequence[Finding]:
    return epsilon_findings(
        units.level, unit=coins.unit, probability=coins.probability, delta=config.delta, confidence=config.confidence
    )


def _tiers(subject: Subject, evidence: Evidence, confidence: float) -> tuple[CanaryExposure, ...]:
    if evidence.canaries is None:
        return ()
    return planted.exposures(subject.canaries, planted.nll(evidence.canaries), confidence=confidence)


def _not_tested(subject: Subject, choice: Choice, users: UserEvidence | None) -> tuple[str, ...]:
    lines = [f"{name}: {reason}" for name, reason in sorted(choice.off.items())]
    if users is None:
        lines.append("user level: no users, or fewer than 10 on a side; give --user_field and split by user")
    if not subject.canaries:
        lines.append("canary exposure: no canaries were planted; `reticent tune --canaries 100` plants some")
    return tuple(lines)


def _available(subject: Subject, models: Models, users: UserEvidence | None) -> Available:
    return Available(
        reference=models.compared_with is not None,
        users=users is not None,
        known_held_out=len(subject.of_role("known", member=False)),
        known_members=len(subject.of_role("known", member=True)),
    )
