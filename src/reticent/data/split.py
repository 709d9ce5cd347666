# SPDX-License-Identifier: Apache-2.0
"""Choice of the records that are trained on: by independent coins, recorded, or by a membership that a person gives.

* ``unit="record"``: one coin a record. Members are compared with held-out records. No user-level comparison is fair.
* ``unit="user"``: one coin a user and a second one for each record. Trained records are compared with fresh ones of
  the same users; users who are in with users who are out, by fresh texts of both.

Coins are independent (never "exactly half"), because one-run lower bounds on ε rest on that (arXiv:2305.08846 §3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.coin import uniform

MIN_RECORDS = 10
"""Fewer records than this cannot support any statement."""


def split(
    records: Sequence[Record],
    *,
    unit: str,
    seed: int,
    probability: float = 0.5,
    train_fraction: float = 0.5,
    known_fraction: float = 0.1,
    max_known: int = 512,
    max_per_user: int | None = None,
) -> Membership:
    """Throw independent coins for records or users.

    With ``unit="user"`` every record, of users who are in and out alike, gets a second coin: *train* or *fresh*. Train
    records of users who are in are the members; fresh ones are evaluated; train records of users who are out get the
    role ``"spare"`` (or ``"known"``): they are neither trained on nor evaluated. So users on both sides show fresh
    texts chosen by the same coin, as many of them on average; with all texts of the users who are out, a maximum over
    texts would differ between the sides even for a model that learned nothing. Users who got no train record at all
    are spare too, by coins that know nothing of the side.

    Args:
        records: with unique ids.
        unit: ``"record"`` or ``"user"``.
        seed: of all coins. A coin depends on the seed and the id only, so added records move no other coin, where
            ids do not count rows (see `reticent.data.ids`).
        probability: chance that a unit is in.
        train_fraction: chance that a record of a user is a train record; only with ``unit="user"``.
        known_fraction: chance that a member, and a held-out record (with ``unit="user"``: a spare one), gets the role
            ``"known"``: what an attacker is assumed to know, never evaluated.
        max_known: about so many known records at most; lowers ``known_fraction`` where there are many records.
        max_per_user: no more records of a user than this are trained on, chosen by a hash. With ``unit="record"`` the
            others of the user get no coin and are spare, so that every coin stays fair. With ``unit="user"`` the
            records of a user are gone through in the order of the hash until so many came up *train*; of those behind,
            the *train* ones are spare, and the *fresh* ones get the role ``"fresh"``, on both sides alike. So members
            and held-out records still come from the same users in the same proportion, and the attacker of user
            inference holds as many texts as without a cap. None: no cap.

    Raises:
        BadInput: too few records or users, missing users, duplicate ids, or a side that came out empty.

    Examples:
        >>> mails = [Record(id=f"mail {number}", text="hello") for number in range(40)]
        >>> membership = split(mails, unit="record", seed=0)
        >>> int(membership.member.sum()), membership.unit
        (23, 'record')
    """
    validate.one_of(("record", "user"), unit=unit)
    for name, value in (("probability", probability), ("train_fraction", train_fraction)):
        if not 0 < value < 1:
            raise BadInput(f"{name}={value!r}", "must be between 0 and 1", "Give a number in between, such as 0.5.")
    _check_known(known_fraction)
    _check_ids(records)
    if len(records) < MIN_RECORDS:
        raise BadInput(f"{len(records)} records", "are too few to split", f"Give at least {MIN_RECORDS}, better 1000.")
    ids = [record.id for record in records]
    if max_per_user is not None:
        validate.positive(max_per_user=max_per_user)
        _check_users(records, asked="max_records_per_user")
    if unit == "user":
        _check_users(records)
        users = np.array([record.user for record in records], dtype=object)
        user_member = _below(seed, "user", users, probability)
        train = _below(seed, "train", ids, train_fraction)
        trains = {user for user, chosen in zip(users, train, strict=True) if chosen}
        within = within_cap(records, train, seed, max_per_user)
        spare = np.array([user not in trains for user in users]) | (train & ~(user_member & within))
        member = train & user_member & within
        pool = (member, spare & within)
    else:
        within = within_cap(records, np.ones(len(records), dtype=bool), seed, max_per_user)
        member = _below(seed, "record", ids, probability) & within
        user_member = _any_of_user(records, member)
        spare = ~within
        pool = (member, ~member & within)
    role = np.where(spare, "spare", np.where(within, "evaluate", "fresh")).astype(object)
    for side in pool:
        role[_known(ids, side, seed=seed, fraction=known_fraction, most=max_known)] = "known"
    membership = _membership(records, member, user_member, role, unit=unit, probability=probability, seed=seed)
    check_sides(membership)
    return membership


def from_files(
    members: Sequence[Record],
    held_out: Sequence[Record],
    *,
    known_fraction: float = 0.1,
    max_known: int = 512,
    seed: int = 0,
) -> Membership:
    """Membership of ``[*members, *held_out]``, as a person gave it in two files.

    Args:
        members: records that the model was trained on.
        held_out: records that it was not trained on.
        known_fraction, max_known, seed: as in `split`; the seed only chooses known records.

    Raises:
        BadInput: one of them is empty, or an id is in both.

    Examples:
        >>> trained = [Record(id=f"in {number}", text="a note") for number in range(20)]
        >>> outside = [Record(id=f"out {number}", text="a note") for number in range(20)]
        >>> membership = from_files(trained, outside)
        >>> int(membership.member.sum()), membership.unit
        (20, 'given')
    """
    both = {record.id for record in members} & {record.id for record in held_out}
    if both:
        raise BadInput(
            f"{len(both)} ids, such as {min(both)!r}",
            "are among the members and among the held-out",
            "A record is either trained on or not: take it out of one file (--id_field names the id).",
        )
    label = {record.id: True for record in members} | {record.id: False for record in held_out}
    return from_labels([*members, *held_out], label, known_fraction=known_fraction, max_known=max_known, seed=seed)


def from_labels(
    records: Sequence[Record],
    member: Mapping[str, bool],
    *,
    known_fraction: float = 0.1,
    max_known: int = 512,
    seed: int = 0,
) -> Membership:
    """Membership of ``records``, as a person gave it by id (see `reticent.data.labels.read_labels`).

    Args:
        records: with unique ids.
        member: for every record id, whether the record was trained on.
        known_fraction, max_known, seed: as in `split`; the seed only chooses known records.

    Raises:
        BadInput: an id on one side only, all members, all held-out, or too few records.

    Examples:
        >>> notes = [Record(id=str(number), text="a note") for number in range(20)]
        >>> membership = from_labels(notes, {note.id: int(note.id) % 2 == 0 for note in notes})
        >>> membership.member[:4].tolist(), membership.unit
        ([True, False, True, False], 'given')
    """
    _check_known(known_fraction)
    _check_ids(records)
    ids = [record.id for record in records]
    _check_labels(ids, member)
    if len(records) < MIN_RECORDS:
        raise BadInput(f"{len(records)} records", "are too few to audit", f"Give at least {MIN_RECORDS}, better 1000.")
    chosen = np.array([bool(member[id_]) for id_ in ids])
    role = np.full(len(ids), "evaluate", dtype=object)
    for side in (chosen, ~chosen):
        role[_known(ids, side, seed=seed, fraction=known_fraction, most=max_known)] = "known"
    membership = _membership(records, chosen, _any_of_user(records, chosen), role, unit="given")
    check_sides(membership)
    return membership


def _membership(
    records: Sequence[Record],
    member: npt.NDArray[np.bool_],
    user_member: npt.NDArray[np.bool_],
    role: npt.NDArray[np.object_],
    *,
    unit: str,
    probability: float = float("nan"),
    seed: int = -1,
) -> Membership:
    return Membership(
        record_id=np.array([record.id for record in records], dtype=object),
        member=member,
        user=np.array([record.user for record in records], dtype=object),
        user_member=user_member,
        role=role,
        unit=unit,
        probability=probability,
        seed=seed,
    )


def _below(seed: int, purpose: str, things: Sequence[str] | npt.NDArray[np.object_], p: float) -> npt.NDArray[np.bool_]:
    return np.array([uniform(seed, purpose, thing) < p for thing in things], dtype=bool)


def within_cap(
    records: Sequence[Record], counts: npt.NDArray[np.bool_], seed: int, most: int | None
) -> npt.NDArray[np.bool_]:
    """``[N]``: records of each user, in the order of a hash, up to the ``most``-th of them that ``counts``."""
    within = np.ones(len(records), dtype=bool)
    if most is None:
        return within
    taken: Counter[str | None] = Counter()
    for row in sorted(range(len(records)), key=lambda row: uniform(seed, "cap", records[row].id)):
        user = records[row].user
        within[row] = taken[user] < most
        taken[user] += int(counts[row])
    return within


def _any_of_user(records: Sequence[Record], member: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """``[N]``, True where any record of the record's user is a member; the record's own coin where it has no user."""
    users = [record.user for record in records]
    inside = {user for user, chosen in zip(users, member, strict=True) if chosen}
    return np.array(
        [chosen if user is None else user in inside for user, chosen in zip(users, member, strict=True)], dtype=bool
    )


def _known(
    ids: Sequence[str], side: npt.NDArray[np.bool_], *, seed: int, fraction: float, most: int
) -> npt.NDArray[np.int64]:
    """Indices of ``side`` whose number is below a cut that is the same for both sides.

    The cut is ``fraction``, or lower so that about ``most`` of all records fall below it. It knows nothing of who is
    in: were each side cut at its own count, the records left to evaluate would no longer be in with exactly the coin's
    probability, and one-run bounds on ε rest on that.
    """
    cut = min(fraction, most / len(ids))
    return np.array([row for row in np.flatnonzero(side).tolist() if uniform(seed, "known", ids[row]) < cut], np.int64)


def _check_known(known_fraction: float) -> None:
    if not 0 <= known_fraction < 1:
        raise BadInput(f"known_fraction={known_fraction!r}", "must be in [0, 1)", "Give a small share, such as 0.1.")


def _check_ids(records: Sequence[Record]) -> None:
    counts = Counter(record.id for record in records)
    repeated = [id_ for id_, n in counts.items() if n > 1]
    if repeated:
        raise BadInput(
            f"{len(repeated)} ids, such as {repeated[0]!r}", "are given twice", "Give each record its own id."
        )


def _check_users(records: Sequence[Record], *, asked: str = "") -> None:
    """Refuse records without users; ``asked``: the flag that needs them, by default the split's unit."""
    without = sum(record.user is None for record in records)
    if without:
        raise BadInput(
            asked or "split_unit='user'",
            f"{without} of {len(records)} records have no user",
            "Name the field that holds the user (--user_field), or "
            + ("leave it out." if asked else "split by record (--split_unit record)."),
        )
    if asked:
        return
    if len({record.user for record in records}) == 1:
        raise BadInput(
            "split_unit='user'", "all records belong to one user, so there is no one to compare with",
            "Give records of more users, or split by record (--split_unit record).",
        )  # fmt: skip


