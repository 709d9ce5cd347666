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
from reticent.core.secret import Secret


def write_secrets(path: str | Path, targets: Sequence[Secret]) -> None:
    """Write one JSON line for each target. Atomically.

    The first line that needs a record holds it, each further one the number of that line, from 0: mails have many
    passages, and a list that repeated the mail for each would be many times the size of the data.
    """
    first: dict[Record, int] = {}
    lines = []
    for number, secret in enumerate(targets):
        earlier = first.setdefault(secret.record, number)
        lines.append(json.dumps(_row(secret, None if earlier == number else earlier), ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def read_secrets(path: str | Path) -> tuple[Secret, ...]:
    """Read what `write_secrets` wrote, and lists in which each line holds its record.

    Raises:
        BadInput: the file is no list of targets.
    """
    secrets: list[Secret] = []
    try:
        for line in Path(path).read_text(encoding="utf-8").split("\n"):
            if line:
                row = json.loads(line)
                secrets.append(Secret(**row | {"record": _record(row["record"], secrets), "source": "given"}))
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        fix = "Make it again with `reticent prepare --scrub`, or delete it."
        raise BadInput(str(path), "is no readable list of targets", fix) from error
    return tuple(secrets)


def secrets_beside(data: str | Path) -> Path:
    """Where the targets of prepared data lie: ``prepared.targets.jsonl`` for ``prepared.parquet``."""
    data = Path(data)
    return data.with_suffix(".targets.jsonl") if data.name else data / "targets.jsonl"


def carried_secrets(
    targets: Sequence[Secret], before: Sequence[Record], after: Sequence[Record], membership: Membership
) -> tuple[Secret, ...]:
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
    secrets = []
    for secret in targets:
        number = place.get(secret.record.content_hash)
        if number is None:
            continue
        record = after[number]
        same = record.plain == secret.record.plain
        start = secret.start if same else record.plain.find(secret.secret)
        if start >= 0:
            end, member = start + len(secret.secret), bool(membership.member[number])
            secrets.append(replace(secret, record=record, start=start, end=end, member=member))
    return tuple(secrets)


def _row(secret: Secret, earlier: int | None) -> dict[str, Any]:
    """``earlier``: the line that has its record; None for the first one."""
    record = {name: value for name, value in asdict(secret.record).items() if value not in (None, ())}
    parts = {name: getattr(secret, name) for name in ("id", "start", "end", "kind", "group", "member")}
    return parts | {"record": record if earlier is None else earlier}


def _record(held: Any, before: Sequence[Secret]) -> Record:
    if isinstance(held, int) and not isinstance(held, bool):
        if held not in range(len(before)):  # a negative number would count from the end
            raise IndexError(held)
        return before[held].record
    if not isinstance(held, dict):
        raise TypeError(held)
    messages, spans = held.pop("messages", None), held.pop("spans", ())
    return Record(
        **held,
        messages=None if messages is None else tuple(Message(**fields) for fields in messages),
        spans=tuple(Span(**fields) for fields in spans),
    )
