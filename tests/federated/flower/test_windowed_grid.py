# SPDX-License-Identifier: Apache-2.0
"""Arrays as bytes, and clients that are reached by messages: order, window, faults, garbage, and the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.federated.client_training import LocalTraining, client_seed
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.flower.array_encoding import EncodedArray, decode_arrays, encode_arrays
from reticent.federated.flower.client_worker import ClientWorker, resident, setting_from, setting_of
from reticent.federated.flower.node_engine import NodeClocks, _wait_for
from reticent.federated.flower.windowed_grid import Pace, Reply, SentRound, WindowedGrid
from reticent.federated.inbox import NO_ANSWER, NO_UPDATE, Inbox
from reticent.federated.local_grid import LocalGrid
from reticent.federated.update import RefusedUpdate
from reticent.models.encode import EncodedRecord

LIKE = {"a": torch.zeros(3, 2), "b": torch.zeros(())}
NAMES = [f"client {number}" for number in range(5)]


def sent(value: float) -> dict[str, EncodedArray]:
    return encode_arrays({name: torch.full_like(array, value) for name, array in LIKE.items()})


# ---- arrays as bytes ------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_all_bits_come_back(seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2**32, size=6, dtype=np.uint32).view(np.float32)
    arrays = {"a": torch.from_numpy(bits.reshape(3, 2).copy()), "b": torch.tensor(1.5)}
    back = decode_arrays(encode_arrays(arrays), LIKE)
    for name, array in arrays.items():
        assert back[name].numpy().tobytes() == array.numpy().tobytes()
        assert back[name].is_contiguous()


def test_arrays_that_lie_across_memory_come_back() -> None:
    across = torch.arange(6.0).reshape(2, 3).T
    assert torch.equal(decode_arrays(encode_arrays({"a": across}), {"a": torch.zeros(3, 2)})["a"], across)


def broken(**changes: object) -> dict[str, EncodedArray]:
    good = sent(1.0)
    return good | {"a": replace(good["a"], **changes)}  # type: ignore[arg-type]


GARBAGE = {
    "float64": broken(dtype="float64"),
    "pickle": broken(encoding="numpy.ndarray"),
    "shape": broken(shape=(2, 3)),
    "short": broken(data=b""),
    "long": broken(data=b"\0" * 10**6),
    "negative": broken(shape=(-3, -2)),
    "more": sent(1.0) | {"c": sent(1.0)["a"]},
    "fewer": {"b": sent(1.0)["b"]},
    "none": {},
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=list(GARBAGE))
def test_bytes_that_hold_no_such_arrays_are_refused(garbage: dict[str, EncodedArray]) -> None:
    with pytest.raises(RefusedUpdate):
        decode_arrays(garbage, LIKE)


# ---- messages -------------------------------------------------------------------------------------------------------


class ToyTransport:
    """Answers in the order that is given, ``late`` ones never; remembers how many were waiting at once."""

    def __init__(self, order: Sequence[int] = (), late: Sequence[int] = (), away: Sequence[int] = ()) -> None:
        self.order, self.late, self.away = list(order), set(late), set(away)
        self.sent: dict[str, SentRound] = {}
        self.most = 0
        self.changed: dict[int, Reply] = {}

    def send(self, request: SentRound) -> str | None:
        if request.client in self.away:
            return None
        self.sent[f"m{request.client}"] = request
        self.most = max(self.most, len(self.sent))
        return f"m{request.client}"

    def replies(self, sent_: Sequence[str]) -> Mapping[str, Reply]:
        waiting = [name for name in sent_ if name in self.sent and self.sent[name].client not in self.late]
        first = sorted(waiting, key=lambda name: self.order.index(int(name[1:])) if self.order else 0)[:1]
        return {name: self._reply(self.sent.pop(name)) for name in first}

    def _reply(self, request: SentRound) -> Reply:
        return self.changed.get(request.client, Reply(round=request.round, arrays=sent(float(request.client))))


def asked(transport: ToyTransport, **pace: float) -> WindowedGrid:
    return WindowedGrid(transport, Pace(pause=0.0, **{"window": 3, **pace}), NAMES, seed=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_answers_come_in_the_order_of_the_draw_whenever_they_arrive(order: tuple[int, ...]) -> None:
    transport = ToyTransport(order)
    messages = list(asked(transport).ask(2, range(5), LIKE))
    assert [message.client for message in messages] == [0, 1, 2, 3, 4]
    assert [float(message.update["b"]) for message in messages] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert all(message.round == 2 for message in messages)
    assert transport.most == 3


def test_a_client_is_asked_with_its_own_seed() -> None:
    seeds: dict[int, int] = {}

    class Watching(ToyTransport):
        def send(self, request: SentRound) -> str | None:
            seeds[request.client] = request.seed
            return super().send(request)

    list(asked(Watching()).ask(3, [1, 4], LIKE))
    assert seeds == {client: client_seed(7, 3, NAMES[client]) for client in (1, 4)}


def test_who_is_away_or_late_or_fails_is_named_and_the_round_goes_on() -> None:
    transport = ToyTransport(late=[1], away=[2])
    transport.changed = {3: Reply(round=0, arrays=None, failed="MemoryError")}
    inbox = Inbox(1, range(5), LIKE, lambda client: f"c{client}")
    answered = dict(inbox.accepted(asked(transport, timeout=0.05).ask(1, range(5), LIKE)))
    assert set(answered) == {0, 4}
    assert [(drop.client, drop.why) for drop in inbox.dropped] == [(f"c{k}", NO_ANSWER) for k in (1, 2, 3)]


@pytest.mark.parametrize("kind", list(GARBAGE))
def test_an_answer_of_garbage_is_dropped_with_its_reason(kind: str) -> None:
    transport = ToyTransport()
    transport.changed = {1: Reply(round=1, arrays=GARBAGE[kind])}
    inbox = Inbox(1, range(3), LIKE, str)
    assert set(dict(inbox.accepted(asked(transport).ask(1, range(3), LIKE)))) == {0, 2}
    assert inbox.dropped[0].client == "1"
    assert "array" in inbox.dropped[0].why


def test_an_answer_that_is_nothing_or_of_another_round_is_dropped() -> None:
    transport = ToyTransport()
    transport.changed = {
        0: Reply(round=1, arrays={"a": None, "b": None}),  # type: ignore[dict-item]
        1: Reply(round=9, arrays=sent(1.0)),
        2: Reply(round=1, arrays=sent(float("nan"))),
    }
    inbox = Inbox(1, range(4), LIKE, str)
    assert set(dict(inbox.accepted(asked(transport).ask(1, range(4), LIKE)))) == {3}
    whys = [drop.why for drop in inbox.dropped]
    assert whys == [NO_UPDATE, "a message of another round", "a number that is not finite", NO_ANSWER]


# ---- the client's side ----------------------------------------------------------------------------------------------


class Toy(torch.nn.Module):
    """Predicts the next token from this one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(7, 7))

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor, **_: torch.Tensor) -> object:
        logits = self.table[input_ids][:, :-1].reshape(-1, 7)
        return type("Out", (), {"loss": torch.nn.functional.cross_entropy(logits, labels[:, 1:].reshape(-1))})()