def _check_labels(ids: Sequence[str], member: Mapping[str, bool]) -> None:
    present = set(ids)
    for missing, where, flag in (
        ([id_ for id_ in member if id_ not in present], "are in the membership but not in the data", "--id_field"),
        ([id_ for id_ in ids if id_ not in member], "are in the data but not in the membership", "--membership"),
    ):
        if missing:
            raise BadInput(
                f"{len(missing)} ids, such as {missing[0]!r}", where, f"Give both with the same ids (check {flag})."
            )


def check_sides(membership: Membership) -> None:
    """Refuse a split in which a side has nothing to evaluate.

    Raises:
        BadInput: says which.
    """
    evaluated = membership.take(membership.role == "evaluate")
    members, held_out = int(evaluated.member.sum()), int((~evaluated.member).sum())
    if membership.unit == "given":
        if not (members and held_out):
            given = "members" if members else "held-out"
            raise BadInput(
                f"{len(membership)} records",
                f"all that can be evaluated are {given}",
                "Give records of both kinds: who was in is told from who was not.",
            )
        return
    empty = [name for name, n in (("members", members), ("held-out records", held_out)) if not n]
    if membership.unit == "user":
        inside = int(evaluated.user_member.sum())
        empty += [name for name, n in (("users in", inside), ("users out", len(evaluated) - inside)) if not n]
    if empty:
        raise BadInput(
            f"{len(membership)} records",
            f"the coins left no {' and no '.join(empty)} to evaluate",
            "Give more records (for a split by user: at least two of each user), or a probability nearer to 0.5.",
        )
