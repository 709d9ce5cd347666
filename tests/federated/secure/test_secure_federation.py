# SPDX-License-Identifier: Apache-2.0
"""Secure rounds of a federation without a model: the naive twin, drop-outs, kills, and faults that have to be found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.local_grid import Message
from reticent.federated.rounds import Rounds, run_rounds
from reticent.federated.secure import secure_clients, secure_collector, secure_update
from reticent.federated.secure.client_memory import FILE as MEMORY
from reticent.federated.secure.client_memory import ClientMemory
from reticent.federated.secure.distributed_noise import DistributedNoise
from reticent.federated.secure.secure_clients import Reply
from reticent.federated.secure.secure_ledger import FILE as LEDGER
from reticent.federated.secure.secure_ledger import SecureLedger
from reticent.federated.secure.secure_mechanism import SecureMechanism
from reticent.federated.secure.secure_promise import SecurePromise, TurnsRule, open_secure, secured
from reticent.federated.secure.secure_server import SecureServer
from reticent.federated.server_optimizer import ServerOptimizer
from reticent.federated.server_state import ServerState, read_state
from reticent.federated.update import clipped
from reticent.privacy.check import GuaranteeViolated
from reticent.testing.naive_ciphers import QuickCiphers

KEY = bytes(range(32))
CLIENTS, PER_ROUND, THRESHOLD, ROUNDS = 10, 5, 4, 4
NAMES = [f"client {number}" for number in range(CLIENTS)]


def start():
    return {"b": torch.ones(30, 5), "a": torch.zeros(700)}


def mechanism_of(*, key=KEY, clients=CLIENTS, rounds=ROUNDS, bits=32, **changes):
    settings = {"clip_norm": 1.0, "dimension": 850, "noise_multiplier": 1e-3, "threshold": THRESHOLD}
    noise = DistributedNoise.fitted(**(settings | {"clients": PER_ROUND} | changes))
    return SecureMechanism(clients=clients, rounds=rounds, noise=noise, delta=1e-3, key=key, bits=bits)


def update_of(client, round_, arrays):
    """Some are longer than the clip norm, some shorter."""
    generator = torch.Generator().manual_seed(client)
    size = 0.01 if client % 3 == 0 else 2.0
    return {
        name: size * (torch.randn(array.shape, generator=generator) - array) for name, array in sorted(arrays.items())
    }


class ToyClients:
    """Updates from numbers; ``odd`` maps (client, round) to what is sent in place of one."""

    def __init__(self, odd=None):
        self.odd = odd or {}

    def ask(self, round_, clients, arrays) -> Iterator[Message]:
        for client in clients:
            update = self.odd.get((client, round_), update_of(client, round_, arrays))
            if update is not None:
                yield Message(client=client, round=round_, update=update)


class Toy:
    """A federation in a folder; the same folder again goes on."""

    def __init__(
        self, folder, mechanism=None, *, grid=None, served=None, wrap=lambda clients: clients, most_unopened=3
    ):
        self.mechanism = mechanism or mechanism_of()
        self.state = read_state(folder, "toy") or ServerState(round=0, arrays=start(), clip=1.0)
        self.promise: SecurePromise = open_secure(self.mechanism, NAMES, self.state, folder)
        collector = secured(
            grid or ToyClients(),
            self.promise,
            folder,
            ciphers=QuickCiphers(),
            most_unopened=most_unopened,
            name_of=lambda number: f"c{number}",
        )
        collector.mechanism = served or self.mechanism
        collector.clients = wrap(collector.clients)
        self.rounds = Rounds(
            grid=None,  # type: ignore[arg-type]  # no update may come from there
            rule=TurnsRule(mechanism=self.mechanism),
            server=ServerOptimizer.of(FederationSpec(rounds=ROUNDS, clients_per_round=PER_ROUND)),
            rounds=self.mechanism.rounds,
            folder=folder,
            key="toy",
            name_of=lambda number: f"c{number}",
            spending=self.promise,
            secure=collector,
        )

    def run(self):
        self.state = run_rounds(self.rounds, self.state)
        return self.state

    def finish(self):
        self.run()
        return self.promise.checked(self.state, self.state.arrays)


def turns(round_):
    return [int(client) for client in mechanism_of().sampled(round_ - 1)]


def naive(rounds=ROUNDS, without=()):
    """The twin: clipped updates, summed in the open in float64, without noise, over the fixed number."""
    arrays = start()
    for round_ in range(1, rounds + 1):
        updates = [clipped(update_of(i, round_, arrays), 1.0) for i in turns(round_) if (i, round_) not in without]
        arrays = {
            name: array + sum(u[name].double() for u in updates).float() / PER_ROUND for name, array in arrays.items()
        }
    return arrays


def off(arrays, others):
    return max(float((arrays[name] - others[name]).abs().max()) for name in arrays)


def rounding():
    """The most that noise and rounding of all rounds move any weight, at 6 standard deviations."""
    noise = mechanism_of().noise
    return 6 * np.sqrt(ROUNDS * PER_ROUND * (noise.variance + 0.25)) * noise.lattice.step / PER_ROUND


# ---- sums -----------------------------------------------------------------------------------------------------------


def test_weights_are_those_of_the_naive_twin_to_within_noise_and_rounding(tmp_path):
    toy = Toy(tmp_path)
    checks = toy.finish()
    assert off(toy.state.arrays, naive()) < rounding() < 0.01
    assert off(toy.state.arrays, start()) > 10 * rounding()
    assert all(check.passed for check in checks)
    assert [row.answered for row in toy.state.rows] == [5, 5, 5, 5]
    assert all(row.median_norm is None for row in toy.state.rows)


def test_the_noise_of_what_leaves_is_that_of_all_who_are_in_the_sum(tmp_path):
    """With updates of zero all that leaves is noise: of five shares, a quarter more than the four that are promised."""
    zeros = {(i, r): {name: 0 * array for name, array in start().items()} for i in range(CLIENTS) for r in (1, 2)}
    mechanism = mechanism_of(noise_multiplier=2.0, rounds=2)
    state = Toy(tmp_path, mechanism, grid=ToyClients(zeros)).run()
    moved = torch.cat([(state.arrays[name] - array).reshape(-1) for name, array in start().items()])
    assert float(moved.std()) == pytest.approx(2.0 * np.sqrt(2 * 5 / 4) / PER_ROUND, rel=0.1)


def test_a_client_that_falls_silent_is_dropped_and_named(tmp_path):
    lost = turns(2)[1]
    toy = Toy(tmp_path, grid=ToyClients({(lost, 2): None}))
    assert all(check.passed for check in toy.finish())
    assert [(drop.client, drop.why) for drop in toy.state.rows[1].dropped] == [(f"c{lost}", "no answer")]
    assert off(toy.state.arrays, naive(without=[(lost, 2)])) < rounding()


@pytest.mark.parametrize("sent", [{"a": torch.zeros(3)}, {"a": torch.full((700,), torch.nan), "b": torch.ones(30, 5)}])
def test_a_client_whose_update_cannot_be_summed_sends_noise_and_is_not_told_from_one_of_zeros(tmp_path, sent):
    """Silence would tell the server what its texts did, without any noise."""
    odd, outcomes = turns(2)[1], []
    for place, update in enumerate((sent, {name: 0 * array for name, array in start().items()})):
        (tmp_path / str(place)).mkdir()
        toy = Toy(tmp_path / str(place), grid=ToyClients({(odd, 2): update}))
        assert all(check.passed for check in toy.finish())
        assert [(row.answered, row.dropped) for row in toy.state.rows] == [(5, ())] * 4
        outcomes.append(toy.state.arrays)
    assert off(*outcomes) == 0
    assert off(outcomes[0], naive(without=[(odd, 2)])) < rounding()


def test_below_the_threshold_a_round_changes_nothing_and_counts(tmp_path):
    lost = turns(1)[:2]
    toy = Toy(tmp_path, grid=ToyClients(dict.fromkeys([(i, 1) for i in lost])))
    checks = toy.finish()
    assert [row.changed for row in toy.state.rows] == [False, True, True, True]
    assert toy.promise.ledger.rounds == ROUNDS
    assert all(check.passed for check in checks)
    assert toy.promise.spent(1) == toy.promise.spent(2) > 0


# ---- kills and second runs ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process died."""


