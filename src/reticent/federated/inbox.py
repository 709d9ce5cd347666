# SPDX-License-Identifier: Apache-2.0
"""Messages of one round as they arrive: which of them count, and who of the others is named for what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from reticent.core.federation import DroppedMessage
from reticent.core.progress import console
from reticent.federated.local_grid import Message
from reticent.federated.update import RefusedUpdate, Update, check_update, norm

ANOTHER_ROUND = "a message of another round"
NOT_ASKED = "a client that was not asked"
SECOND_ANSWER = "a second answer"
NO_UPDATE = "no update at all"
NO_ANSWER = "no answer"


class Inbox:
    """Lets the first sound answer of each client that was asked pass, one at a time, and keeps none.

    A client's size is not read from its message, so it cannot lie about that.

    Args:
        round_: number of the round, from 1.
        asked: numbers of the clients that were drawn.
        like: the global arrays.
        name_of: a name for a client that tells nothing of it.
    """

    def __init__(self, round_: int, asked: Sequence[int], like: Update, name_of: Callable[[int], str]) -> None:
        self.round_, self.asked, self.like, self.name_of = round_, set(asked), like, name_of
        self.answered: list[int] = []
        self.norms: list[float] = []
        self.dropped: list[DroppedMessage] = []
        self._heard: set[int] = set()

    def accepted(self, messages: Iterable[Message]) -> Iterator[tuple[int, Update]]:
        """Numbers of clients with their updates, in the order of arrival; the others are dropped, named and counted."""
        for message in messages:
            why = self._fault(message)
            if why:
                self._drop(message.client, why)
                continue
            self.answered.append(message.client)
            self.norms.append(norm(message.update))
            yield message.client, message.update
            del message  # else it would be held while the next update is made
        for client in sorted(self.asked - self._heard):
            self._drop(client, NO_ANSWER)

    def _fault(self, message: Message) -> str:
        """Why a message does not count; empty where it does."""
        if message.round != self.round_:
            return ANOTHER_ROUND
        if message.client not in self.asked:
            return NOT_ASKED
        if message.client in self._heard:
            return SECOND_ANSWER
        self._heard.add(message.client)
        if message.refused:
            return message.refused
        try:
            check_update(message.update, self.like)
        except RefusedUpdate as error:
            return str(error)
        except (AttributeError, TypeError, RuntimeError):
            return NO_UPDATE
        return ""

    def _drop(self, client: int, why: str) -> None:
        name = self.name_of(client)
        self.dropped.append(DroppedMessage(client=name, why=why))
        console.print(f"round {self.round_}: client {name} dropped: {why}", style="yellow", highlight=False)
