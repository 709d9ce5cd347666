# SPDX-License-Identifier: Apache-2.0
"""``request.parquet``: ids of the records that are forgotten, with the reason for each; no text and no pattern."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core.atomic import replacing
from reticent.core.errors import BadInput

Reason: TypeAlias = Literal["user", "id", "file", "near copy", "pattern", "copy"]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""In the order in which they are given: a record that several flags name has the first of them."""
Part: TypeAlias = Literal["steer", "judge", "aside"]
PARTS: tuple[Part, ...] = get_args(Part)

_SCHEMA = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("user", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
    ]
)
_FORMAT = {"reticent": "request", "version": "1"}


class RequestRow(NamedTuple):
    """A record that is forgotten.

    Args:
        record_id: of it.
        user: of it; None where none is known.
        reason: see ``REASONS``.
        part: ``"steer"``: the training looks at it to know when to stop; ``"judge"``: it is only looked at when the
            outcome is judged; ``"aside"``: it is not compared, as rows never trained on repeat or quote it. All are
            unlearned.
    """

    record_id: str
    user: str | None
    reason: Reason
    part: Part


def write_request(path: str | Path, rows: Iterable[RequestRow]) -> None:
    """Write ``request.parquet``, atomically and readable by its owner only: it names who asked to be forgotten.

    Raises:
        BadInput, Unusable: it cannot be written.

    Examples:
        >>> write_request("request.parquet", [RequestRow("r1", "ana", "user", "judge")])
        >>> read_request("request.parquet")
        (RequestRow(record_id='r1', user='ana', reason='user', part='judge'),)
    """
    table = pa.Table.from_pylist([row._asdict() for row in rows], schema=_SCHEMA)
    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata(_FORMAT), temporary)


def read_request(path: str | Path) -> tuple[RequestRow, ...]:
    """Read what `write_request` wrote.

    Raises:
        BadInput: there is no such file, or it is another one or damaged.
    """
    broken = BadInput(
        str(path), "is no file of a request, or is damaged", "Copy the run folder again, or unlearn again in a new one."
    )
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise BadInput(str(path), "is missing", "Copy the run folder again, or unlearn again in a new one.") from error
    except (OSError, pa.ArrowException) as error:
        raise broken from error
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if metadata.get("reticent") != "request" or set(table.column_names) != set(_SCHEMA.names):
        raise broken
    if metadata.get("version") != _FORMAT["version"]:
        raise BadInput(str(path), "is of another version of reticent", "Read it with the version that wrote it.")
    rows = tuple(RequestRow(**row) for row in table.to_pylist())
    ids = [row.record_id for row in rows]
    if (
        not rows
        or None in ids
        or len(set(ids)) < len(ids)
        or any(row.reason not in REASONS or row.part not in PARTS for row in rows)
    ):
        raise broken
    return rows


def request_fingerprint(ids: Iterable[str]) -> str:
    """SHA-256 (hex) of the ids that are forgotten, sorted: two requests with one print take out the same records.

    Examples:
        >>> request_fingerprint(["b", "a"]) == request_fingerprint(["a", "b", "a"])
        True
    """
    digest = hashlib.sha256()
    for name in sorted(set(ids)):
        digest.update(json.dumps(name).encode())
    return digest.hexdigest()
