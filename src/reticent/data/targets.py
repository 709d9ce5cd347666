# SPDX-License-Identifier: Apache-2.0
"""The list of secrets that an audit is to try to get out, from where they were found to the run that it audits.

The file holds private text: keep it where the data may be kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.record import Message, Record, Span
from reticent.core.target import Target


def write_targets(path: str | Path, targets: Sequence[Target]) -> None:
    """Write one JSON line for each target, with the record that it lies in. Atomically."""
    write_text(path, "".join(json.dumps(_row(target), ensure_ascii=False) + "\n" for target in targets))


def read_targets(path: str | Path) -> tuple[Target, ...]:
    """Read what `write_targets` wrote.

    Raises:
        BadInput: the file is no list of targets.
    """
    try:
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]
        return tuple(Target(**row | {"record": _record(row["record"])}) for row in rows)
    except (OSError, ValueError, TypeError, KeyError) as error:
        fix = "Make it again with `reticent prepare --scrub`, or delete it."
        raise BadInput(str(path), "is no readable list of targets", fix) from error


def targets_beside(data: str | Path) -> Path:
    """Where the targets of prepared data lie: ``prepared.targets.jsonl`` for ``prepared.parquet``."""
    data = Path(data)
    return data.with_suffix(".targets.jsonl") if data.name else data / "targets.jsonl"


def carried(
    targets: Sequence[Target], before: Sequence[Record], after: Sequence[Record], membership: Membership
) -> tuple[Target, ...]:
    """The targets as they lie in the records of a run, with the coins of those.

    A target is found by what its record holds, whatever the run calls the record; targets whose record is not in the
    run, or no longer has the secret, are left out. Of several records with one content (of several users) one that was
    trained on counts, if any was.

    Args:
        targets: as they were found.
        before: ``[N]`` the records as they were read.
        after: ``[N]`` the same as they are trained on or held out; canary users have a phrase in theirs.
        membership: of ``after``.
    """
    trained_last = sorted(range(len(before)), key=lambda number: bool(membership.member[number]))
    place = {before[number].content_hash: number for number in trained_last}
    found = []
    for target in targets:
        number = place.get(target.record.content_hash)
        if number is None:
            continue
        record = after[number]
        same = record.plain == target.record.plain
        start = target.start if same else record.plain.find(target.secret)
        if start >= 0:
            end, member = start + len(target.secret), bool(membership.member[number])
            found.append(replace(target, record=record, start=start, end=end, member=member))
    return tuple(found)


def _row(target: Target) -> dict[str, Any]:
    record = {name: value for name, value in asdict(target.record).items() if value not in (None, ())}
    parts = {name: getattr(target, name) for name in ("id", "start", "end", "kind", "group", "member")}
    return parts | {"record": record}


def _record(row: dict[str, Any]) -> Record:
    messages, spans = row.pop("messages", None), row.pop("spans", ())
    return Record(
        **row,
        messages=None if messages is None else tuple(Message(**one) for one in messages),
        spans=tuple(Span(**one) for one in spans),
    )
