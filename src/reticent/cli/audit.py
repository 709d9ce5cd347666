# SPDX-License-Identifier: Apache-2.0
"""`reticent audit`: what a model gives away, about whom, and to which attacker."""

from __future__ import annotations

import hashlib
from pathlib import Path

from reticent.auditing.config import AuditConfig
from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.workflows.inputs import DataConfig

USUAL = (
    "model",
    "reference",
    "members",
    "held_out",
    "out",
    "text_field",
    "user_field",
    "max_tokens",
    "attacks",
    "extraction",
)


def command(
    run: str | None = None,
    *,
    model: str | None = None,
    reference: str | None = None,
    members: str | None = None,
    held_out: str | None = None,
    data: str | None = None,
    membership: str | None = None,
    max_tokens: int | None = None,
    out: str | None = None,
    workers: str = "1",
    data_config: DataConfig,
    audit_config: AuditConfig,
) -> int:
    """Audit a fine-tuned model and write results.json and report.html.

    Either give the run folder of `reticent tune`, or any model with --model and the records that it was and was not
    trained on: --members FILE --held_out FILE, or --data FILE --membership FILE (columns id and member). With
    --synthetic FILE the text is audited in place of a model, for the records that it was made from. Members and
    held-out must come from one pool; the report says so when they do not. Audit your own models only.

    Args:
        run: a run folder of `reticent tune`, or what `reticent emulate` made of one (with --out).
        model: the fine-tuned model: a folder (also a PEFT adapter), a hub id or a catalogue name.
        reference: the model it is compared with; by default the base that the model names.
        members: records that were trained on.
        held_out: records of the same source that were not.
        data: all records, with --membership.
        membership: CSV, JSONL or Parquet with the columns id and member.
        max_tokens: how much of each record was trained on, in tokens; all of it when not given.
        out: folder for results and report; by default the run folder, or one in runs/ named after the model.
        workers: who scores: a number of processes on this machine; join, for all who start this same command on one
            file system; ray or ray:4, for a Ray cluster.
    """
    from reticent.auditing.case import AuditCase
    from reticent.core.run_folder import RunFolder
    from reticent.report.console import print_summary
    from reticent.workflows.audit import audit as run_audit
    from reticent.workflows.inputs import given_data, write_rejects

    lists = {"members": members, "held_out": held_out, "data": data, "membership": membership}
    if audit_config.synthetic:
        if model is not None or reference is not None:
            raise BadInput(
                f"--model {model or reference} with --synthetic",
                "of synthetic text no model is asked",
                "Leave one out.",
            )
        return _of_text(run, lists, out, data_config, audit_config, max_tokens)
    if run is not None:
        if any((model, members, held_out, data, membership, max_tokens)) or data_config != DataConfig():
            raise BadInput(run, "a run folder says what is audited", "Give either a run folder or --model and files.")
        folder = RunFolder(root=Path(run if out is None else out))
        results = run_audit(RunFolder(root=Path(run)), audit_config, out=out, reference=reference, workers=workers)
    else:
        if model is None:
            raise BadInput("no run folder and no --model", "there is nothing to audit", "See reticent audit --help.")
        title = Path(model).expanduser().resolve().name
        what = "\0".join(map(str, (model, reference, *lists.values())))
        digest = hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:6]
        usual = Path("runs") / f"audit-{title}-{digest}"
        folder = RunFolder(root=usual if out is None else Path(out))
        inputs = {f"--{name}": place for name, place in lists.items()}
        folder.refuse_foreign("audit", inputs | {"the audited model": model, "the reference": reference})
        given = given_data(data_config, **lists, model=model)
        case = AuditCase(
            title=title,
            target=model,
            reference=reference,
            records=given.records,
            membership=given.membership,
            max_tokens=max_tokens,
        )
        results = run_audit(case, audit_config, out=folder.root, workers=workers)
        write_rejects(folder, given.rejects)
    print_summary(results)
    console.print(f"report: {folder.report}", highlight=False, soft_wrap=True)
    return 0


def _of_text(
    run: str | None,
    lists: dict[str, str | None],
    out: str | None,
    data_config: DataConfig,
    audit_config: AuditConfig,
    max_tokens: int | None,
) -> int:
    """``command`` for synthetic text."""
    from reticent.auditing.case import AuditCase
    from reticent.core.run_folder import RunFolder
    from reticent.report.console import print_summary
    from reticent.workflows.audit import audit as run_audit
    from reticent.workflows.inputs import given_data, write_rejects
    from reticent.workflows.synthetic_case import check_text, folder_for

    check_text(audit_config)
    of_lists = any(lists.values())
    if run is not None and of_lists:
        raise BadInput(run, "a run folder says whose records they are", "Give either a run folder or files.")
    what = "\0".join(map(str, (run, *lists.values()))) if of_lists or run else None
    folder = RunFolder(root=folder_for(what, audit_config) if out is None else Path(out))
    inputs = {f"--{name}": place for name, place in lists.items()}
    folder.refuse_foreign("audit", inputs | {"the synthetic text": audit_config.synthetic, "the run folder": run})
    if not of_lists:
        results = run_audit(None if run is None else RunFolder(root=Path(run)), audit_config, out=folder.root)
    else:
        given = given_data(data_config, **lists)
        case = AuditCase(
            title=Path(audit_config.synthetic).name,
            target=audit_config.synthetic,
            reference=None,
            records=given.records,
            membership=given.membership,
            max_tokens=max_tokens,
        )
        results = run_audit(case, audit_config, out=folder.root)
        write_rejects(folder, given.rejects)
    print_summary(results)
    console.print(f"report: {folder.report}", highlight=False, soft_wrap=True)
    return 0