class Dying:
    """Dies while it passes on the reply of that number, counted over all rounds."""

    def __init__(self, clients, at):
        self.clients, self.left = clients, at

    def begin(self, order):
        return self.counted(self.clients.begin(order))

    def answer(self, messages):
        return self.counted(self.clients.answer(messages))

    def counted(self, replies):
        for reply in replies:
            self.left -= 1
            if self.left < 0:
                raise Killed
            yield reply


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("whole")).run().arrays


@pytest.mark.parametrize("at", [2, 7, 12, 17, 22, 24, 25, 49])
def test_killed_anywhere_it_ends_the_same_and_the_ledger_is_not_short(tmp_path, whole, at):
    """Of 25 replies a round, in each part and between rounds."""
    with pytest.raises(Killed):
        Toy(tmp_path, wrap=lambda clients: Dying(clients, at)).run()
    toy = Toy(tmp_path)
    assert all(check.passed for check in toy.finish())
    assert all(torch.equal(array, toy.state.arrays[name]) for name, array in whole.items())
    assert toy.promise.ledger.rounds == ROUNDS


@pytest.mark.parametrize("at", [18, 23])
def test_a_second_run_with_other_updates_is_refused(tmp_path, at):
    """A client that answers differently after a crash: under the same masks and noise the difference would show it."""
    with pytest.raises(Killed):
        Toy(tmp_path, wrap=lambda clients: Dying(clients, at)).run()
    other = turns(1)[0]
    grid = ToyClients({(other, 1): update_of(other + 100, 1, start())})
    with pytest.raises(BadInput, match="sent something else in round 1"):
        Toy(tmp_path, grid=grid).run()


