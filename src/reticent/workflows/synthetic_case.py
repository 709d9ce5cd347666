# SPDX-License-Identifier: Apache-2.0
"""The case of an audit of synthetic text: whose records it was made from, and who was held out, by recorded coins."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from reticent.auditing.case import AuditCase, read_recorded
from reticent.auditing.config import AuditConfig
from reticent.auditing.synthetic.synthetic_file import read_synthetic
from reticent.core.errors import BadInput
from reticent.core.outputs import refuse_empty
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.words import units
from reticent.train.config import TuneConfig


def check_text(config: AuditConfig) -> None:
    """Refuse a place that holds no file of synthetic text, before anything else is looked at.

    Raises:
        BadInput: there is none.
    """
    refuse_empty("--synthetic", config.synthetic)
    if not Path(config.synthetic).is_file():
        raise BadInput(f"--synthetic {config.synthetic}", "is no file", "Give the file of synthetic texts.")


def synthetic_case(what: AuditCase | RunFolder | str | Path | None, config: AuditConfig) -> AuditCase:
    """The records that synthetic text may have been made from, with their coins.

    Args:
        what: a case with the lists of a person; a run folder of `reticent tune` or `reticent synthesize`; None: the
            folder that the file lies in.
        config: of the audit; names the file.

    Raises:
        BadInput: no file; nobody was held out, so there is nobody to compare with.
    """
    check_text(config)
    place = Path(config.synthetic)
    if isinstance(what, AuditCase):
        return replace(what, target=str(place), reference=None)
    given = what.root if isinstance(what, RunFolder) else Path(what) if what is not None else place.parent
    run = RunFolder(root=given)
    held = next((folder for folder in (run, RunFolder(root=run.synthesis_training)) if _has_coins(folder)), None)
    if held is None:
        raise BadInput(
            str(given),
            "has no record of who was held out, and without held-out records a coincidence looks like a leak",
            "Make the texts with reticent synthesize --hold_out true, or give the records: --members FILE "
            "--held_out FILE.",
        )
    recorded = read_recorded(held)
    return AuditCase(
        title=f"{given.resolve().name}/{place.name}",
        target=str(place),
        reference=None,
        records=recorded.records,
        membership=recorded.membership,
        canaries=recorded.canaries,
        about={"title": given.resolve().name},
    )


def _has_coins(run: RunFolder) -> bool:
    return run.records.is_file() and run.membership.is_file()


def folder_for(what: object, config: AuditConfig) -> Path:
    """Where results go unless a person says: beside texts that `reticent synthesize` made, else in ``runs``."""
    place = Path(config.synthetic)
    if what is None and RunFolder(root=place.parent).settings("synthesize") is not None:
        return place.parent.with_name(f"{place.parent.resolve().name}-audit")
    digest = hashlib.sha256(f"{what}\0{place}".encode(errors="surrogateescape")).hexdigest()[:6]
    return Path("runs") / f"audit-{place.stem}-{digest}"


def with_auxiliary(case: AuditCase, config: AuditConfig, run: RunFolder) -> AuditCase:
    """The case of the model that is tuned on the synthetic text, against the records that the text was made from.

    Called again after a kill the training goes on where it was; finished, it is not repeated.

    Args:
        case: of the text.
        config: names the text and the public model.
        run: where the audit goes; the model lies in it.
    """
    from reticent.train.trainer import tune

    file = read_synthetic(config.synthetic, case.records, case.membership)  # refuses private data before it is learned
    texts = [text for text in file.texts if units(text)]
    records = [Record(id=f"s{number:06d}", text=text) for number, text in enumerate(texts)]
    run.make()
    tuned = tune(config.auxiliary, records, run.auxiliary / "model", training_of(case, config))
    return replace(case, target=str(tuned), reference=config.auxiliary)


def training_of(case: AuditCase, config: AuditConfig) -> TuneConfig:
    """How the auxiliary model is tuned: as `reticent tune` does without further settings."""
    usual = TuneConfig(device=config.device)
    return usual if case.max_tokens is None else replace(usual, max_tokens=case.max_tokens)
