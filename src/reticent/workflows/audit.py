# SPDX-License-Identifier: Apache-2.0
"""One audit from start to end: open the models, let every audit family collect, conclude, write results and report."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reticent.auditing.case import AuditCase, from_run
from reticent.auditing.conclude import conclude
from reticent.auditing.config import AuditConfig
from reticent.auditing.family import FAMILIES, Collection, families
from reticent.auditing.models import Models, open_models
from reticent.auditing.split_validity import check
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.outputs import refuse_empty
from reticent.core.portable import portable, stands_for
from reticent.core.processes import refuse_several
from reticent.core.results import Results
from reticent.core.run_folder import FIRST, RunFolder
from reticent.core.user_cache import user_cache
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
        if out is None:
            raise BadInput("out=None", "a subject has no folder of its own", "Say where results go (out=...).")
        case, run, made = what, RunFolder(root=_place(out)), None
    else:
        made = what if isinstance(what, RunFolder) else RunFolder(root=Path(what))
        case = from_run(made, reference=reference)
        run = RunFolder(root=_place(out)) if out is not None else made
    for name in config.family_names:
        FAMILIES.get(name)
    for family in families(config):
        family.refuse(config, case, made)
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
    asked = families(config)
    before = {family.name: family.before(config, case, made) for family in asked}
    models = open_models(case, dtype=config.scoring_dtype, device=config.device)
    options = ScoreOptions(max_tokens=case.max_tokens)
    about_models = models.about | {"scoring": describe(models.target, options)}
    with run.kept_if(run.results.exists, step="audit"):
        run.record("audit", _settings(case, models, run, config))
        audited = Collection(
            case=case,
            config=config,
            models=models,
            options=options,
            cache=user_cache() / "tables",
            run=run,
            tuned=made,
            before=before,
            evidence={},
        )
        for family in asked:
            audited = replace(audited, evidence={**audited.evidence, family.name: family.collect(audited)})
        confound = check(case.records, case.membership)
        results = conclude(case, audited.evidence, confound, config, models=about_models, key=run.hash_key())
        write_results(run.results, results)
        write_report(run.report, read_results(run.results))  # as `reticent report` makes it
    about = asdict(config) | about_models | {"finished": now()}
    write_manifest(run.manifest, audit=about, environment=environment())
    return results


def _settings(case: AuditCase, models: Models, run: RunFolder, config: AuditConfig) -> dict[str, Any]:
    """What the run folder records of an audit."""
    return {
        "target": portable(case.target, run.root),
        "reference": None if models.compared_with is None else portable(models.compared_with, run.root),
        "data": case.data_fingerprint,
        "max_tokens": case.max_tokens,
        "audit": asdict(config),
    }
