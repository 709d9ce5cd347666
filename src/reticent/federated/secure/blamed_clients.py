# SPDX-License-Identifier: Apache-2.0
"""BlamedClients: who broke the protocol of a secure round for sure, on the disk; they are asked in no later round.

What cannot be traced to one client is not here, such as silence, or a vector that spoils a sum.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core.line_ledger import append_line, begin_or_go_on

FILE = "blamed_clients.jsonl"


@dataclass(frozen=True, kw_only=True)
class BlamedClient:
    """One client, and what it did.

    Args:
        client: its number.
        round: from 1.
        reason: of what it is known.
    """

    client: int
    round: int
    reason: str


class BlamedClients:
    """The record of one federation; what an earlier process wrote is taken over.

    Args:
        path: of the file.
        about: of which federation it is, see `SecureMechanism.on_record`.

    Raises:
        BadInput: the file is of another federation or key, or is no such record.

    Examples:
        >>> blamed = BlamedClients(Path("blamed.jsonl"), about={})
        >>> blamed.add(3, 2, "changed pieces")
        >>> blamed.before(2), list(blamed.before(3))
        ({}, [3])
    """

    def __init__(self, path: Path, *, about: dict[str, Any]) -> None:
        self.path = path
        entries = begin_or_go_on(path, {"about": about}, BlamedClient, name="record of clients", of="federation")
        self._all = {entry.client: entry for entry in entries}

    def add(self, client: int, round_: int, reason: str) -> None:
        """Put a client on record; once is enough."""
        if client not in self._all:
            entry = BlamedClient(client=client, round=round_, reason=reason)
            append_line(self.path, asdict(entry))
            self._all[client] = entry

    def before(self, round_: int) -> dict[int, BlamedClient]:
        """Clients that were found in earlier rounds. One that is run again asks whom it asked the first time."""
        return {client: entry for client, entry in self._all.items() if entry.round < round_}
