# SPDX-License-Identifier: Apache-2.0
"""Tables of tokens for an audit: scored once, kept in the cache, and linked into the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reticent.auditing.family import Collection
from reticent.core.atomic import replacing
from reticent.core.record import Record
from reticent.score.make_tables import make_tables
from reticent.score.requests import PLAIN, Request


def plain_requests(audit: Collection) -> set[Request]:
    """The texts as they are, by the target as ``table`` and by the reference, where there is one, as ``ref``."""
    reference = {Request(name="ref", model="reference")} if audit.models.compared_with else set()
    return {Request(name="table"), *reference}


def linked_tables(
    audit: Collection, requests: set[Request], records: Sequence[Record], name: str
) -> dict[Request, Path]:
    """Score ``records`` as each request says.

    Args:
        audit: models, options, cache and run folder.
        requests: models and renderings.
        records: to be scored, in order.
        name: begins the names of the files in the run folder.
    """
    paths = make_tables(
        requests,
        records,
        target=audit.models.target,
        reference=audit.models.reference,
        known_members=audit.case.of_role("known", member=True),
        known_held_out=audit.case.of_role("known", member=False),
        cache=audit.cache,
        options=audit.options,
    )
    return {
        request: _link(path, audit.run.tables / f"{name}.{_label(request)}.parquet") for request, path in paths.items()
    }


def _label(request: Request) -> str:
    return request.model if request.variant == PLAIN else f"{request.model}.{request.variant.name}"


def _link(cached: Path, path: Path) -> Path:
    """Link the table into the run folder, or copy it where links cannot be made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        try:
            temporary.hardlink_to(cached)
        except OSError:
            temporary.write_bytes(cached.read_bytes())
    return path
