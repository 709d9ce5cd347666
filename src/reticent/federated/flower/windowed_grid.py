# SPDX-License-Identifier: Apache-2.0
"""WindowedGrid: clients that are reached by messages, a few at a time, with answers in the order of the draw.

The order of a sum decides its last bits, and a round that is run again under the same noise must give the same. So an
answer that comes early waits for its turn, and no more clients are asked than may wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from reticent.core.progress import console
from reticent.federated.client_training import client_seed
from reticent.federated.flower.array_encoding import EncodedArray, decode_arrays, encode_arrays
from reticent.federated.inbox import NO_UPDATE
from reticent.federated.local_grid import Message
from reticent.federated.update import RefusedUpdate, Update


@dataclass(frozen=True, kw_only=True, eq=False)
class SentRound:
    """A request to train, as it is sent to a client; the arrays are the same object for all of a round.

    Args:
        round: its number, from 1.
        client: number of the client; one that holds its own texts alone does not read it.
        seed: of its training in this round.
        arrays: the global arrays.
        setting: how to train, where the client cannot know it: JSON, see `client_worker.setting_of`.
    """

    round: int
    client: int
    seed: int
    arrays: Mapping[str, EncodedArray]
    setting: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
    """The answer to a request.

    Args:
        round: that it says it is for.
        arrays: as they were sent; None where the client failed.
        loading: seconds of loading the base, as the client says; 0 where it was resident.
        training: seconds of training, as the client says.
        failed: in words of this package, never a client's; empty where there are arrays.
    """

    round: int
    arrays: Mapping[str, EncodedArray] | None
    loading: float = 0.0
    training: float = 0.0
    failed: str = ""


class Transport(Protocol):
    """Carries messages; it knows from whom one is by the connection, not by what it says."""

    def send(self, request: SentRound) -> str | None:
        """Send to its client; an id that replies are asked for by, or None where it cannot be reached."""
        ...

    def replies(self, sent: Sequence[str]) -> Mapping[str, Reply]:
        """Replies that have come since, by the id of what they answer. Does not wait."""
        ...


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long and how often is waited.

    Args:
        window: clients that are asked at once.
        timeout: seconds after which a client counts as one that does not answer, from when it is asked.
        pause: seconds between two looks for replies.
    """

    window: int = 2
    timeout: float = 3600.0
    pause: float = 0.05


class WindowedGrid:
    """A `reticent.federated.local_grid.Grid` over a transport. See the module.

    Args:
        transport: reaches clients by their number.
        pace: of asking.
        names: of the clients.
        seed: of all their training.
    """

    def __init__(self, transport: Transport, pace: Pace, names: Sequence[str], *, seed: int) -> None:
        self.transport, self.pace, self.names, self.seed = transport, pace, names, seed
        self.loading: list[float] = []
        self.training: list[float] = []

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        """See `Grid.ask`. A client that fails, or does not answer in time, yields nothing."""
        encoded = encode_arrays(arrays)
        waiting, early = list(clients), dict[str, Reply]()
        sent: dict[int, tuple[str | None, float]] = {}
        for client in clients:
            while waiting and len(sent) < self.pace.window:
                further = waiting.pop(0)
                seed = client_seed(self.seed, round_, self.names[further])
                request = SentRound(round=round_, client=further, seed=seed, arrays=encoded)
                sent[further] = (self.transport.send(request), time.monotonic())
            reply = self._reply(*sent[client], [number for number, _ in sent.values() if number], early)
            del sent[client]
            message = self._message(client, reply, arrays)
            del reply
            if message is not None:
                yield message
                del message  # else it would be held while the next is waited for

    def _reply(self, number: str | None, asked_at: float, sent: Sequence[str], early: dict[str, Reply]) -> Reply | None:
        """The reply to one request; those to others that come meanwhile are kept in ``early``."""
        if number is None:
            return None
        while number not in early:
            early.update(self.transport.replies([number_ for number_ in sent if number_ not in early]))
            if number not in early:
                if time.monotonic() - asked_at > self.pace.timeout:
                    return None
                time.sleep(self.pace.pause)
        return early.pop(number)

    def _message(self, client: int, reply: Reply | None, arrays: Update) -> Message | None:
        if reply is None:
            return None
        if reply.arrays is None:
            console.print(f"a client failed: {reply.failed}", style="yellow", highlight=False, markup=False)
            return None
        self.loading.append(reply.loading)
        self.training.append(reply.training)
        try:
            update, refused = decode_arrays(reply.arrays, arrays), ""
        except RefusedUpdate as error:
            update, refused = {}, str(error)
        except (AttributeError, TypeError, ValueError):
            update, refused = {}, NO_UPDATE
        return Message(client=client, round=reply.round, update=update, refused=refused)
