# SPDX-License-Identifier: Apache-2.0
"""White-box attacks: auditors that learn from hidden states and gradients, beside one on the loss alone.

A reconstruction after Parsing (Sun, Wu, Zhang, arXiv:2411.07070), whose own objective and tables could not be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import ATTACKS
from reticent.attacks.whitebox.auditor import AuditorScores, as_matrix, auc_of, cross_audit, held_out_control
from reticent.auditing.case import AuditCase
from reticent.auditing.membership.level import AttackScores, Level
from reticent.auditing.models import Models
from reticent.core.errors import Underpowered
from reticent.core.finding import ThreatModel
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.score.engine import ScoreOptions
from reticent.score.internals.gradients import Origin
from reticent.score.internals.internals import Internals, cached_internals, read_internals

PAPER = "arXiv:2411.07070"
RECONSTRUCTION = "a reconstruction after Parsing (arXiv:2411.07070), not its own auditor"


def collect_internals(
    case: AuditCase, models: Models, membership: Membership, *, cache: Path, options: ScoreOptions
) -> Internals:
    """Hidden states and gradients of the records of the record level.

    Args:
        case: the data under audit.
        models: as opened.
        membership: of the evaluated records that could be scored.
        cache: content-addressed store.
        options: of the audit's scoring.
    """
    by_id = {record.id: record for record in case.records}
    records = [by_id[id_] for id_ in membership.record_id[membership.at_record_level]]
    return cached_internals(models.target, models.reference, records, cache=cache, options=options)


def auditors(internals: Internals, level: Level, seed: int) -> tuple[Sequence[AttackScores], Sequence[str]]:
    """Scores of three auditors (all properties, without gradients, the loss alone), and those that had to be refused.

    An auditor is refused where its control between two halves of the held-out records beats chance.

    Args:
        internals: of the level's units, in their order.
        level: the records, with their owners.
        seed: of halves and learners.
    """
    users = level.cluster
    scored: list[AttackScores] = []
    refused: list[str] = []
    for name, columns in _columns(internals).items():
        properties = as_matrix(columns)
        try:
            audited = cross_audit(properties, level.member, users, seed=seed)
            control, note = _control(properties, level.member, users, seed)
        except Underpowered as error:
            return (), [f"white-box auditor: {error.given}: {error.why}. {error.fix}"]
        if control:
            refused.append(f"{name}: {note}, so it is not believed")
            continue
        scored.append(_scored(name, audited, note, len(columns), "gain" in internals.forward))
    return scored, refused


def whitebox_scores(
    model: Any,
    base: Any | None,
    tokenizer: Any,
    records: Sequence[Record],
    member: npt.NDArray[np.bool_],
    cluster: npt.NDArray[np.object_] | None = None,
    *,
    max_tokens: int | None = None,
    origin: Origin | None = None,
    seed: int = 0,
) -> tuple[Sequence[AttackScores], Sequence[str]]:
    """The auditors' scores of any model in memory, a checkpoint of a training too; the model is left as it was.

    Below this layer the same is had from ``score.internals.internals.read_internals`` and
    ``attacks.whitebox.auditor.cross_audit``.

    Args:
        model: the tuned model in evaluation mode.
        base: the model that it was tuned from; None for an adapter (it is switched off), or where there is none.
        tokenizer: the model's.
        records: ``N``, each with a trained token to score.
        member: ``[N]``.
        cluster: ``[N]`` owner of each record; None: records are independent.
        max_tokens: tokens of each record that were trained on.
        origin: see ``read_internals``.
        seed: of halves and learners.
    """
    rows = [encode(record, tokenizer, max_tokens=max_tokens) for record in records]
    internals = read_internals(model, base, rows, origin=origin)
    level = Level(
        name="record",
        member=member,
        cluster=cluster,
        attacks=(),
        what="members against held-out records",
    )
    return auditors(internals, level, seed)


def _columns(internals: Internals) -> dict[str, Mapping[str, npt.NDArray[np.float64]]]:
    return {
        "whitebox_auditor": internals.forward | internals.backward,
        "hidden_auditor": internals.forward,
        "loss_auditor": {"loss": internals.forward["loss"]},
    }


def _control(
    properties: npt.NDArray[np.float64],
    member: npt.NDArray[np.bool_],
    users: npt.NDArray[np.object_] | None,
    seed: int,
) -> tuple[bool, str]:
    """True where the control fails, and a note with its AUC."""
    outside = None if users is None else users[~member]
    try:
        estimate = auc_of(held_out_control(properties, member, users, seed=seed), outside, confidence=0.9999, seed=seed)
    except Underpowered:
        return False, "too few held-out records for a control between two halves of them"
    note = f"control between two halves of the held-out records: AUC {estimate.value:.3f} [{estimate.lo:.3f}, "
    return estimate.lo > 0.5, f"{note}{estimate.hi:.3f}]"


def _scored(name: str, audited: AuditorScores, control: str, properties: int, based: bool) -> AttackScores:
    learned = f"{properties} properties; learned on either half by {' / '.join(audited.learners)}, judged on the other"
    needs = ("records of known membership",)
    return AttackScores(
        name=name,
        score=audited.score,
        threat=ThreatModel(access=ATTACKS.get(name).access, needs=("the base model", *needs) if based else needs),
        notes=(RECONSTRUCTION, learned, control) if name != "loss_auditor" else (learned, control),
        paper=PAPER if name != "loss_auditor" else "",
        summary=ATTACKS.get(name).summary,
        second=audited.second,
    )
