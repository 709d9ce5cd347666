# SPDX-License-Identifier: Apache-2.0
"""The rounds, clients and texts of a recorded federation that an audit looks at: by coin, so that its cost is bounded.

Each client is held against one held-out client, dealt to it by coin: coins decided who of the two takes part, so a
score that tells nothing puts neither above the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reticent.attacks.federated.recorded_updates import RecordedUpdates, client_hash
from reticent.auditing.case import AuditCase
from reticent.core.record import Record
from reticent.data.coin import uniform
from reticent.models.encode import EncodedRecord, encode

ROUNDS, CLIENTS, TEXTS = 6, 6, 8
"""Rounds of a run, clients of a round and texts of a client that are looked at, at most."""
Rows = tuple[EncodedRecord, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientTexts:
    """The texts that are held against one client's updates.

    Args:
        trained: that it trained on.
        own: of the same client, held out.
        outside: of the held-out client that was dealt to it.
        outsider: hash of that client; empty where there is none.
        tokens: all that are in its trained texts.
        outside_tokens: all that are in those of the held-out client.
    """

    trained: Rows
    own: Rows
    outside: Rows
    outsider: str
    tokens: frozenset[int]
    outside_tokens: frozenset[int]


@dataclass(frozen=True, kw_only=True, eq=False)
class LookedAt:
    """Rounds, clients and texts of a recorded federation that are looked at.

    Args:
        clients: by number of the round, the hashes of its clients.
        texts: by hash.
        recorded_rounds: how many there are.
        recorded_updates: how many there are in all of them.
    """

    clients: Mapping[int, tuple[str, ...]]
    texts: Mapping[str, ClientTexts]
    recorded_rounds: int
    recorded_updates: int


def look_at(case: AuditCase, recorded: RecordedUpdates, tokenizer: Any, *, key: str, seed: int) -> LookedAt:
    """Choose rounds, clients and texts.

    Args:
        case: its records, and who trained on which.
        recorded: the updates.
        tokenizer: of the model.
        key: secret of the run folder, by which clients are named.
        seed: of the coins.

    Returns:
        With no clients where no update is of a client whose texts are known, as with another folder's key.
    """
    trained, held_out, outside = _by_client(case, key)
    there = {number: recorded.clients(number) for number in recorded.rounds()}
    rounds = sorted(_some(there, ROUNDS, seed, "round"))
    chosen = {
        number: tuple(sorted(_some([name for name in there[number] if name in trained], CLIENTS, seed, f"in {number}")))
        for number in rounds
    }
    suspects = sorted({name for names in chosen.values() for name in names})
    dealt = _dealt(suspects, list(outside), seed)

    def rows(records: Sequence[Record], most: int | None = TEXTS) -> Rows:
        ids = [record.id for record in records]
        picked = set(ids if most is None else _some(ids, most, seed, "text"))
        encoded = (encode(r, tokenizer, max_tokens=case.max_tokens) for r in records if r.id in picked)
        return tuple(row for row in encoded if row.predicted)

    def tokens(records: Sequence[Record]) -> frozenset[int]:
        unique = {int(token) for row in rows(records, None) for token in np.unique(row.token_id)}
        return frozenset(unique - set(tokenizer.all_special_ids))

    texts = {
        name: ClientTexts(
            trained=rows(trained[name]),
            own=rows(held_out.get(name, ())),
            outside=rows(outside.get(dealt.get(name, ""), ())),
            outsider=dealt.get(name, ""),
            tokens=tokens(trained[name]),
            outside_tokens=tokens(outside.get(dealt.get(name, ""), ())),
        )
        for name in suspects
    }
    return LookedAt(
        clients={number: tuple(n for n in names if texts[n].trained) for number, names in chosen.items()},
        texts=texts,
        recorded_rounds=len(there),
        recorded_updates=sum(len(names) for names in there.values()),
    )


def _by_client(case: AuditCase, key: str) -> tuple[Mapping[str, list[Record]], ...]:
    """Texts that clients trained on, texts of the same clients that were held out, and those of clients held out whole.

    Left out are planted secrets, which are nobody's text, and texts that another client has too.
    """
    trained, held_out, outside = (defaultdict[str, list[Record]](list) for _ in range(3))
    membership = case.membership
    names: dict[str, str] = {}
    for place, record in enumerate(case.records):
        user, role = membership.user[place], str(membership.role[place])
        if role in ("canary", "shared"):
            continue
        name = record.id if user is None else str(user)
        hashed = names.setdefault(name, client_hash(name, key))
        if membership.member[place]:
            trained[hashed].append(record)
        elif membership.user_member[place]:
            held_out[hashed].append(record)
        else:
            outside[hashed].append(record)
    return trained, held_out, outside


def _some(names: Collection[Any], most: int, seed: int, purpose: str) -> list[Any]:
    return sorted(names, key=lambda name: uniform(seed, f"audited {purpose}", str(name)))[:most]


def _dealt(suspects: Sequence[str], outsiders: Sequence[str], seed: int) -> dict[str, str]:
    """A held-out client for each suspect, in turn where they are fewer."""
    if not outsiders:
        return {}
    left = _some(suspects, len(suspects), seed, "suspect")
    right = _some(outsiders, len(outsiders), seed, "outsider")
    return {name: right[place % len(right)] for place, name in enumerate(left)}