def test_a_second_run_with_fewer_clients_opens_nothing(tmp_path):
    """Else the difference of the two sums would be one client's update. A client that falls silent sends nothing that
    its memory could refuse: the server's ledger does."""
    with pytest.raises(Killed):
        Toy(tmp_path, wrap=lambda clients: Dying(clients, 23)).run()
    with pytest.raises(BadInput, match="would now open another sum"):
        Toy(tmp_path, grid=ToyClients({(turns(1)[0], 1): None})).run()
    (tmp_path / LEDGER).unlink()  # a server that forgets: the clients remember whom they opened the sum for
    with pytest.raises(BadInput, match="sent something else"):
        Toy(tmp_path, grid=ToyClients({(turns(1)[0], 1): None})).run()


def test_files_of_another_federation_or_broken_ones_are_refused(tmp_path):
    Toy(tmp_path, mechanism_of(rounds=1)).run()
    ledger, memory, other = tmp_path / LEDGER, tmp_path / MEMORY, mechanism_of(rounds=1, key=bytes(reversed(KEY)))
    for path, kind in ((ledger, SecureLedger), (memory, lambda p, m: ClientMemory(p, about=m.on_record))):
        kind(path, mechanism_of(rounds=1))
        with pytest.raises(BadInput, match="of another federation"):
            kind(path, other)
        path.write_text(path.read_text() + "nonsense\n")
        with pytest.raises(BadInput, match="is no"):
            kind(path, other)
    ledger.write_text("")  # the process died before it wrote anything
    assert SecureLedger(ledger, other).rounds == 0


