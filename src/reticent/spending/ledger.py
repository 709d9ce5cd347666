# SPDX-License-Identifier: Apache-2.0
"""The ledger: trainings that share units, and what those together cost.

A unit pays for the trainings that it is in, one after the other, so the total is that of the unit that is in most; for
units that share no training it is the larger (parallel composition). Like is composed with like: a promise per record
becomes one for the user with most records, as in `accounting.implied_user_epsilon`. The other way there is none: a
record of a user who stays is replaced, not removed, and a promise per user says (2ε, (1 + e^ε)δ) of that at best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reticent.core.composed_epsilon import ComposedEpsilon
from reticent.core.errors import BadInput
from reticent.spending.people import People, most_of_a_user, read_people
from reticent.spending.recorded_training import RecordedTraining, relation, trainings_in

if TYPE_CHECKING:
    from reticent.privacy.composition import Part

MOST_SETS = 16
"""So many sets of trainings are added up to find the dearest; of more, all count as on one unit, which only adds."""


@dataclass(frozen=True, kw_only=True)
class LedgerGroup:
    """Trainings that are joined by units they share, directly or through others.

    Args:
        counted: private ones, in `totals`.
        left_out: private ones that cannot be counted; each says why.
        without_privacy: those that promise nothing.
        totals: one for each kind of unit that can be spoken of.
        notes: what else to know of the totals.
    """

    counted: tuple[RecordedTraining, ...]
    left_out: tuple[RecordedTraining, ...]
    without_privacy: tuple[RecordedTraining, ...]
    totals: tuple[ComposedEpsilon, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All groups with a private training, and private trainings of which nobody knows on whose data they were."""

    groups: tuple[LedgerGroup, ...]
    unknown: tuple[RecordedTraining, ...] = ()


def ledger(folders: Sequence[str | Path], *, data: str | None = None) -> Ledger:
    """Add up what the runs in ``folders`` cost.

    Args:
        folders: of runs, or runs themselves.
        data: look at trainings on the data set with this fingerprint only, and at those of unknown data.

    Raises:
        BadInput: a folder is missing or cannot be listed.
    """
    trainings = [training for training in trainings_in(folders) if data is None or training.data in ("", data)]
    people = _people(trainings)
    placed = [training for training in trainings if _key(training) in people]
    lost = "its records are missing, so nobody knows whose data it used"
    unknown = tuple(
        training if training.why_not else replace(training, why_not=lost)
        for training in trainings
        if _key(training) not in people and training.status != "without privacy"
    )
    groups = []
    for keys in _joined(people):
        group = _group(
            [training for training in placed if _key(training) in keys],
            {key: people[key] for key in keys},
            len(unknown),
        )
        if group.counted or group.left_out:
            groups.append(group)
    return Ledger(groups=tuple(groups), unknown=unknown)


def _key(training: RecordedTraining) -> str:
    """Equal for trainings on the same data set."""
    return training.data or (str(training.records[0].resolve()) if training.records else "")


def _people(trainings: Sequence[RecordedTraining]) -> dict[str, People]:
    """Those in each data set of which a run still has the records."""
    folders: dict[str, dict[Path, None]] = {}
    for training in trainings:
        folders.setdefault(_key(training), {}).update(dict.fromkeys(training.records))
    people = {}
    for key, places in folders.items():
        for place in places:
            try:
                people[key] = read_people(place)
                break
            except BadInput:
                continue
    return people


def _joined(people: Mapping[str, People]) -> list[list[str]]:
    """Data sets that share units, directly or through others."""
    names = list(people)
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    first: dict[tuple[str, str], str] = {}
    if len(names) > 1:
        for name in names:
            for unit in people[name].keys:
                parent[root(name)] = root(first.setdefault(unit, name))
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(root(name), []).append(name)
    return list(groups.values())


def _group(trainings: Sequence[RecordedTraining], people: Mapping[str, People], unknown: int) -> LedgerGroup:
    counted = [training for training in trainings if training.is_counted]
    left_out = [training for training in trainings if training.why_not]
    without = [training for training in trainings if training.status == "without privacy"]
    per_user = any(training.promise is not None and training.promise.unit == "user" for training in counted)
    units = ["user"] if per_user else ["record"]
    if not per_user and all(training.all_have_users for training in people.values()):
        units.append("user")
    totals = [
        _total(unit, counted, people, left_out=len(left_out) + unknown, without=len(without))
        for unit in units
        if counted
    ]
    return LedgerGroup(
        counted=tuple(counted),
        left_out=tuple(left_out),
        without_privacy=tuple(without),
        totals=tuple(training for training in totals if training is not None),
        notes=(*_of_levels(counted, people, per_user=per_user), *_chained(trainings)),
    )


