# SPDX-License-Identifier: Apache-2.0
"""Refusal of a base that has learned the private texts: what it writes tells of them, whatever is promised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reticent.auditing.synthetic.private_overlap import OWN_WORDS, count_words, keys_of
from reticent.core.errors import BadInput
from reticent.core.manifest import read_manifest
from reticent.core.membership import read_membership
from reticent.core.portable import found
from reticent.core.record import Record, fingerprint, read_records
from reticent.core.run_folder import RunFolder

LEARNS = ("tune", "federate", "unlearn")
FEWEST, SHARE = 10, 0.01
"""Records that a base may have in common with the data by chance: fewer than so many, and no more than that share."""


def refuse_learned(base: str, records: Sequence[Record], *, unless_private: bool = False) -> None:
    """Refuse a model that was tuned on some of these texts, or is made of one that was, where a run folder says so.

    Texts of few words are common to all data and are not counted. So is one refused that was tuned on what `reticent
    synthesize` made from these records, in this order and with these users.

    Args:
        base: a model; nothing is known of one without a run folder.
        records: private.
        unless_private: take one that learned them under a promise of its own: what both cost adds up, and is added up
            by `reticent ls`.

    Raises:
        BadInput: it has learned them, with how many.
    """
    data = fingerprint(records)
    for run in (run for place in made_of(base) for run in _runs_of(place)):
        if (maker := _made_from(run, data)) is not None:
            raise BadInput(
                base,
                f"was tuned on synthetic texts that {maker or 'somebody'} made from these very records: what it knows "
                "of them comes on top of what is promised here, which counts this run alone",
                "Give a model that has read nothing that was made from them (--model), such as its base.",
            )
        if unless_private and run.promise.exists():
            continue
        if any((run.settings(step) or {}).get("data") == data for step in LEARNS):
            raise BadInput(
                base,
                "was tuned on these very texts, so what it writes tells of them whatever is promised",
                "Give a model that has seen none of them (--model), such as its base.",
            )
        common, long = learned_records(run, records)
        if common >= FEWEST or common > SHARE * long:
            raise BadInput(
                base,
                f"was tuned on {common} of these {long} records of {OWN_WORDS} words or more, however they are "
                "spelled, so what it writes tells of them whatever is promised",
                "Give a model that has seen none of them (--model), such as its base, or leave those records out.",
            )


def _made_from(run: RunFolder, data: str) -> str | None:
    """The mechanism that made the texts of a run from data of this fingerprint; None where they are others."""
    texts = read_manifest(run.manifest).get("texts") if run.manifest.is_file() else None
    return str(texts.get("mechanism")) if isinstance(texts, dict) and texts.get("data") == data else None


def learned_records(run: RunFolder, records: Sequence[Record]) -> tuple[int, int]:
    """Records of a few words or more that are among those that a run trained on, and how many there are at all."""
    long = [record for record in records if count_words(record.plain) >= OWN_WORDS]
    if not any(run.settings(step) is not None for step in LEARNS) or not run.records.is_file():
        return 0, len(long)
    theirs: Sequence[Record] = read_records(run.records)
    if run.membership.is_file():  # who was held out there was not learned
        member = read_membership(run.membership).member
        theirs = [record for record, inside in zip(theirs, member, strict=True) if inside]
    there = {key for record in theirs for key in keys_of(record)}
    return sum(not there.isdisjoint(keys_of(record)) for record in long), len(long)


def _runs_of(place: Path) -> list[RunFolder]:
    """The run folders that a model may be of: the one that it lies in, and the one of which it is a checkpoint."""
    from reticent.train.checkpoints import folder_for

    roots = [place.parent]
    roots += [up.parent for up in place.parents if up.name == folder_for(RunFolder(root=up.parent).model).name]
    return [RunFolder(root=root) for root in roots]


def made_of(base: str) -> set[Path]:
    """The folder of a model, and those of all models that it was made of, as far as they lie here."""
    from reticent.models import adapters
    from reticent.models.emulation import ROLES, read_emulation
    from reticent.models.tuned import read_tuned

    places: set[Path] = set()
    left = [base]
    while left:
        place = Path(left.pop()).expanduser().resolve()
        if place in places or not place.is_dir():
            continue
        places.add(place)
        if (ensemble := read_emulation(place)) is not None:
            left += [getattr(ensemble, role).source for role in ROLES]
        if (tuned := read_tuned(place)) is not None:
            left.append(tuned.base)
        elif adapters.is_peft(place) and (below := adapters.named_base(place)):
            left.append(below)
        for run in _runs_of(place):  # where something was unlearned, the rest was learned by the run before
            parent = (run.settings("unlearn") or {}).get("parent")
            left += [str(RunFolder(root=Path(found(parent, run.root))).model)] if isinstance(parent, str) else []
    return places
