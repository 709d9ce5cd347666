# SPDX-License-Identifier: Apache-2.0
"""A membership file that a person wrote: ids and whether each was trained on."""

from __future__ import annotations

from typing import Any

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, rows_of

ID_FIELDS = ("id", "record_id")
YES = frozenset({"1", "true", "yes", "member", "in"})
NO = frozenset({"0", "false", "no", "held_out", "held-out", "out"})


def read_labels(source: str) -> dict[str, bool]:
    """Read ``{id: member}`` from a CSV, JSONL or Parquet file with the fields ``id`` (or ``record_id``) and ``member``.

    ``member`` may be true/false, 1/0, yes/no, in/out, or member/held_out.

    Raises:
        BadInput: a missing or unclear field, or an id that is given twice; says where.
    """
    labels: dict[str, bool] = {}
    for row in rows_of(source):
        if isinstance(row, BadRow):
            raise BadInput(row.place, row.why, row.fix)
        id_, member = _label(row.place, row.fields)
        if id_ in labels:
            raise BadInput(row.place, f"the id {id_!r} is given twice", "Give each id once.")
        labels[id_] = member
    return labels


def _label(place: str, fields: dict[str, Any]) -> tuple[str, bool]:
    named = next((name for name in ID_FIELDS if fields.get(name) is not None), None)
    if named is None or fields.get("member") is None:
        raise BadInput(
            place,
            f"has no id and member, only {', '.join(map(repr, fields))}",
            "Give a file with the fields id and member.",
        )
    word = str(fields["member"]).strip().lower()
    if word not in YES | NO:
        raise BadInput(place, f"member is {fields['member']!r}", "Write true or false.")
    return str(fields[named]), word in YES
