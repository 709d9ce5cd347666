# SPDX-License-Identifier: Apache-2.0
"""ClientMemory: each client's own record of what it sent in which session, on the disk before it leaves.

Two vectors under the same masks show the difference of what is under them, two sums of one session that of a client,
and pieces for two lists of survivors open a vector. So a client sends in a session what it sent before, or nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.line_ledger import append_line, begin_or_go_on
from reticent.privacy.check import GuaranteeViolated

FILE = "client_memory.jsonl"
VECTOR, SURVIVORS, SHOWN = "vector", "survivors", "shown"


@dataclass(frozen=True, kw_only=True)
class _MessageDigest:
    """The digest of one message, and what it was for; as `ClientMemory.keep` has it."""

    client: str
    round: int
    session: str
    kind: str
    digest: str


class ClientMemory:
    """Record of all that clients of this machine sent; in a deployment each has its own.

    Args:
        path: of the file; what an earlier process wrote is taken over.
        about: of which federation it is, see `SecureMechanism.on_record`.

    Raises:
        BadInput: the file is of another federation or key, or is no such memory.

    Examples:
        >>> memory = ClientMemory(Path("memory.jsonl"), about={})
        >>> for _ in range(2):
        ...     memory.keep("ana", 1, b"a session", VECTOR, b"what is sent")
        >>> memory.keep("ana", 1, b"a session", VECTOR, b"something else")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: memory.jsonl: holds that a client sent something else in round 1 before, and ...
    """

    def __init__(self, path: Path, *, about: dict[str, Any]) -> None:
        self.path = path
        self._sent: dict[tuple[str, str, str], str] = {}
        self._round_of: dict[str, int] = {}
        self._session_of: dict[tuple[str, int], str] = {}
        for sent in begin_or_go_on(path, {"about": about}, _MessageDigest, name="memory of clients", of="federation"):
            self._remember(sent)

    def keep(self, client: str, round_: int, session: bytes, kind: str, content: bytes) -> None:
        """Remember what a client is about to send, or answers to.

        Args:
            client: a name for it that tells nothing.
            round_: from 1.
            session: that it is for.
            kind: `VECTOR`, `SURVIVORS`, or `SHOWN` for pieces that were shown in the open.
            content: of the message.

        Raises:
            GuaranteeViolated: the session was another round's, or the client was in another session of this round.
            BadInput: in this session the client sent something else of this kind before.
        """
        if self._round_of.setdefault(session.hex(), round_) != round_:
            raise GuaranteeViolated(
                "each round has masks of its own",
                f"round {round_} came with the session of round {self._round_of[session.hex()]}",
                "The difference of two vectors under the same masks shows what is under them.",
            )
        if self._session_of.get((client, round_), session.hex()) != session.hex():
            raise GuaranteeViolated(
                "each client adds its noise of a round in one session only",
                f"round {round_} came with a second session",
                "The noise would be the same in both, and the difference of two sums would show updates without it.",
            )
        key, digest = (client, session.hex(), kind), hashlib.sha256(content).hexdigest()
        if key not in self._sent:
            sent = _MessageDigest(client=client, round=round_, session=session.hex(), kind=kind, digest=digest)
            append_line(self.path, asdict(sent))
            self._remember(sent)
        elif self._sent[key] != digest:
            raise BadInput(
                str(self.path),
                f"holds that a client sent something else in round {round_} before, and under the same masks the "
                "difference of the two would show its update, so nothing of it is used",
                "Run the round again as it was begun: the same data, device, number of threads and versions, by which "
                "clients train to the same bits. Where that cannot be, start over in another folder (--out); what was "
                "spent here stays on record.",
            )

    def others(self, client: str, round_: int) -> int:
        """In how many other rounds a client sent something."""
        return sum(name == client and number != round_ for name, number in self._session_of)

    def _remember(self, sent: _MessageDigest) -> None:
        self._sent[sent.client, sent.session, sent.kind] = sent.digest
        self._round_of[sent.session] = sent.round
        self._session_of[sent.client, sent.round] = sent.session