def rows() -> list[list[EncodedRecord]]:
    generator = np.random.default_rng(3)
    return [
        [
            EncodedRecord(token_id=generator.integers(0, 7, 5).astype(np.int32), trained=np.ones(5, dtype=bool))
            for _ in range(3)
        ]
        for _ in NAMES
    ]


def test_workers_that_get_messages_give_the_updates_of_one_process() -> None:
    texts = rows()
    how = LocalTraining(steps=3, batch_size=2, learning_rate=0.1)
    worker = ClientWorker(model=Toy(), how=how, rows=texts)

    class Working(ToyTransport):
        def _reply(self, request: SentRound) -> Reply:
            return worker.answer(request, client=request.client)

    arrays = {"table": torch.randn(7, 7, generator=torch.Generator().manual_seed(1))}
    local = list(LocalGrid(Toy(), NAMES, texts, how, seed=7).ask(2, range(5), arrays))
    grid = asked(Working(order=(4, 2, 0, 1, 3)))
    apart = list(grid.ask(2, range(5), arrays))
    for one, other in zip(local, apart, strict=True):
        assert one.client == other.client
        assert torch.equal(one.update["table"], other.update["table"])
    assert len(grid.training) == 5


def test_a_base_is_held_until_another_federation_asks() -> None:
    made = []

    def make() -> ClientWorker:
        made.append(1)
        return ClientWorker(model=None, how=LocalTraining(steps=1, batch_size=1, learning_rate=1.0), rows=())

    first, loading = resident("one", make)
    again, none = resident("one", make)
    assert first is again
    assert loading > 0
    assert none == 0.0
    assert resident("two", make)[0] is not first
    assert len(made) == 2


def test_settings_travel_and_keep_the_clients_own_device() -> None:
    spec = FederationSpec(rounds=3, method_params={"r": 4}, device="auto")
    there, base = setting_from(setting_of(spec, "f1"), device="cpu")
    assert base == "f1"
    assert there == replace(spec, device="cpu")
    for garbage in ("", "{}", "[1]", '{"federation": {"colour": 1}, "base": ""}', '{"federation": 3, "base": ""}'):
        with pytest.raises(BadInput, match="one version"):
            setting_from(garbage, device="cpu")


def test_the_share_of_loading() -> None:
    assert NodeClocks().loading_share is None
    assert NodeClocks(loading=[1.0, 0.0], training=[2.0, 1.0]).loading_share == 0.25


def test_clients_that_do_not_join_are_counted() -> None:
    _wait_for(lambda: {1, 2, 3}, {"ana": 1, "ben": 2}, 0.0)
    with pytest.raises(BadInput, match="1 of 2 clients"):
        _wait_for(lambda: {1}, {"ana": 1, "ben": 2}, 0.0)