def _of_levels(counted: Sequence[RecordedTraining], people: Mapping[str, People], *, per_user: bool) -> list[str]:
    """Notes on guarantees per record beside guarantees per user."""
    of_records = [
        training for training in counted if training.promise is not None and training.promise.unit == "record"
    ]
    if not per_user or not of_records:
        return []
    notes = [
        "Promises per record are added as what they imply for the user with most records. There is no total per "
        "record: a record of a user who stays is replaced, of which a promise per user says too little."
    ]
    without = [training.name for training in of_records if not people[_key(training)].all_have_users]
    if without:
        notes.append(f"Not in the total per user, as their records have no users: {', '.join(without)}.")
    return notes


def _chained(trainings: Sequence[RecordedTraining]) -> list[str]:
    """Notes on trainings that started from the model of another here: what these learn is added as any other."""
    by_model = {training.model: training for training in trainings if training.model is not None}
    notes = []
    for training in trainings:
        first = by_model.get(training.base) if training.base is not None and training.base != training.model else None
        if first is not None and training.status != "without privacy":
            bound = ", which promised no privacy: what that had learned has no bound" if not first.is_counted else ""
            notes.append(f"{training.name} started from the model of {first.name}{bound}.")
    return list(dict.fromkeys(notes))


class _Cost(NamedTuple):
    """A training at one level."""

    key: str
    part: Part
    epsilon: float
    delta: float


def _total(
    unit: str, counted: Sequence[RecordedTraining], people: Mapping[str, People], *, left_out: int, without: int
) -> ComposedEpsilon | None:
    """ε of ``counted`` for the unit that is in most of them; None where none can be brought to that level."""
    from reticent.privacy.composition import Part, total  # the accountant takes a second to load

    costs = []
    for training in counted:
        promise = training.promise
        assert promise is not None, "what is counted has a promise"
        if promise.unit == unit:
            part = Part(mechanism=training.mechanism, steps=promise.steps)
            costs.append(_Cost(_key(training), part, promise.epsilon, promise.delta))
        elif people[_key(training)].all_have_users:
            part = Part(
                mechanism=replace(training.mechanism, owned=_owned(training, people[_key(training)])),
                steps=promise.steps,
            )
            costs.append(_Cost(_key(training), part, total((part,), delta=promise.delta).epsilon, promise.delta))
    if not costs:
        return None
    delta = min(cost.delta for cost in costs)
    chosen = []
    for keys in _most_shared(unit, people):
        of_set = [cost for cost in costs if cost.key in keys]
        spent = total(tuple(cost.part for cost in of_set), delta=delta)
        chosen.append((spent, of_set))
    spent, of_set = max(chosen, key=lambda choice: choice[0].epsilon)
    return ComposedEpsilon(
        unit=unit,
        epsilon=spent.epsilon,
        check=spent.check,
        delta=delta,
        relation=relation(unit),
        trainings=len(costs),
        of_one_unit=max(len(of_set) for _, of_set in chosen),
        sum_epsilon=sum(cost.epsilon for cost in of_set),
        sum_delta=sum(cost.delta for cost in of_set),
        not_counted=left_out + len(counted) - len(costs),
        without_privacy=without,
    )


def _owned(training: RecordedTraining, people: People) -> int:
    """Most records of one user in a training, or that would have been in it had the user's coin come up."""
    by_coins = most_of_a_user(training.records[0]) if training.records else None
    return max(people.most_of_a_user if by_coins is None else by_coins, 1)


def _most_shared(unit: str, people: Mapping[str, People]) -> list[frozenset[str]]:
    """The sets of data sets that some unit is in, without those that are part of another."""
    if len(people) == 1:
        return [frozenset(people)]
    of_text: dict[str, int] = {}
    for number, person in enumerate(people.values()):
        for text, _ in person.rows:
            of_text[text] = of_text.get(text, 0) | 1 << number
    masks = set(of_text.values())
    if unit == "user":
        # By name, and where others have the same texts, who may be the same person under another name.
        of_user: dict[str | None, int] = {}
        for person in people.values():
            for text, user in person.rows:
                of_user[user] = of_user.get(user, 0) | of_text[text]
        masks = {mask for user, mask in of_user.items() if user is not None}
    largest = {mask for mask in masks if not any(mask != other and mask & other == mask for other in masks)}
    if len(largest) > MOST_SETS or not largest:
        return [frozenset(people)]
    names = list(people)
    return [frozenset(name for number, name in enumerate(names) if mask >> number & 1) for mask in sorted(largest)]
