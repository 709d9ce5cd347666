# SPDX-License-Identifier: Apache-2.0
"""One audit from start to end: choose attacks, score once, judge each level, write results and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reticent.attacks.extraction import short_lengths
from reticent.auditing.case import AuditCase, from_run
from reticent.auditing.conclude import conclude
from reticent.auditing.config import AuditConfig
from reticent.auditing.extraction import collect as extraction_family
from reticent.auditing.extraction.collect import secrets_of
from reticent.auditing.guarantee.evaluate import read_guarantee
from reticent.auditing.guarantee.spent_together import spent_together
from reticent.auditing.identifiers import evaluate as identifiers_family
from reticent.auditing.membership import collect as membership_family
from reticent.auditing.membership.collect import write_scores
from reticent.auditing.membership.primary import refuse_unknown
from reticent.auditing.membership.select import AvailableEvidence, choose
from reticent.auditing.membership.shadow_training import refuse_shadows, shadow_models
from reticent.auditing.membership.users import UserEvidence, user_evidence
from reticent.auditing.membership.whitebox import collect_internals
from reticent.auditing.models import Models, open_models
from reticent.auditing.pii import collect as pii_family
from reticent.auditing.split_validity import check
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.outputs import refuse_empty
from reticent.core.portable import portable, stands_for
from reticent.core.processes import refuse_several
from reticent.core.record import Record
from reticent.core.results import Results
from reticent.core.run_folder import FIRST, RunFolder
from reticent.core.user_cache import user_cache
from reticent.models.encode import encode
from reticent.report.audit_page import write_report
from reticent.report.results_file import read_results, write_results
from reticent.score.engine import ScoreOptions
from reticent.score.make_tables import describe


def audit(
    what: AuditCase | RunFolder | str | Path,
    config: AuditConfig | None = None,
    *,
    out: str | Path | None = None,
    reference: str | None = None,
) -> Results:
    """Audit a model; results, scores, tables and report are written to the run folder.

    The same call again reuses the tables that were made, also after a kill.

    Args:
        what: a run folder of `reticent.tune`, or a subject made of any model and data.
        config: how; None for the defaults.
        out: the folder to write to; needed for a subject, by default the run folder itself otherwise. It may hold an
            earlier audit of the same model and data, and nothing else.
        reference: what a run's model is compared with, in place of its base; a subject names its own.

    Raises:
        BadInput: a model or the data cannot be used; an unknown attack; several processes.
    """
    refuse_several("reticent.audit")
    config = config or AuditConfig()
    if isinstance(what, AuditCase):
        refuse_shadows(config, what, None)
        if out is None:
            raise BadInput("out=None", "a subject has no folder of its own", "Say where results go (out=...).")
        case, run, made = what, RunFolder(root=_place(out)), None
    else:
        made = what if isinstance(what, RunFolder) else RunFolder(root=Path(what))
        case = from_run(made, reference=reference)
        run = RunFolder(root=_place(out)) if out is not None else made
    refuse_unknown(config.primary)
    refuse_shadows(config, case, made)
    others = {"the audited model": case.target, "the reference": case.reference} if made is None else {}
    run.refuse_foreign("audit", others)
    with run.alone():
        _refuse_mixture(run, case, made)
        return _audit(case, run, made, config)


def _place(out: str | Path) -> Path:
    refuse_empty("out", out)
    return Path(out)


def _refuse_mixture(run: RunFolder, case: AuditCase, made: RunFolder | None) -> None:
    """Refuse to put the results of one model beside another one, or beside results about other data."""
    its_own = made is not None and made.root.resolve() == run.root.resolve()
    if run.settings("tune") is not None and not (its_own or Path(case.target).resolve() == run.model.resolve()):
        raise BadInput(
            str(run.root),
            "is the run folder of another model or other data, and a gate would take these results for that model's",
            f"Choose another folder (--out), or audit that run itself: reticent audit {run.root}.",
        )
    found = run.settings("audit")
    if found is None:
        return
    same = {
        "target": stands_for(str(found["target"]), case.target, run.root),
        "data": found["data"] == case.data_fingerprint,
    }
    changed = [name for name, is_same in same.items() if not is_same]
    if not changed:
        return
    if run.results.exists():
        raise BadInput(
            str(run.root),
            f"holds an audit of something else ({', '.join(changed)})",
            "Choose another folder (--out), or delete this one.",
        )
    run.clear(FIRST["audit"])  # of an audit that came to nothing


def _audit(case: AuditCase, run: RunFolder, made: RunFolder | None, config: AuditConfig) -> Results:
    """``audit``, while no other process works in the folder."""
    kept = read_guarantee(case.target)
    users = user_evidence(case.evaluated)
    dtype = "float32" if config.whitebox and config.dtype == "auto" else config.dtype  # updates are small differences
    shadows = None
    if config.shadow and made is not None:  # first, so that no other model is in memory
        shadows = shadow_models(made, case, config, dtype=dtype)
    models = open_models(case, dtype=dtype, device=config.device)
    choice = choose(config.attacks, replace(_available(case, models, users), shadows=config.shadow))
    options = ScoreOptions(max_tokens=case.max_tokens)
    about_models = models.about | {"scoring": describe(models.target, options)}
    compared_with = None if models.compared_with is None else portable(models.compared_with, run.root)
    about: dict[str, Any] = {"target": portable(case.target, run.root), "reference": compared_with}
    about |= {"data": case.data_fingerprint, "max_tokens": case.max_tokens, "audit": asdict(config)}
    cache = user_cache() / "tables"
    with run.kept_if(run.results.exists, step="audit"):
        run.record("audit", about)
        evidence = membership_family.collect(
            case,
            models,
            choice.run,
            cache=cache,
            tables=run.tables,
            options=options,
            samples=config.written_samples,
            seed=config.seed,
            shadows=shadows,
        )
        if config.whitebox:
            evidence = replace(
                evidence, inside=collect_internals(case, models, evidence.membership, cache=cache, options=options)
            )
        write_scores(run.scores, evidence)
        pulled = asked = None
        if config.extraction:
            chosen = secrets_of(case)
            pulled = extraction_family.collect(
                case,
                models,
                chosen,
                samples=config.extraction_samples,
                seed=config.seed,
                cache=cache,
                short=short_lengths(config.selection.of_family("extraction")),
            )
            asked = pii_family.collect(case, models, chosen.targets, seed=config.seed, cache=cache)
        identified = identifiers_family.collect(case, models, cache=cache) if config.identifiers else None
        confound = check(case.records, case.membership)
        results = conclude(
            case,
            about_models,
            choice,
            evidence,
            confound,
            config,
            key=run.hash_key(),
            kept=kept,
            pulled=pulled,
            asked=asked,
            identified=identified,
        )
        if made is not None and results.promise is not None:
            results = replace(results, promise=replace(results.promise, together=spent_together(made)))
        write_results(run.results, results)
        write_report(run.report, read_results(run.results))  # as `reticent report` makes it
    said = asdict(config) | about_models | {"finished": now()}
    write_manifest(run.manifest, audit=said, environment=environment())
    return results


def _available(case: AuditCase, models: Models, users: UserEvidence | None) -> AvailableEvidence:
    return AvailableEvidence(
        reference=models.compared_with is not None,
        users=users is not None,
        population=_with_tokens(case, models, case.population),
        known_held_out=_with_tokens(case, models, case.of_role("known", member=False)),
        known_members=_with_tokens(case, models, case.of_role("known", member=True)),
    )


def _with_tokens(case: AuditCase, models: Models, records: Sequence[Record]) -> int:
    """How many of the records have a token that is trained on."""
    rows = (encode(record, models.target.tokenizer, max_tokens=case.max_tokens) for record in records)
    return sum(row.predicted > 0 for row in rows)
