# SPDX-License-Identifier: Apache-2.0
"""Requests and replies as messages of Flower, the app that answers them, and its grid as a transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reticent.core.errors import ReticentError, Unusable
from reticent.core.progress import console
from reticent.federated.flower.array_encoding import EncodedArray
from reticent.federated.flower.windowed_grid import Reply, SentRound

Answer = Callable[[SentRound], Reply]
_ARRAYS, _ABOUT = "arrays", "about"
_LONGEST_NAME = 40


def to_record(arrays: Mapping[str, EncodedArray] | None, about: Mapping[str, Any]) -> Any:
    """Arrays and plain values as a Flower `RecordDict`."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    record = RecordDict({_ABOUT: ConfigRecord(dict(about))})
    if arrays is not None:
        record[_ARRAYS] = ArrayRecord(
            {
                name: Array(dtype=array.dtype, shape=array.shape, stype=array.encoding, data=array.data)
                for name, array in arrays.items()
            }
        )
    return record


def arrays_of(record: Any) -> dict[str, EncodedArray]:
    """The arrays of a `RecordDict`, unread: shape, type and contents are what the sender says."""
    return {
        str(name): EncodedArray(dtype=array.dtype, shape=tuple(array.shape), encoding=array.stype, data=array.data)
        for name, array in record[_ARRAYS].items()
    }


def request_record(request: SentRound) -> Any:
    """A request as a `RecordDict`."""
    about = {"round": request.round, "client": request.client, "seed": request.seed, "setting": request.setting}
    return to_record(request.arrays, about)


def request_of(record: Any) -> SentRound:
    """The request in a `RecordDict`."""
    about = record[_ABOUT]
    return SentRound(
        round=int(about["round"]),
        client=int(about["client"]),
        seed=int(about["seed"]),
        arrays=arrays_of(record),
        setting=str(about["setting"]),
    )


def reply_record(reply: Reply) -> Any:
    """A reply as a `RecordDict`."""
    about = {"round": reply.round, "loading": reply.loading, "training": reply.training, "failed": reply.failed}
    return to_record(reply.arrays, about)


def reply_of(record: Any) -> Reply:
    """The reply in a `RecordDict`, which may be anything; one that is none is a failure."""
    try:
        about = record[_ABOUT]
        failed = str(about["failed"])
        if failed:
            return Reply(round=int(about["round"]), arrays=None, failed=_name(failed))
        return Reply(
            round=int(about["round"]),
            arrays=arrays_of(record),
            loading=float(about["loading"]),
            training=float(about["training"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return Reply(round=0, arrays=None, failed="what it sent is no reply")


def _name(word: str) -> str:
    """The name of a kind of error, as a client says it; other text of a client is not repeated."""
    return word if word.isidentifier() and len(word) <= _LONGEST_NAME else "for a reason that is no name"


def client_app(answer: Answer) -> Any:
    """A Flower `ClientApp` that answers requests to train.

    Args:
        answer: trains. What it raises is sent as the name of its kind alone: its words may quote private text.
    """
    from flwr.clientapp import ClientApp

    app = ClientApp()

    def train(message: Any, context: Any) -> Any:
        # All else is done by a function of the module: Ray copies this one with whatever it names.
        return _answered(answer, message)

    app.train()(train)
    return app


def _answered(answer: Answer, message: Any) -> Any:
    from flwr.app import Message

    request = request_of(message.content)
    try:
        reply = answer(request)
    except Exception as error:  # noqa: BLE001 - whatever it is, the server is told its name and the round goes on
        if isinstance(error, ReticentError):
            console.print(f"error: {error}", style="bold red", markup=False, highlight=False)
        reply = Reply(round=request.round, arrays=None, failed=type(error).__name__)
    return Message(reply_record(reply), reply_to=message)


class FlowerTransport:
    """Flower's grid as a `windowed_grid.Transport`.

    Args:
        grid: of Flower.
        nodes: id of the node of each client, by the client's number.
        check: raises where the grid does not work any more.
        setting: for clients that cannot know it.
        fatal: an answer that Flower itself made, since the client's process died, ends the run; else the client counts
            as one that does not answer.
        seconds: that a message and its reply are valid.
    """

    def __init__(
        self,
        grid: Any,
        nodes: Sequence[int],
        *,
        check: Callable[[], None] = lambda: None,
        setting: str = "",
        fatal: bool = False,
        seconds: float = 3600.0,
    ) -> None:
        self.grid, self.nodes, self.check = grid, nodes, check
        self.setting, self.fatal, self.seconds = setting, fatal, seconds
        self._asked: dict[str, int] = {}

    def send(self, request: SentRound) -> str | None:
        """See `Transport.send`."""
        from flwr.app import Message

        node = self.nodes[request.client]
        if node not in set(self.grid.get_node_ids()):
            return None  # it is not connected, so it would be waited for in vain
        record = request_record(replace(request, setting=self.setting))
        message = Message(record, node, "train", ttl=self.seconds, group_id=str(request.round))
        sent = list(self.grid.push_messages([message]))
        if not sent or not sent[0]:
            return None
        self._asked[str(sent[0])] = node
        return str(sent[0])

    def replies(self, sent: Sequence[str]) -> Mapping[str, Reply]:
        """See `Transport.replies`."""
        self.check()
        answers = {}
        for message in self.grid.pull_messages(list(sent)):
            number = str(message.metadata.reply_to_message_id)
            if number not in self._asked:
                continue
            node = self._asked.pop(number)
            answers[number] = self._reply(message, node)
        return answers

    def _reply(self, message: Any, node: int) -> Reply:
        if message.has_error():
            if self.fatal:
                raise Unusable(
                    "a worker of the federation",
                    "died while it trained a client",
                    "There may be too little memory for so many bases: give fewer --workers. The same command goes on "
                    "at this round.",
                )
            return Reply(round=0, arrays=None, failed="its process died, or it could not be reached")
        if message.metadata.src_node_id != node:
            return Reply(round=0, arrays=None, failed="the answer is from another client")
        return reply_of(message.content)
