# SPDX-License-Identifier: Apache-2.0
"""Inside: an auditor that learns from hidden states and gradients which rows were to be forgotten.

It sees the labels of half of the rows and is judged on the other half, so it finds whatever tells the sides apart: rows
that are known and rows that are marked by their absence alike. Its control are two halves of the unseen rows, where
there is nothing to find; where that beats chance the auditor is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from reticent.attacks.whitebox.auditor import as_matrix, auc_of, cross_audit, held_out_control
from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.section import Column, Section, Table
from reticent.core.unlearning import AFTER, BEFORE, RETRAINED, Measurement, UnlearningCheck
from reticent.core.unlearning_words import LIKE_UNSEEN, MARKED, TOO_FEW
from reticent.models.load import load
from reticent.score.internals.internals import Internals, cached_internals
from reticent.unlearning.verification.beside import beside_cells, beside_columns
from reticent.unlearning.verification.check import Judging, Visit, check
from reticent.unlearning.verification.config import VerifyConfig

NAME = "inside"
PAPER = "arXiv:2411.07070"


class AuditorAuc(NamedTuple):
    """AUC of one model's auditor, and why it is not believed; empty where it is."""

    auc: Estimate
    doubt: str


def read(visit: Visit) -> Internals:
    """Hidden states and gradients of forget and unseen rows. A whole model needs its base in memory beside it."""
    records = [*visit.case.forget, *visit.case.unseen]
    base = None
    if visit.base is not None and not visit.loaded.is_adapter:
        base = load(visit.base, dtype=visit.loaded.dtype, device=visit.loaded.device)
    return cached_internals(visit.loaded, base, records, cache=visit.cache, options=visit.options)


def evaluate(internals: Mapping[str, Internals], judging: Judging) -> UnlearningCheck:
    """AUC of an auditor of each model."""
    try:
        audited = {name: _audited(entry, judging) for name, entry in internals.items()}
    except Underpowered as error:
        return CHECK.not_run(f"{error.given}: {error.why}")
    after = audited[judging.after.name]
    word = _word(after, judging)
    low, high = f"[{after.auc.lo:.2f}", f"{after.auc.hi:.2f}]"
    return UnlearningCheck(
        name=NAME,
        word=word,
        sentence=f"Inside: an auditor of hidden states and gradients reaches AUC {after.auc.value:.2f} {low}, {high}: "
        f"{word}.",
        could_have_seen=f"Inside: an AUC of {0.5 + after.auc.value - after.auc.lo:.2f} would have shown.",
        section=_section(audited, judging, word),
        measured=tuple(
            Measurement(
                check=NAME,
                model=model.name,
                role=model.role,
                what="auditor of hidden states and gradients",
                metric="auc",
                estimate=audited[model.name].auc,
                word=word if model is judging.after else "",
                chance=0.5,
            )
            for model in judging.models
            if model.name in audited
        ),
    )


def _audited(inside: Internals, judging: Judging) -> AuditorAuc:
    rows = judging.forget | judging.unseen
    forget, owners = judging.forget[rows], judging.owners(rows)
    properties = as_matrix(inside.forward | inside.backward)
    seed, confidence = judging.config.seed, judging.config.confidence
    auc = auc_of(cross_audit(properties, forget, owners, seed=seed), owners, confidence=confidence, seed=seed)
    outside = None if owners is None else owners[~forget]
    try:
        control = auc_of(held_out_control(properties, forget, owners, seed=seed), outside, confidence=0.9999, seed=seed)
    except Underpowered:
        return AuditorAuc(auc, "too few unseen rows for a control between two halves of them")
    doubt = f"control between two halves of the unseen rows: AUC {control.value:.2f}, above chance"
    return AuditorAuc(auc, doubt if control.lo > 0.5 else "")


def _word(after: AuditorAuc, judging: Judging) -> str:
    """Findings of an auditor have no direction: rows that it tells apart are marked, by whatever it is."""
    if after.doubt:
        return TOO_FEW
    if after.auc.lo > 0.5:
        return MARKED
    return LIKE_UNSEEN if after.auc.hi < 0.5 + judging.margin.value and judging.margin.enough else TOO_FEW


def _section(audited: Mapping[str, AuditorAuc], judging: Judging, word: str) -> Section:
    first = Column(name="auditor", label="Auditor")
    row = beside_cells(
        "hidden states and gradients", {name: entry.auc for name, entry in audited.items()}, judging, word=word
    )
    table = Table(
        name="unlearning-inside",
        title="AUC of an auditor of the inside, forget rows against unseen rows",
        columns=beside_columns(first, metric="auc"),
        rows=(row,),
        caption="Learned on either half of the rows, judged on the other.",
    )
    doubts = tuple(f"{name}: {entry.doubt}." for name, entry in audited.items() if entry.doubt)
    return Section(
        name=NAME,
        title=CHECK.title,
        lede=f"An attacker who has the weights learns which rows were to be forgotten (after {PAPER}, a "
        "reconstruction). What it finds has no direction: known and marked rows both stand out.",
        tables=(table,),
        notes=doubts,
    )


def _wants(role: str, config: VerifyConfig) -> bool:
    return role in (AFTER, BEFORE, RETRAINED)


CHECK = check(
    name=NAME, title="Inside of the model", order=60, read=read, evaluate=evaluate, wants=_wants, switch="whitebox"
)
