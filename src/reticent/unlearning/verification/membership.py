# SPDX-License-Identifier: Apache-2.0
"""Membership, both sides: forget rows against rows never trained on, as a test of equivalence.

An AUC near 1 says that the rows are still known, one near 0 that they are marked by their absence: too unlikely to be
unseen. Only an interval that lies within 0.5 ± margin says *like unseen*; a large p-value says nothing. A departure
that retrained models show too is one of the rows, not of the unlearning, and does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reticent.attacks.attack import ATTACKS, Attack
from reticent.attacks.evidence import TABLES
from reticent.attacks.selection import read_selection
from reticent.core.errors import BadInput
from reticent.core.section import Column, Section, Table
from reticent.core.table import TokenTable
from reticent.core.unlearning import BASE, RETRAINED, Measurement, UnlearningCheck
from reticent.core.unlearning_words import LIKE_UNSEEN, TOO_FEW
from reticent.stats.equivalence import Likeness, equivalence
from reticent.stats.shared_departure import without_shared_departures
from reticent.unlearning.verification.beside import beside_cells, beside_columns
from reticent.unlearning.verification.check import Judging, Visit, check
from reticent.unlearning.verification.config import VerifyConfig

NAME = "membership"
READ = {"table", "ref"}
"""Evidence that is there: the model and the base on the plain text."""


def read(visit: Visit) -> TokenTable:
    """The token table of the judged rows."""
    return visit.table


def usable_attacks(given: str | None, *, base: bool) -> tuple[Attack, ...]:
    """Membership attacks that the tables of two models are enough for.

    Args:
        given: names and parameters, as for the audit; None for all that are not switched off by default.
        base: there is a base to compare with.

    Raises:
        BadInput: an attack that is asked for needs more than that.
    """
    able = [
        attack
        for attack in ATTACKS.select(family="membership", unit="record")
        if attack.source == TABLES and set(attack.evidence) <= READ and (base or "ref" not in attack.evidence)
    ]
    if given is None:
        return tuple(attack for attack in able if not attack.by_name)
    selection = read_selection(given)
    names = {attack.name for attack in able}
    asked = selection.chosen([attack.name for attack in able if not attack.by_name])
    beyond = sorted(name for name in selection.named if name not in names)
    if beyond:
        raise BadInput(
            f"attack {beyond[0]!r}",
            "needs more than the tables of the unlearned model and its base",
            f"Choose from {', '.join(sorted(names))}.",
        )
    chosen = [selection.configured(attack) for attack in able if attack.name in asked]
    return tuple(attack for attack in chosen if attack.name in selection.named or not attack.lacks)


def likeness(
    table: TokenTable, ref: TokenTable | None, attacks: Sequence[Attack], judging: Judging, margin: float
) -> Likeness:
    """Forget rows against unseen ones, by all attacks that can run."""
    rows = judging.forget | judging.unseen
    evidence = {"table": table.take(rows)} | ({} if ref is None else {"ref": ref.take(rows)})
    scores = {attack.name: attack.score(evidence) for attack in attacks if attack.can_run(evidence)}
    return equivalence(
        scores,
        judging.forget[rows],
        margin=margin,
        users=judging.owners(rows),
        confidence=judging.config.confidence,
        seed=judging.config.seed,
    )


def evaluate(tables: Mapping[str, TokenTable], judging: Judging) -> UnlearningCheck:
    """AUCs of all models, and a word for the unlearned one."""
    base = judging.base
    ref = None if base is None else tables[base.name]
    attacks = usable_attacks(judging.config.attacks, base=base is not None)
    by_model = {
        model.name: likeness(
            tables[model.name], None if model.role == BASE else ref, attacks, judging, judging.margin.value
        )
        for model in judging.models
    }
    retrained = [by_model[model.name] for model in judging.models if model.role == RETRAINED]
    after = without_shared_departures(by_model[judging.after.name], retrained)
    missing = _missing(judging)
    words = {row.attack: _word(row.verdict, missing) for row in after.attacks}
    word = _word(after.verdict, missing)
    return UnlearningCheck(
        name=NAME,
        word=word,
        sentence=f"Membership: {word}, since {missing}."
        if missing and word == TOO_FEW
        else f"Membership: {word}. {after.reason}",
        could_have_seen=_could_have_seen(judging, list(by_model.values())),
        knew=any(row.auc.lo > 0.5 for row in by_model[judging.before.name].attacks),
        section=_section(by_model, words, judging, missing),
        measured=tuple(
            Measurement(
                check=NAME,
                model=model.name,
                role=model.role,
                what=row.attack,
                metric="auc",
                estimate=row.auc,
                word=words[row.attack] if model is judging.after else "",
                chance=0.5,
            )
            for model in judging.models
            for row in by_model[model.name].attacks
        ),
    )


def _word(verdict: str, missing: str) -> str:
    """Likeness takes rows enough; a departure that few rows show is said all the same."""
    return TOO_FEW if missing and verdict == LIKE_UNSEEN else verdict


def _missing(judging: Judging) -> str:
    """Reason that no likeness can be claimed; empty where there are rows enough."""
    for name, rows in (("forget", judging.forget), ("unseen", judging.unseen)):
        count = int(rows.sum())
        if count < judging.config.least:
            return f"only {count} {name} rows judge and {judging.config.least} are needed"
    return "" if judging.margin.enough else judging.margin.reason


def _could_have_seen(judging: Judging, likenesses: Sequence[Likeness]) -> str:
    """By the widest interval of any model: those of AUCs far from 0.5 are narrower than what had to be seen."""
    aucs = [row.auc for likeness in likenesses for row in likeness.attacks]
    furthest = max(max(auc.hi - auc.value, auc.value - auc.lo) for auc in aucs)
    sizes = likenesses[0]
    people = "" if judging.user is None else f" of {sizes.forget} and {sizes.unseen} people"
    return (
        f"Membership: with {int(judging.forget.sum())} forget rows and {int(judging.unseen.sum())} unseen "
        f"rows{people}, an AUC further than {furthest:.2f} from 0.5 would have shown."
    )


def _section(by_model: Mapping[str, Likeness], words: Mapping[str, str], judging: Judging, missing: str) -> Section:
    aucs = {name: {row.attack: row.auc for row in entry.attacks} for name, entry in by_model.items()}
    first = Column(name="attack", label="Attack")
    rows = tuple(
        beside_cells(
            attack,
            {name: by_attack[attack] for name, by_attack in aucs.items() if attack in by_attack},
            judging,
            word=word,
        )
        for attack, word in words.items()
    )
    table = Table(
        name="unlearning-membership",
        title="AUC of forget rows against unseen rows",
        columns=beside_columns(first, metric="auc"),
        rows=rows,
        caption=f"Like unseen: the interval of a test of equivalence (both tails 5 %) within 0.5 ± "
        f"{judging.margin.value:.2g}. The intervals shown hold together for all attacks on one model, at "
        f"{judging.config.confidence * 100:g} %. 0.5 is what a model gives that never saw the rows.",
    )
    notes = [f"Margin: {judging.margin.reason}."]
    notes += [f"Likeness is not claimed: {missing}."] if missing else []
    if judging.base is None:
        notes.append("Without a base model, attacks that compare with it did not run.")
    return Section(
        name=NAME,
        title=CHECK.title,
        lede="Can the forget rows be told from rows that were never trained on? Both ways count: a row that is too "
        "unlikely is as recognisable as one that is too likely.",
        tables=(table,),
        notes=tuple(notes),
    )


def _refuse(config: VerifyConfig) -> None:
    usable_attacks(config.attacks, base=True)


CHECK = check(name=NAME, title="Membership, both sides", order=10, read=read, evaluate=evaluate, refuse=_refuse)