# ---- messages -------------------------------------------------------------------------------------------------------


class Meddling:
    """Adds to the clients' replies, or changes them."""

    def __init__(self, clients, change):
        self.clients, self.change = clients, change

    def begin(self, order):
        return self.changed(self.clients.begin(order))

    def answer(self, messages):
        return self.changed(self.clients.answer(messages))

    def changed(self, replies):
        for reply in replies:
            yield from self.change(reply)


def test_replayed_strange_and_broken_messages_are_dropped_and_the_sum_stays(tmp_path, whole):
    strangers = sorted(set(range(CLIENTS)) - set(turns(1)))

    def change(reply):
        yield reply
        yield reply
        yield Reply(client=99, data=reply.data)
        yield Reply(client=reply.client, data=b"nonsense")

    toy = Toy(tmp_path, wrap=lambda clients: Meddling(clients, change))
    state = toy.run()
    assert all(torch.equal(array, state.arrays[name]) for name, array in whole.items())
    reasons = {drop.why for drop in state.rows[0].dropped}
    assert {
        "a second message of the same client",
        "a client that was not asked",
        "bytes that are no message",
    } <= reasons
    assert not {drop.client for drop in state.rows[0].dropped} & {f"c{number}" for number in strangers}


def test_a_client_takes_part_in_no_more_rounds_than_its_promise_counts(tmp_path):
    """A server that asks the same clients in each round finds nobody after the second."""
    toy = Toy(tmp_path)
    always = turns(1)
    for round_ in (1, 2, 3):
        toy.promise.check.drawn = lambda number, clients: None  # the server does not look either
        toy.promise.check._numbers, toy.promise.check._seen = tuple(always), {}
        collected = toy.rounds.secure.collect(round_, always, start())
        assert (collected.mean is None) == (round_ == 3)


# ---- faults ---------------------------------------------------------------------------------------------------------

NOISE = "each client masks its clipped update and its share of the noise"
SUM = "what is opened is the sum of the clients that are in it"
PLAN = "no sum of fewer clients than the threshold is opened"
MEAN = "the mean is the opened sum over a number that is fixed"
FAULTS = {}


def fault(promise):
    """Register a function that plants a fault, given ``monkeypatch``; it may give settings of the federation."""

    def register(plant):
        FAULTS[plant.__name__] = (plant, promise)
        return plant

    return register


@fault(NOISE)
def a_client_without_noise(patch):
    patch.setattr(DistributedNoise, "share", lambda self, key, round_: np.zeros(self.lattice.dimension, dtype=np.int64))


@fault(NOISE)
def shares_for_all_clients_where_the_threshold_is_promised(patch):
    share = DistributedNoise.share
    patch.setattr(
        DistributedNoise,
        "share",
        lambda self, key, round_: share(replace(self, threshold=8, clients=8), key, round_=round_),
    )


@fault(NOISE)
def one_array_without_noise(patch):
    share = DistributedNoise.share
    where = np.arange(850) >= 700  # arrays lie in the order of their names
    patch.setattr(DistributedNoise, "share", lambda self, key, round_: share(self, key, round_=round_) * ~where)


@fault(NOISE)
def the_same_noise_for_all_clients(patch):
    share = DistributedNoise.share
    patch.setattr(DistributedNoise, "share", lambda self, key, round_: share(self, KEY, round_=round_))


@fault(NOISE)
def the_same_noise_in_each_round(patch):
    share = DistributedNoise.share
    patch.setattr(DistributedNoise, "share", lambda self, key, round_: share(self, key, round_=0))


@fault("is longer than the clip norm")
def an_update_that_is_not_clipped(patch):
    patch.setattr(secure_update, "clipped", lambda update, bound: {n: a * bound / 40 for n, a in update.items()})


@fault(NOISE)
def a_weight_that_a_client_gives_itself(patch):
    vector = secure_clients.client_vector
    double = lambda update, *args, **given: vector({n: 2 * a for n, a in update.items()}, *args, **given)  # noqa: E731
    patch.setattr(secure_clients, "client_vector", double)


