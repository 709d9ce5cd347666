# SPDX-License-Identifier: Apache-2.0
"""Messages of a secure round, in the order in which they are sent; as dataclasses, and as bytes.

=====================  ==================  ==========================================================================
message                from → to           says
=====================  ==================  ==========================================================================
`PublicKeys`           client → server     two public keys, and a commitment to the seed of the client's own mask
`Neighbourhood`        server → client     the keys of its neighbours
`SealedPieces`         client → server     an envelope for each neighbour: pieces of its two secrets, and their digests
`DeliveredPieces`      server → client     the envelopes for it, and what their senders gave as digests
`Complaints`           client → server     whose envelopes did not open, or held other pieces than the digests say
`Accusation`           server → client     which neighbours say so of its envelopes; to those alone of whom it is said
`ShownPieces`          client → server     what was in those envelopes, to be checked by the digests
`Partners`             server → client     with whom to mask, and what was shown for it
`MaskedVector`         client → server     its vector under all masks
`Survivors`            server → client     which neighbours sent a vector, which did not, how many did in all
`RevealedPieces`       client → server     of each neighbour the piece of one secret, never of both
=====================  ==================  ==========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from reticent.federated.secure.ciphers import RefusedMessage
from reticent.federated.secure.keyed_hash import Vector

KEY_BYTES = 32
LARGEST_HEADER = 1 << 24
_LENGTH = 8


@dataclass(frozen=True, kw_only=True)
class PublicKeys:
    """A client's keys for one session.

    Args:
        session: of the plan.
        sender: the client's number.
        masking: public key that its masks with neighbours follow from.
        sealing: public key that its envelopes are sealed with.
        commitment: hash of the seed of its own mask, by which the server sees that pieces fit together.
    """

    session: bytes
    sender: int
    masking: bytes
    sealing: bytes
    commitment: bytes


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """Keys of a client's neighbours, by their numbers; each is masking key, sealing key."""

    session: bytes
    receiver: int
    keys: Mapping[int, bytes]


@dataclass(frozen=True, kw_only=True)
class SealedPieces:
    """Envelopes of a client, by the neighbour who can open it, and what `piece_digests.digests_of` gives for each.

    The digests bind the sender: whose pieces are wrong can be told by them, and they tell nothing of the pieces.
    """

    session: bytes
    sender: int
    envelopes: Mapping[int, bytes]
    digests: Mapping[int, bytes]


@dataclass(frozen=True, kw_only=True)
class DeliveredPieces:
    """Envelopes for a client, by the neighbour who sealed it, and the digests that this neighbour gave."""

    session: bytes
    receiver: int
    envelopes: Mapping[int, bytes]
    digests: Mapping[int, bytes]


@dataclass(frozen=True, kw_only=True)
class Complaints:
    """Neighbours whose envelopes a client could not open, or that held other pieces than the digests say; mostly none.

    A client that is silent here is left out before any mask counts on it.
    """

    session: bytes
    sender: int
    against: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Accusation:
    """Neighbours that a client is to show its pieces for, as they say that its envelopes do not open."""

    session: bytes
    receiver: int
    by: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ShownPieces:
    """Both pieces that a client dealt to each neighbour that it is asked for, in the open.

    Who is honest loses nothing by it: the neighbour then lies, and could have told them as well.
    """

    session: bytes
    sender: int
    pieces: Mapping[int, bytes]


@dataclass(frozen=True, kw_only=True)
class Partners:
    """Neighbours that a client masks with, and the pieces of those that had to show them for this client."""

    session: bytes
    receiver: int
    partners: tuple[int, ...]
    shown: Mapping[int, bytes]


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedVector:
    """A client's vector under its masks, ``[dimension]`` uint32 below the modulus."""

    session: bytes
    sender: int
    values: Vector


@dataclass(frozen=True, kw_only=True)
class Survivors:
    """State of a client's neighbours after the vectors are in.

    Args:
        session: of the plan.
        receiver: the client's number.
        present: partners who sent a vector.
        absent: partners who sent no vector.
        count: clients who sent a vector, in the whole round.
    """

    session: bytes
    receiver: int
    present: tuple[int, ...]
    absent: tuple[int, ...]
    count: int


@dataclass(frozen=True, kw_only=True)
class RevealedPieces:
    """Pieces that a client reveals: of the own mask's seed of present neighbours, of the masking key of absent ones."""

    session: bytes
    sender: int
    seeds: Mapping[int, bytes]
    keys: Mapping[int, bytes]


Message = (
    PublicKeys
    | Neighbourhood
    | SealedPieces
    | DeliveredPieces
    | Complaints
    | Accusation
    | ShownPieces
    | Partners
    | MaskedVector
    | Survivors
    | RevealedPieces
)
KINDS: Mapping[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        PublicKeys,
        Neighbourhood,
        SealedPieces,
        DeliveredPieces,
        Complaints,
        Accusation,
        ShownPieces,
        Partners,
        MaskedVector,
        Survivors,
        RevealedPieces,
    )
}


def to_bytes(message: Message) -> bytes:
    """A message for any transport: length of the header, header in JSON, the numbers of a vector behind it.

    Examples:
        >>> survivors = Survivors(session=bytes(16), receiver=1, present=(2, 3), absent=(), count=3)
        >>> from_bytes(to_bytes(survivors)) == survivors
        True
    """
    header: dict[str, Any] = {"kind": type(message).__name__}
    tail = b""
    for field in fields(message):
        value = getattr(message, field.name)
        if isinstance(value, np.ndarray):
            tail = value.astype("<u4").tobytes()
        elif isinstance(value, bytes):
            header[field.name] = value.hex()
        elif isinstance(value, Mapping):
            header[field.name] = [[number, text.hex()] for number, text in sorted(value.items())]
        else:
            header[field.name] = value
    text = json.dumps(header).encode()
    return len(text).to_bytes(_LENGTH, "big") + text + tail


def from_bytes(data: bytes) -> Message:
    """The message behind bytes.

    Raises:
        RefusedMessage: they are none: another kind or other fields, values of other types, something left over.
    """
    size = int.from_bytes(data[:_LENGTH], "big")
    if len(data) < _LENGTH or size > min(len(data) - _LENGTH, LARGEST_HEADER):
        raise RefusedMessage("bytes that are no message")
    try:
        header = json.loads(data[_LENGTH : _LENGTH + size])
        kind = KINDS[header.pop("kind")]
        read = {
            field.name: _read(str(field.type), header.pop(field.name, None), data[_LENGTH + size :])
            for field in fields(kind)
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RefusedMessage("bytes that are no message") from error
    if header or (kind is not MaskedVector and len(data) > _LENGTH + size):
        raise RefusedMessage("a message with more in it than belongs there")
    return kind(**read)


def _read(kind: str, value: Any, tail: bytes) -> Any:
    """One field, of the type that its dataclass names; anything else raises."""
    if kind == "Vector":
        return np.frombuffer(tail, dtype="<u4").astype(np.uint32)
    if kind == "bytes":
        return bytes.fromhex(value)
    if kind == "int":
        return _number(value)
    if kind.startswith("tuple"):
        return tuple(_number(item) for item in value)
    pairs = {_number(number): bytes.fromhex(text) for number, text in value}
    if len(pairs) != len(value):
        raise ValueError("twice")
    return pairs


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise ValueError("no number")
    return value
