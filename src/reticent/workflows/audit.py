# SPDX-License-Identifier: Apache-2.0
"""One audit from start to end: open the models, let every audit family collect, conclude, write results and report."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from reticent.auditing.case import AuditCase, from_run
from reticent.auditing.conclude import conclude
from reticent.auditing.config import AuditConfig
from reticent.auditing.family import Collection, families, refuse_more_families
from reticent.auditing.models import Models, open_models
from reticent.auditing.split_validity import check
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.outputs import refuse_empty
from reticent.core.portable import portable, stands_for
from reticent.core.processes import several
from reticent.core.results import Results
from reticent.core.run_folder import FIRST, MAKES_A_MODEL, RunFolder
from reticent.core.user_cache import user_cache
from reticent.models.device_map import DeviceMap
from reticent.models.emulation import is_emulation
from reticent.models.in_memory import evaluating
from reticent.report.audit_page import write_report
from reticent.report.results_file import read_results, write_results
from reticent.score.engine import ScoreOptions
from reticent.score.make_tables import describe
from reticent.train.leading import led
from reticent.unlearning.case_of_unlearned import case_of_unlearned
from reticent.workflows.audit_workers import audited_by, wanted_workers
from reticent.workflows.case_of_emulated import case_of_emulated
from reticent.workflows.case_of_objects import case_of_objects
from reticent.workflows.synthetic_case import folder_for, synthetic_case, with_auxiliary


def audit(
    what: AuditCase | RunFolder | str | Path | None = None,
    config: AuditConfig | None = None,
    *,
    out: str | Path | None = None,
    reference: Any = None,
    workers: str | int = "1",
    **objects: Any,
) -> Results:
    """Audit a model; results, scores, tables and report are written to the run folder.

    The same call again reuses the tables that were made, also after a kill. A model in memory is left as it was.

    Args:
        what: a run folder of `reticent.tune`, the folder of an emulated fine-tune of such a run, or a case made of any
            model and data; None where objects are given.
        config: settings of the audit; None for the defaults.
        out: the folder to write to; needed for a case or objects, by default the run folder itself otherwise. It may
            hold an earlier audit of the same model and data, and nothing else.
        reference: the model that a run's model, or a model in memory, is compared with, in place of its base; a case
            names its own.
        workers: who scores: a number of processes on this machine; "join", for all that start this same call on one
            file system; "ray" or "ray:4", for a Ray cluster. Processes that a launcher started share it by themselves.
        objects: in place of ``what``: ``model=``, ``tokenizer=``, ``members=``, ``held_out=`` and names of fields, in
            memory or as paths (`reticent.workflows.case_of_objects.case_of_objects`).

    Raises:
        BadInput: a model or the data cannot be used; an unknown attack; workers that cannot be had, or were asked for
            different things.
    """
    config = config or AuditConfig()
    if several() and objects:
        raise BadInput(
            several(), "objects are in the memory of each process, and nobody can say that they are the same",
            "Save the model and name its folder in a case, or start one process.",
        )  # fmt: skip

    def lead() -> Results:
        return _led(what, config, out, reference, str(workers), objects)

    return led("reticent.audit", lambda: (_asked(what), config, str(out), str(reference), str(workers)), lead)


def _asked(what: AuditCase | RunFolder | str | Path | None) -> Any:
    """``what`` as processes compare it."""
    if not isinstance(what, AuditCase):
        return str(what)
    return what.target_name, what.reference_name, what.data_fingerprint, what.max_tokens


def _led(
    what: AuditCase | RunFolder | str | Path | None,
    config: AuditConfig,
    out: str | Path | None,
    reference: Any,
    workers: str,
    objects: dict[str, Any],
) -> Results:
    """``audit``, in the process that leads."""
    if what is None and not (config.synthetic and not objects):
        what, reference = _case_of(objects | {"reference": reference}), None
    elif objects:
        raise BadInput(
            f"a case and {', '.join(sorted(objects))}", "the case names all of it", "Give either of the two."
        )
    case, run, tuned = _case_and_folders(what, config, out, reference)
    refuse_more_families(config)
    for family in families(config):
        family.refuse(config, case, tuned)
    models = {"the audited model": case.target, "the reference": case.reference} if tuned is None else {}
    models |= {"the model to tune": config.auxiliary or None}
    others = {what: model for what, model in models.items() if isinstance(model, str)}
    run.refuse_foreign("audit", others)
    wanted = wanted_workers(workers, case, config)

    def lead() -> Results:
        complete = with_auxiliary(case, config, run) if config.auxiliary else case
        _refuse_mixture(run, complete, tuned)
        return _audit(complete, run, tuned, config)

    return audited_by(wanted, run, case, config, lead)


def _case_of(objects: dict[str, Any]) -> AuditCase:
    missing = [name for name in ("model", "members", "held_out") if objects.get(name) is None]
    if missing:
        raise BadInput(
            f"an audit without {', '.join(missing)}",
            "there is nothing to audit, or nothing to compare",
            "Give a run folder, or model=, members= (rows that were trained on) and held_out= (rows that were not).",
        )
    return case_of_objects(**objects)


def _case_and_folders(
    what: AuditCase | RunFolder | str | Path | None, config: AuditConfig, out: str | Path | None, reference: Any
) -> tuple[AuditCase, RunFolder, RunFolder | None]:
    """The case, the folder that results go to, and the run folder of `reticent tune`; None where there is none."""
    if config.synthetic:
        return synthetic_case(what, config), _results_folder(out or folder_for(what, config)), None
    assert what is not None
    if isinstance(what, AuditCase):
        if out is None:
            raise BadInput("out=None", "a case has no folder of its own", "Say where results go (out=...).")
        return what, _results_folder(out), None
    tuned = what if isinstance(what, RunFolder) else RunFolder(root=Path(what))
    if is_emulation(tuned.root):
        if out is None:
            raise BadInput(
                str(tuned.root),
                "is a model's folder, and no run",
                f"Say where the audit goes: --out {tuned.root}-audit.",
            )
        return case_of_emulated(tuned.root, reference=reference), _results_folder(out), None
    unlearned = tuned.settings("unlearn") is not None
    if unlearned and out is None:
        raise BadInput(
            str(tuned.root),
            "is the run folder of an unlearning, whose report is that of its verification",
            f"Say where the audit goes: --out {tuned.root}/audit; or give reticent verify.",
        )
    case = (case_of_unlearned if unlearned else from_run)(tuned, reference=reference)
    return case, tuned if out is None else _results_folder(out), tuned


def _results_folder(out: str | Path) -> RunFolder:
    refuse_empty("out", out)
    return RunFolder(root=Path(out))


def _refuse_mixture(run: RunFolder, case: AuditCase, tuned: RunFolder | None) -> None:
    """Refuse to put the results of one model beside another one, or beside results about other data."""
    same_run = tuned is not None and tuned.root.resolve() == run.root.resolve()
    makes = any(run.settings(step) is not None for step in MAKES_A_MODEL)
    if makes and not (same_run or Path(case.target_name).resolve() == run.model.resolve()):
        raise BadInput(
            str(run.root),
            "is the run folder of another model or other data, and a gate would take these results for that model's",
            f"Choose another folder (--out), or audit that run itself: reticent audit {run.root}.",
        )
    recorded = run.settings("audit")
    if recorded is None:
        return
    same = {
        "target": stands_for(str(recorded["target"]), case.target_name, run.root),
        "data": recorded["data"] == case.data_fingerprint,
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


def _audit(case: AuditCase, run: RunFolder, tuned: RunFolder | None, config: AuditConfig) -> Results:
    """``audit``, while no other process works in the folder."""
    before = {family.name: family.before(config, case, tuned) for family in families(config)}
    if config.of_text_alone:
        return _judged(case, run, tuned, config, None, before)
    models = open_models(
        case,
        dtype=config.scoring_dtype,
        device=config.device,
        device_map=_device_map(config),
        one_at_a_time=config.one_at_a_time,
    )
    with ExitStack() as stack:
        for loaded in (models.target, models.reference):
            if loaded is not None:
                stack.enter_context(evaluating(loaded.model))
        return _judged(case, run, tuned, config, models, before)


def _device_map(config: AuditConfig) -> DeviceMap | None:
    if not config.device_map:
        return None
    return DeviceMap(where=config.device_map, max_memory=config.max_memory, offload_folder=config.offload_folder)


def _judged(
    case: AuditCase,
    run: RunFolder,
    tuned: RunFolder | None,
    config: AuditConfig,
    models: Models | None,
    before: Mapping[str, Any],
) -> Results:
    """Collect evidence from opened models, judge it, and write results and report to the run folder.

    Args:
        models: None where a text alone is audited.
    """
    options = ScoreOptions(max_tokens=case.max_tokens)
    about_models = {} if models is None else models.about | {"scoring": describe(models.target, options)}
    shown = config.without_places
    with run.kept_if(run.results.exists, step="audit"):
        run.record("audit", _settings(case, models, run, shown))
        audited = Collection(
            case=case,
            config=config,
            models=cast(Models, models),  # families that run without any ask none
            options=options,
            cache=user_cache() / "tables",
            run=run,
            tuned=tuned,
            before=before,
            evidence={},
        )
        for family in families(config):
            audited = replace(audited, evidence={**audited.evidence, family.name: family.collect(audited)})
        confound = check(case.records, case.membership)
        results = conclude(case, audited.evidence, confound, shown, models=about_models, key=run.hash_key())
        write_results(run.results, results)
        write_report(run.report, read_results(run.results))  # as `reticent report` makes it
    about = asdict(shown) | about_models | {"finished": now()}
    write_manifest(run.manifest, audit=about, environment=environment())
    return results


def _settings(case: AuditCase, models: Models | None, run: RunFolder, config: AuditConfig) -> dict[str, Any]:
    """Settings of an audit for the run folder."""
    compared_with = None if models is None else models.compared_with
    return {
        "target": portable(case.target_name, run.root),
        "reference": None if compared_with is None else portable(compared_with, run.root),
        "data": case.data_fingerprint,
        "max_tokens": case.max_tokens,
        "audit": asdict(config),
    }