@fault(PLAN)
def a_threshold_that_is_lied_about(patch):
    noise = mechanism_of().noise
    return {"served": replace(mechanism_of(), noise=replace(noise, threshold=5))}


@fault("each round has masks of its own")
def masks_that_are_used_again(patch):
    plan = SecureMechanism.plan
    patch.setattr(SecureMechanism, "plan", lambda self, number: plan(self, 0))


@fault(SUM)
def something_else_in_what_is_opened(patch):
    opened = SecureServer.opened

    def more(self):
        result = opened(self)
        return replace(result, total=result.total + 1)

    patch.setattr(SecureServer, "opened", more)


@fault(SUM)
def a_client_that_is_named_and_not_in_the_sum(patch):
    opened = SecureServer.opened
    patch.setattr(SecureServer, "opened", lambda self: replace(opened(self), clients=opened_for(self)))

    def opened_for(server):
        return tuple(sorted(server._vectors))[:-1]


@fault(PLAN)
def a_sum_of_one_client(patch):
    opened = SecureServer.opened
    patch.setattr(SecureServer, "opened", lambda self: replace(opened(self), clients=tuple(self._vectors)[:1]))


@fault(MEAN)
def a_denominator_of_those_who_answered(patch):
    mean = secure_collector.mean_update
    patch.setattr(
        secure_collector,
        "mean_update",
        lambda total, noise, like, denominator: mean(total, noise, like=like, denominator=denominator - 1),
    )


@fault(MEAN)
def noise_taken_off_before_the_mean_leaves(patch):
    mean = secure_collector.mean_update
    patch.setattr(
        secure_collector, "mean_update", lambda total, *args, **given: mean(total - total % 7, *args, **given)
    )


@fault("all clients take turns, once a pass")
def the_same_clients_in_each_round(patch):
    patch.setattr(TurnsRule, "drawn", lambda self, round_: [0, 1, 2, 3, 4])


@fault("each round is spent once")
def a_ledger_that_is_short(patch):
    spend = SecureLedger.spend
    patch.setattr(SecureLedger, "spend", lambda self, number, digest: number and spend(self, number, digest))


@fault("as they were run")
def a_ledger_with_more_noise_than_there_was(patch):
    def other(self, number, digest, spend=SecureLedger.spend):
        spend(self, number, digest)
        self.spent[-1] = replace(self.spent[-1], variance=10**6)

    patch.setattr(SecureLedger, "spend", other)


@fault("ε is at least what these rounds cost")
def an_epsilon_that_is_too_small(patch):
    epsilon = SecureMechanism.epsilon
    patch.setattr(SecureMechanism, "epsilon", lambda self, rounds=None: 0.5 * epsilon(self, rounds))
    return {"mechanism": mechanism_of(noise_multiplier=2.0)}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_and_the_promise_named(tmp_path, monkeypatch, name):
    plant, promise = FAULTS[name]
    settings = plant(monkeypatch) or {}
    with pytest.raises((GuaranteeViolated, BadInput), match=promise):
        Toy(tmp_path, **settings).finish()


@pytest.mark.parametrize("other", [{"threshold": 3, "needed": 2, "clients": 3}, {"degree": 2}, {"bits": 20}])
def test_clients_refuse_a_plan_that_their_promise_was_not_counted_for(tmp_path, other):
    """Fewer clients in a sum, fewer neighbours that can open a vector: their share of noise is sized for neither."""
    clients = Toy(tmp_path).rounds.secure.clients
    orders = [
        secure_clients.RoundOrder(
            round=1, plan=replace(mechanism_of().plan(0), **given), asked=(0, 1, 2), arrays=start()
        )
        for given in (other, {})
    ]
    assert [len(list(clients.begin(order))) for order in orders] == [0, 3]
