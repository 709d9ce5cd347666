# SPDX-License-Identifier: Apache-2.0
"""The server's loop on clients without a model: kills at any point, faults of clients, and what is held in memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reticent.core.errors import BadInput
from reticent.federated import inbox, rounds
from reticent.federated.adaptive_clip import AdaptiveClip
from reticent.federated.client_mechanism import ClientMechanism
from reticent.federated.client_promise import COUNTED
from reticent.federated.federation_promise import FederationPromise, open_promise
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.local_grid import Grid, Message
from reticent.federated.round_ledger import RoundLedger
from reticent.federated.round_rule import PlainRule, PrivateRule, RoundRule, StackedRule, refuse_rule
from reticent.federated.rounds import Rounds, run_rounds
from reticent.federated.server_optimizer import ServerOptimizer
from reticent.federated.server_state import ServerState, read_state, write_state
from reticent.federated.update import Update
from reticent.federated.update_files import UpdateFiles
from reticent.privacy.accounting import EpsilonSpent

CLIENTS = 12
KEY = bytes(range(32))


def start() -> dict[str, torch.Tensor]:
    return {"a": torch.zeros(700), "b": torch.ones(40, 5)}


class ToyGrid:
    """Each client's update is a third of the way to its own place; how many are alive at once is looked at."""

    def __init__(self) -> None:
        self.alive: list[weakref.ref[torch.Tensor]] = []
        self.most = 0

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        for client in clients:
            self.most = max(self.most, 1 + sum(there() is not None for there in self.alive))
            message = Message(client=client, round=round_, update=self.update(client, arrays))
            self.alive.append(weakref.ref(next(iter(message.update.values()))))
            yield message
            del message

    def update(self, client: int, arrays: Update) -> Update:
        generator = torch.Generator().manual_seed(client)
        return {
            name: (torch.randn(array.shape, generator=generator) - array) / 3 for name, array in sorted(arrays.items())
        }


def toy_rounds(
    folder: Path, spec: FederationSpec, *, grid: Grid | None = None, mechanism: ClientMechanism | None = None
) -> tuple[Rounds, ServerState]:
    """A federation and its first state."""
    names = [f"client {number}" for number in range(CLIENTS)]
    state = ServerState(round=0, arrays=start(), clip=None if mechanism is None else mechanism.clip_norm)
    plain = PlainRule(spec=spec, names=names, sizes=[1 + number for number in range(CLIENTS)])
    rounds = Rounds(
        grid=grid or ToyGrid(),
        rule=plain if mechanism is None else PrivateRule(mechanism=mechanism),
        server=ServerOptimizer.of(spec),
        rounds=spec.rounds,
        folder=folder,
        key="toy",
        name_of=lambda number: f"c{number}",
        spending=None if mechanism is None else open_promise(mechanism, state, folder),
    )
    return rounds, state


def toy_mechanism(spec: FederationSpec) -> ClientMechanism:
    return ClientMechanism(
        clients=CLIENTS,
        expected=spec.clients_per_round,
        rounds=spec.rounds,
        noise_multiplier=1.0,
        clip_norm=1.0,
        delta=1e-3,
        key=KEY,
    )


def ledger_rounds(rounds: Rounds) -> int:
    assert isinstance(rounds.spending, FederationPromise)
    return rounds.spending.ledger.rounds


# ---- kills ----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process died."""


