# SPDX-License-Identifier: Apache-2.0
"""The rows of a run that the flags of a request name, and the refusals: not there, never trained on, gone already."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.read import read
from reticent.unlearning.listed_ids import SHOWN, listed_ids, shown
from reticent.unlearning.matching import with_expression, with_text, with_value
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.request_file import Reason
from reticent.unlearning.run_rows import RunRows
from reticent.unlearning.shared_phrases import overlaps


@dataclass(frozen=True, kw_only=True)
class NamedRows:
    """Places of rows that a request names.

    Args:
        reasons: place of each trained row → the first flag that names it.
        untrained: rows that were never trained on.
        forgotten: rows that an earlier request took out.
    """

    reasons: dict[int, Reason] = field(default_factory=dict)
    untrained: set[int] = field(default_factory=set)
    forgotten: set[int] = field(default_factory=set)

    def add(self, rows: RunRows, places: Sequence[int], reason: Reason) -> bool:
        """Add rows; True if one of them is trained on."""
        some = False
        for place in places:
            if rows.is_trained[place]:
                self.reasons.setdefault(place, reason)
                some = True
            else:
                (self.forgotten if rows.is_forgotten[place] else self.untrained).add(place)
        return some


def named_rows(rows: RunRows, request: ForgetRequest) -> NamedRows:
    """The rows that a request names.

    Raises:
        BadInput: see `forget_set.forget_set`.
    """
    named = NamedRows()
    steps: dict[str, Callable[[RunRows, ForgetRequest, NamedRows], None]] = {
        "forget_users": _users,
        "forget_ids": _ids,
        "forget_file": _file,
        "forget_pattern": _pattern,
    }
    for flag in request.selectors:
        steps[flag](rows, request, named)
    return named


def _users(rows: RunRows, request: ForgetRequest, named: NamedRows) -> None:
    of_user: dict[str, list[int]] = {}
    for place, record in enumerate(rows.records):
        if record.user is not None:
            of_user.setdefault(record.user, []).append(place)
    users = listed_ids(request.forget_users or (), flag="forget_users", kind="user", present=of_user, others=rows.place)
    nothing = [user for user in users if not named.add(rows, of_user[user], "user")]
    if nothing:
        raise _nothing_to_forget(
            rows, "--forget_users", nothing, [place for user in nothing for place in of_user[user]]
        )


def _ids(rows: RunRows, request: ForgetRequest, named: NamedRows) -> None:
    users = {record.user for record in rows.records if record.user is not None}
    given = request.forget_ids or ()
    try:
        ids = listed_ids(given, flag="forget_ids", kind="record", present=rows.place, others=users)
    except BadInput as error:
        raise _left_out(rows, given, error) from error
    nothing = [name for name in ids if not named.add(rows, [rows.place[name]], "id")]
    if nothing:
        raise _nothing_to_forget(rows, "--forget_ids", nothing, [rows.place[name] for name in nothing])


def _file(rows: RunRows, request: ForgetRequest, named: NamedRows) -> None:
    given = f"--forget_file {request.forget_file}"
    asked = read(request.forget_file, text_field=request.forget_text_field).records
    matched = with_text([record.plain for record in asked], rows.records)
    for places in matched:
        named.add(rows, places, "file")
    missing = [number for number, places in enumerate(matched) if not places]
    if missing:
        near = _near(rows, [asked[number] for number in missing])
        numbers = [missing[number] for number in near]
        if not request.forget_near or len(near) < len(missing):
            raise _no_such_text(rows, given, asked, missing, dict(zip(numbers, near.values(), strict=True)), request)
        for places in near.values():
            named.add(rows, places, "near copy")
    if not (set(named.reasons.values()) & {"file", "near copy"}) and not any(
        rows.is_trained[place] for places in matched for place in places
    ):
        raise _nothing_to_forget(rows, given, [], [place for places in matched for place in places])


def _near(rows: RunRows, asked: Sequence[Record]) -> dict[int, list[int]]:
    """Trained rows that repeat most of a record or quote it, by the number of that record; only for those that have
    some.

    A row goes with the record that it shares most with; the records that are left are held against all rows again.
    """
    trained = [place for place in range(len(rows.records)) if rows.is_trained[place]]
    near: dict[int, list[int]] = {}
    left = list(range(len(asked)))
    while left:
        shared = overlaps([asked[number] for number in left], [rows.records[place] for place in trained]).rows
        for row in shared:
            near.setdefault(left[row.asked], []).append(trained[row.other])
        if not shared:
            break
        left = [number for number in left if number not in near]
    return dict(sorted(near.items()))


def _pattern(rows: RunRows, request: ForgetRequest, named: NamedRows) -> None:
    pattern = request.forget_pattern or ""
    places = (with_expression if request.forget_regex else with_value)(pattern, rows.records)
    given = f"--forget_pattern={pattern[:80]!r}"
    if not places:
        fix = "Check the spelling" + ("." if request.forget_regex else "; --forget_regex true looks for an expression.")
        raise BadInput(given, f"stands in none of the {len(rows.records):,} records of this run", fix)
    if not named.add(rows, places, "pattern"):
        raise _nothing_to_forget(rows, given, [], places)


def _nothing_to_forget(rows: RunRows, given: str, names: Sequence[str], places: Sequence[int]) -> BadInput:
    """Refuse rows that are not in the model.

    Args:
        rows: of the run.
        given: the flag.
        names: that were given and have no trained row; none where the flag gave no names.
        places: of their rows.
    """
    gone = sorted(place for place in set(places) if rows.is_forgotten[place])
    outside = sorted(set(places) - set(gone))
    subject = f"{given} {shown(names)}" if names else given
    if gone:
        ids = [rows.records[place].id for place in gone]
        number = rows.chain.forgotten[ids[0]]
        folder = rows.chain.links[number - 1].run.root
        reason = f"{len(gone)} of its records were forgotten before ({shown(ids)}; request {number}, in {folder})"
        if outside:
            reason += f", and {len(outside)} never trained on"
        return BadInput(subject, reason, "Leave it out: it is no longer in this model.")
    ids = [rows.records[place].id for place in outside]
    many = len(ids) > 1
    if list(names) == ids:
        reason = "are held out and were never trained on" if many else "is held out and was never trained on"
    elif many:
        reason = f"its {len(ids)} records are held out and were never trained on ({shown(ids)})"
    else:
        reason = f"its record is held out and was never trained on ({shown(ids)})"
    return BadInput(subject, f"{reason}: there is nothing to forget", "Leave it out.")


def _no_such_text(
    rows: RunRows,
    given: str,
    asked: Sequence[Record],
    missing: Sequence[int],
    near: dict[int, list[int]],
    request: ForgetRequest,
) -> BadInput:
    """Refuse records of a file that are not in the run, and offer those that are nearly the same."""
    strange = [number for number in missing if number not in near] if request.forget_near else list(missing)
    reason = f"{len(strange)} of its {len(asked)} records have the words of none in this run ({_numbers(strange)})"
    if not near or request.forget_near:
        fix = "Take them out of the file"
        fix += "." if request.forget_text_field else ", or say which field holds the text (--forget_text_field)."
        return BadInput(given, reason, fix)
    offers = [
        f"record {number + 1}: {shown([rows.records[place].id for place in places])}"
        for number, places in list(near.items())[:SHOWN]
    ]
    rest = f"; and {len(near) - SHOWN} more" if len(near) > SHOWN else ""
    reason += f"; {len(near)} of these repeat most of trained rows or are quoted in them ({'; '.join(offers)}{rest})"
    fix = "Give --forget_near true to forget those rows"
    return BadInput(
        given, reason, fix + (", and take the others out of the file." if len(near) < len(missing) else ".")
    )


def _numbers(places: Sequence[int]) -> str:
    few = ", ".join(str(place + 1) for place in places[:SHOWN])
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return f"record{'s' if len(places) > 1 else ''} {few}{more}"


def _left_out(rows: RunRows, given: str | Sequence[str], error: BadInput) -> BadInput:
    """``error``, or a better one where an id is that of a copy which was left out before the training."""
    stands_for: dict[str, str] = {}
    try:
        for line in rows.chain.root.dropped.read_text(encoding="utf-8").splitlines():
            drop = json.loads(line)
            stands_for[drop["id"]] = drop["kept"]
    except (OSError, ValueError, KeyError, TypeError):
        return error
    entries = [given, *given.split(",")] if isinstance(given, str) else given
    dropped = [name for name in dict.fromkeys(entry.strip() for entry in entries) if name in stands_for]
    if not dropped:
        return error
    instead = list(dict.fromkeys(stands_for[name] for name in dropped))
    return BadInput(
        f"--forget_ids {shown(dropped)}",
        "was left out of the training as a copy of another record",
        f"Ask for what stands for it: {shown(instead)}.",
    )