class DyingGrid(ToyGrid):
    """Dies before the answer number ``at`` of all rounds."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        for message in super().ask(round_, clients, arrays):
            self.left -= 1
            if self.left == 0:
                raise Killed
            yield message


def dying(call: Callable[..., Any], at: int, *, before: bool) -> Callable[..., Any]:
    """``call``, which dies at its ``at``-th time, before or after it has done its work."""
    count = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == at and before:
            raise Killed
        outcome = call(*args, **kwargs)
        if count == at:
            raise Killed
        return outcome

    return wrapped


def run_again(folder: Path, spec: FederationSpec, mechanism: ClientMechanism | None) -> tuple[Rounds, ServerState]:
    """As a new process would: from the state and ledger in the folder."""
    job, first = toy_rounds(folder, spec, mechanism=mechanism)
    state = read_state(folder, "toy") or first
    if mechanism is not None:
        job = replace(job, spending=open_promise(mechanism, state, folder))
    return job, run_rounds(job, state)


SPEC = FederationSpec(rounds=5, clients_per_round=6, server_momentum=0.5)
POINTS = [
    "client 3",
    "client 14",
    "ledger before 2",
    "ledger after 2",
    "ledger after 5",
    "save before 4",
    "save after 4",
]


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_server_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, private: bool
) -> None:
    if point.startswith("ledger") and not private:
        pytest.skip("there is no ledger")
    mechanism = toy_mechanism(SPEC) if private else None
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    job, state = toy_rounds(whole, SPEC, mechanism=mechanism)
    expected = run_rounds(job, state)

    what, _, where = point.partition(" ")
    at = int(point.split()[-1])
    job, state = toy_rounds(broken, SPEC, mechanism=mechanism, grid=DyingGrid(at) if what == "client" else None)
    with monkeypatch.context() as patch:
        if what == "ledger":
            assert isinstance(job.spending, FederationPromise)
            ledger = job.spending.ledger
            patch.setattr(ledger, "spend", dying(ledger.spend, at, before="before" in where))
        if what == "save":
            patch.setattr(rounds, "write_state", dying(write_state, at, before="before" in where))
        with pytest.raises(Killed):
            run_rounds(job, state)

    job, outcome = run_again(broken, SPEC, mechanism)
    for name, array in expected.arrays.items():
        assert torch.equal(outcome.arrays[name], array)
    assert [row.number for row in outcome.rows] == [1, 2, 3, 4, 5]
    if private:
        assert ledger_rounds(job) == 5


@pytest.mark.parametrize(
    "changes", [{"adaptive": AdaptiveClip(bit_noise=2.0)}, {"sampling": "shuffled", "noise_multiplier": 4.0}]
)
def test_a_killed_server_goes_on_with_a_clip_norm_that_moves_and_with_clients_in_turn(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    mechanism = replace(toy_mechanism(SPEC), **changes)
    outcomes = []
    for name, at in (("whole", 0), ("broken", 14)):
        folder = tmp_path / name
        folder.mkdir()
        job, state = toy_rounds(folder, SPEC, mechanism=mechanism, grid=DyingGrid(at))
        if at:
            with pytest.raises(Killed):
                run_rounds(job, state)
            outcomes.append(run_again(folder, SPEC, mechanism)[1])
        else:
            outcomes.append(run_rounds(job, state))
    whole, again = outcomes
    assert whole.clip == again.clip
    assert all(torch.equal(array, again.arrays[name]) for name, array in whole.arrays.items())
    assert [row.clip for row in whole.rows] == [row.clip for row in again.rows]


def test_epsilon_is_counted_after_the_rounds_and_for_some_of_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(SPEC, rounds=30)
    counts: list[int] = []

    def count(ledger: RoundLedger, rounds: int) -> EpsilonSpent:
        counts.append(rounds)
        return EpsilonSpent(1.0, 1.0)

    monkeypatch.setattr(RoundLedger, "epsilon", count)
    job, state = toy_rounds(tmp_path, spec, mechanism=toy_mechanism(spec))
    state = run_rounds(job, state)
    assert isinstance(job.spending, FederationPromise)
    assert not counts
    rows = job.spending.counted(state.rows)
    assert [row.number for row in rows if row.epsilon is not None] == counts
    assert 10 <= len(counts) <= COUNTED
    assert counts[-1] == 30
    assert all(row.epsilon is not None for row in job.spending.counted(state.rows[:5]))


def test_a_state_of_another_federation_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path, ServerState(round=1, arrays=start()), "another")
    with pytest.raises(BadInput, match="other settings"):
        read_state(tmp_path, "toy")
    (tmp_path / "federation_state.safetensors").write_bytes(b"half")
    with pytest.raises(BadInput, match="broken"):
        read_state(tmp_path, "toy")


# ---- clients that cannot be relied on -------------------------------------------------------------------------------


class FaultyGrid(ToyGrid):
    """Client 0 sends NaN, 1 is dead, 2 answers twice, 3 lies about the round, 4 sends another shape, 5 sends no arrays;
    somebody who was not asked answers, too."""

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        for message in super().ask(round_, clients, arrays):
            client, update = message.client, dict(message.update)
            if client == 0:
                update["a"] = update["a"] * float("nan")
            if client == 4:
                update["a"] = update["a"][:1]
            if client == 5:
                yield Message(client=5, round=round_, update=None)  # type: ignore[arg-type]
            elif client != 1:
                yield Message(client=client, round=round_ - (client == 3), update=update)
            if client == 2:
                yield Message(client=2, round=round_, update={name: 100 * array for name, array in update.items()})
        yield Message(client=99, round=round_, update=self.update(7, arrays))


def test_faulty_clients_are_dropped_named_and_counted_and_the_round_goes_on(tmp_path: Path) -> None:
    spec = FederationSpec(rounds=1, clients_per_round=CLIENTS)
    job, state = toy_rounds(tmp_path, spec, grid=FaultyGrid())
    outcome = run_rounds(job, state)
    (row,) = outcome.rows
    dropped = {(lost.client, lost.why) for lost in row.dropped}
    assert dropped == {
        ("c0", "a number that is not finite"),
        ("c1", inbox.NO_ANSWER),
        ("c2", inbox.SECOND_ANSWER),
        ("c3", inbox.ANOTHER_ROUND),
        ("c3", inbox.NO_ANSWER),
        ("c4", "an array of another shape"),
        ("c5", inbox.NO_UPDATE),
        ("c99", inbox.NOT_ASKED),
    }
    assert row.answered == CLIENTS - 5
    sound = [client for client in range(CLIENTS) if client not in (0, 1, 3, 4, 5)]
    for name, array in start().items():
        total = sum(ToyGrid().update(client, start())[name] for client in sound)
        torch.testing.assert_close(outcome.arrays[name], array + total / CLIENTS)


def test_faulty_clients_cannot_change_noise_and_denominator(tmp_path: Path) -> None:
    spec = FederationSpec(rounds=1, clients_per_round=CLIENTS)
    mechanism = toy_mechanism(spec)
    job, state = toy_rounds(tmp_path, spec, grid=FaultyGrid(), mechanism=mechanism)
    outcome = run_rounds(job, state)
    opened = mechanism.open_round(0, 1.0, start())
    for client in (2, *range(6, CLIENTS)):
        opened.add(ToyGrid().update(client, start()))
    mean = opened.close().mean
    for name, array in start().items():
        torch.testing.assert_close(outcome.arrays[name], array + mean[name])


def test_below_the_quorum_a_round_changes_nothing(tmp_path: Path) -> None:
    spec = FederationSpec(rounds=1, clients_per_round=CLIENTS, quorum=CLIENTS - 4)
    job, state = toy_rounds(tmp_path, spec, grid=FaultyGrid())
    outcome = run_rounds(job, state)
    assert not outcome.rows[0].changed
    assert all(torch.equal(outcome.arrays[name], array) for name, array in start().items())


def test_the_size_that_counts_is_the_one_the_server_knows(tmp_path: Path) -> None:
    spec = FederationSpec(rounds=1, clients_per_round=CLIENTS, weighting="size")
    job, state = toy_rounds(tmp_path, spec)
    outcome = run_rounds(job, state)
    sizes = range(1, CLIENTS + 1)
    updates = [ToyGrid().update(client, start())["a"] for client in range(CLIENTS)]
    mean = sum(size * update for size, update in zip(sizes, updates, strict=True)) / sum(sizes)
    torch.testing.assert_close(outcome.arrays["a"], start()["a"] + mean)


def test_clients_left_out_do_not_count_in_the_mean(tmp_path: Path) -> None:
    spec = FederationSpec(rounds=1, clients_per_round=CLIENTS, missing="left_out")
    job, state = toy_rounds(tmp_path, spec, grid=FaultyGrid())
    outcome = run_rounds(job, state)
    sound = [client for client in range(CLIENTS) if client not in (0, 1, 3, 4, 5)]
    mean = torch.stack([ToyGrid().update(client, start())["a"] for client in sound]).mean(0)
    torch.testing.assert_close(outcome.arrays["a"], start()["a"] + mean)


# ---- memory and draws -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["mean", "norm_bound", "private"])
def test_one_update_is_held_at_a_time(tmp_path: Path, rule: str) -> None:
    private = rule == "private"
    spec = FederationSpec(rounds=2, clients_per_round=10, aggregation="mean" if private else rule)
    grid = ToyGrid()
    job, state = toy_rounds(tmp_path, spec, grid=grid, mechanism=toy_mechanism(spec) if private else None)
    run_rounds(job, state)
    assert len(grid.alive) > 10
    assert grid.most == 1


def test_a_rule_that_sorts_holds_all(tmp_path: Path) -> None:
    spec = FederationSpec(rounds=1, clients_per_round=10, aggregation="median")
    grid = ToyGrid()
    job, state = toy_rounds(tmp_path, spec, grid=grid)
    run_rounds(job, state)
    assert grid.most == 10


def test_without_privacy_exactly_so_many_clients_are_asked_and_others_in_another_round() -> None:
    names = [f"client {number}" for number in range(CLIENTS)]
    rule: RoundRule = PlainRule(spec=FederationSpec(clients_per_round=5), names=names, sizes=[1] * CLIENTS)
    draws = [rule.drawn(round_) for round_ in range(1, 20)]
    assert {len(set(drawn)) for drawn in draws} == {5}
    assert len({tuple(drawn) for drawn in draws}) > 10


@pytest.mark.parametrize("name", ["median", "krum", "trimmed_mean", "norm_bound"])
def test_only_the_mean_carries_a_promise(name: str) -> None:
    spec = FederationSpec(clients_per_round=8, aggregation=name)
    refuse_rule(spec, private=False)
    with pytest.raises(BadInput, match="with a promise to clients"):
        refuse_rule(spec, private=True)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"weighting": "size"}, "more than its clip norm"),
        ({"missing": "left_out"}, "divided by"),
        ({"quorum": 2}, "how many clients"),
        ({"exchange": "stacked"}, "no sum to add noise to"),
    ],
)
def test_what_no_noise_covers_is_refused_with_privacy(setting: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        refuse_rule(FederationSpec(**setting), private=True)


def test_stacked_factors_go_into_the_base_one_round_after_the_other(tmp_path: Path) -> None:
    spec = FederationSpec(rounds=3, clients_per_round=4, exchange="stacked")
    first = {"q.lora_A.x": torch.zeros(2, 6), "q.lora_B.x": torch.zeros(5, 2)}
    merged: list[Update] = []
    job, state = toy_rounds(tmp_path, spec)
    names = [f"client {number}" for number in range(CLIENTS)]
    rule = StackedRule(spec=spec, names=names, sizes=[1] * CLIENTS)
    job = replace(job, rule=rule, merge=merged.append)
    outcome = run_rounds(job, replace(state, arrays=first))
    assert [factors["q.lora_A.x"].shape for factors in merged] == [(8, 6)] * 3
    assert not torch.equal(merged[0]["q.lora_A.x"], merged[1]["q.lora_A.x"])
    assert len(outcome.stacks) == 6
    assert read_state(tmp_path, "toy") is not None


def test_a_round_that_is_run_again_keeps_no_update_of_its_first_run(tmp_path: Path) -> None:
    """A client that answered before the crash and not after it is in no sum, so its update is no recorded one."""

    class Fewer(ToyGrid):
        def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
            yield from super().ask(round_, clients[1:], arrays)

    spec = FederationSpec(rounds=1, clients_per_round=4)
    files = UpdateFiles(tmp_path / "updates", "a key", [f"client {number}" for number in range(CLIENTS)])
    first, state = toy_rounds(tmp_path, spec)
    rounds.run_round(replace(first, record=files), state)
    before = files.clients_in(1)
    again, state = toy_rounds(tmp_path, spec, grid=Fewer())
    rounds.run_round(replace(again, record=files), state)
    assert files.clients_in(1) == before[1:]
    assert len(before) == 4
