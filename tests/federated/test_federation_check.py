# SPDX-License-Identifier: Apache-2.0
"""The self-check of a federation lets a right one pass, and names the promise that each planted fault breaks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.federated import private_round, round_ledger
from reticent.federated.adaptive_clip import AdaptiveClip
from reticent.federated.client_mechanism import ClientMechanism
from reticent.federated.private_round import PrivateRound
from reticent.federated.round_ledger import RoundLedger
from reticent.federated.server_optimizer import ServerOptimizer
from reticent.federated.tree_noise import Node
from reticent.federated.update import norm
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.sampling import by_coins, words
from reticent.testing.made_up_federation import KEY, MadeUpFederation, made_up_mechanism, made_up_update

ADAPTIVE = {"adaptive": AdaptiveClip(bit_noise=0.75)}
SHUFFLED = {"sampling": "shuffled", "noise_multiplier": 4.0}
FAULTS = {}


def fault(promise, *, plan=None):
    """Register a function that plants a fault, given ``monkeypatch``; it may give another federation's class."""

    def register(plant):
        FAULTS[plant.__name__] = (plant, promise, plan or {})
        return plant

    return register


def run(folder, plan=None, kind=MadeUpFederation, rounds=3, **settings):
    federation = kind(folder, made_up_mechanism(rounds=rounds, **(plan or {})), **settings)
    return federation.run().finish()


@pytest.mark.parametrize(
    ("plan", "settings"),
    [
        ({}, {}),
        (ADAPTIVE, {}),
        (SHUFFLED, {}),
        ({"expected": 60}, {}),
        ({"clients": 400, "expected": 1, "noise_multiplier": 0.5, "delta": 1e-4}, {}),
        ({}, {"server": ServerOptimizer(name="fedadam", learning_rate=0.01)}),
    ],
)
def test_a_right_federation_passes(tmp_path, plan, settings):
    checks = run(tmp_path, plan, rounds=6, **settings)
    assert [check.name for check in checks] == [
        "draws",
        "updates",
        "noise",
        "denominator",
        "ledger",
        "epsilon",
        "reloaded",
    ]
    assert all(check.passed for check in checks)


def test_a_right_federation_passes_whatever_its_clients_send(tmp_path):
    class Odd(MadeUpFederation):
        def sent(self, client, number):
            sizes = {0: 0.0, 1: 1e30, 2: float("nan"), 3: 1e-20}
            return made_up_update(client, number, sizes.get(client % 5))

    for plan in ({}, ADAPTIVE):
        folder = tmp_path / ("adaptive" if plan else "fixed")
        folder.mkdir()
        assert all(check.passed for check in run(folder, plan, kind=Odd))


def test_a_resumed_federation_passes(tmp_path):
    for plan in ({}, SHUFFLED):
        folder = tmp_path / plan.get("sampling", "poisson")
        folder.mkdir()
        MadeUpFederation(folder, made_up_mechanism(**plan)).run(2)
        assert all(check.passed for check in run(folder, plan, rounds=6))


DRAW = "clients take part by the draw that is accounted for"
PLAN = "each round is run as it is planned"
SUM = "each client adds at most the clip norm, once"
NOISE = "noise of standard deviation"
CLIP = "the clip norm moves by the noised count"
LEDGER = "each round is spent once"
ALL_ROUNDS = "the ledger has all rounds that were run"


# ---- draws ----


@fault(DRAW)
def a_sampler_of_fixed_size(patch):
    def fixed(self, number):
        return np.sort(np.argsort(words(KEY, "fixed", number, count=60))[:15])

    patch.setattr(ClientMechanism, "sampled", fixed)


@fault(DRAW)
def another_rate_than_the_one_that_is_said(patch):
    def often(self, number):
        return by_coins(KEY, "client", number, units=60, rate=0.5)

    patch.setattr(ClientMechanism, "sampled", often)


@fault(DRAW)
def the_draw_of_the_first_round_again_and_again(patch):
    sampled = ClientMechanism.sampled
    patch.setattr(ClientMechanism, "sampled", lambda self, number: sampled(self, 0))


@fault(DRAW, plan=SHUFFLED)
def a_client_that_has_two_turns_in_a_pass(patch):
    sampled = ClientMechanism.sampled
    patch.setattr(ClientMechanism, "sampled", lambda self, number: sampled(self, number // 2))


@fault(PLAN)
def others_in_the_sum_than_those_that_were_drawn(patch):
    class Others(MadeUpFederation):
        def open(self, number):
            setup = super().open(number).setup
            return PrivateRound(replace(setup, drawn=(*setup.drawn, 59)), self.arrays)

    return Others


@fault("each round is run once, in order")
def a_round_that_is_left_out(patch):
    class Hasty(MadeUpFederation):
        def round(self):
            closed = super().round()
            self.next += 1
            return closed

    return Hasty


# ---- clipping and summing ----


@fault(SUM)
def weights_behind_the_clipping(patch):
    add = private_round.add_
    patch.setattr(private_round, "add_", lambda total, update: add(total, {n: 1.5 * a for n, a in update.items()}))


@fault(SUM)
def one_array_unclipped(patch):
    clipped = private_round.clipped
    patch.setattr(private_round, "clipped", lambda update, bound: clipped(update, bound) | {"b": update["b"]})


@fault(SUM)
def no_clipping_at_all(patch):
    patch.setattr(private_round, "clipped", lambda update, bound: dict(update))


@fault(SUM)
def each_array_clipped_for_itself(patch):
    clipped = private_round.clipped
    each = lambda update, bound: {n: clipped({n: a}, bound)[n] for n, a in update.items()}  # noqa: E731
    patch.setattr(private_round, "clipped", each)


@fault(SUM)
def a_client_that_is_added_twice(patch):
    add = private_round.add_

    def twice(total, update):
        add(total, update)
        add(total, update)

    patch.setattr(private_round, "add_", twice)


@fault(SUM)
def a_number_that_is_not_finite(patch):
    patch.setattr(private_round, "check_update", lambda update, like: None)

    class Sick(MadeUpFederation):
        def sent(self, client, number):
            return made_up_update(client, number, float("nan"))

    return Sick


@fault(SUM)
def shorter_updates_stretched_to_the_norm(patch):
    def stretched(update, bound):
        return {name: array * (bound / norm(update)) for name, array in update.items()}

    patch.setattr(private_round, "clipped", stretched)


# ---- noise and denominator ----


def _noised_with(patch, change):
    noised = private_round.noised_
    patch.setattr(private_round, "noised_", lambda array, setup, index: noised(array, change(setup, index), index))


@fault(NOISE, plan=ADAPTIVE)
def noise_at_the_new_norm(patch):
    _noised_with(patch, lambda setup, index: replace(setup, clip=setup.clip * 0.9))


@fault(NOISE, plan=ADAPTIVE)
def noise_of_z_where_the_bits_are_paid_too(patch):
    _noised_with(patch, lambda setup, index: replace(setup, update_noise=1.0))


@fault(NOISE)
def noise_left_out_in_one_array(patch):
    _noised_with(patch, lambda setup, index: replace(setup, update_noise=0.0) if index else setup)


@fault(NOISE)
def the_same_noise_in_each_array(patch):
    noised = private_round.noised_
    patch.setattr(private_round, "noised_", lambda array, setup, index: noised(array, setup, 0))


@fault(NOISE)
def the_noise_of_the_first_round_after_a_resumption(patch):
    _noised_with(patch, lambda setup, index: replace(setup, nodes=(Node(1, 0),)))


@fault(NOISE)
def noise_of_the_global_generator(patch):
    def by_torch(array, setup, index):
        noise = torch.randn(array.shape, generator=torch.Generator().manual_seed(setup.round)) * setup.clip
        squares = float(array.double().square().sum())
        array.add_(noise).div_(setup.denominator)
        return private_round.NoiseSums(n=array.numel(), x_squared=squares, noise=0.0, noise_squared=0.0)

    patch.setattr(private_round, "noised_", by_torch)


@fault(NOISE, plan=SHUFFLED)
def noise_of_each_round_alone_where_that_of_a_tree_is_accounted_for(patch):
    _noised_with(patch, lambda setup, index: replace(setup, nodes=(Node(1, setup.round),)))


@fault(NOISE)
def a_denominator_of_those_who_answered(patch):
    _noised_with(patch, lambda setup, index: replace(setup, denominator=float(len(setup.drawn) - 1)))


@fault(PLAN)
def a_denominator_of_those_who_were_drawn(patch):
    class Drawn(MadeUpFederation):
        def open(self, number):
            setup = super().open(number).setup
            return PrivateRound(replace(setup, denominator=float(len(setup.drawn) + 1)), self.arrays)

    return Drawn


@fault(PLAN)
def another_clip_norm_than_that_of_the_plan(patch):
    class Looser(MadeUpFederation):
        def open(self, number):
            return self.plan.open_round(number, 2 * self.clip, self.arrays)

    return Looser


# ---- the adaptive norm ----


@fault(CLIP, plan=ADAPTIVE)
def a_norm_that_moves_the_wrong_way(patch):
    following = AdaptiveClip.following
    patch.setattr(AdaptiveClip, "following", lambda self, clip, share: following(self, clip, 1 - share))


@fault(CLIP, plan=ADAPTIVE)
def bits_of_a_whole(patch):
    patch.setattr(private_round, "bit", lambda length, clip: float(length <= clip))


@fault(CLIP, plan=ADAPTIVE)
def bits_without_noise(patch):
    def silent(self):
        share = self.setup.adaptive.fraction(self.bits, self.setup.denominator)
        return self.bits, share, self.setup.adaptive.following(self.setup.clip, share)

    patch.setattr(PrivateRound, "_bits", silent)


@fault(CLIP)
def a_norm_that_moves_where_it_is_said_to_be_fixed(patch):
    patch.setattr(PrivateRound, "_bits", lambda self: (None, None, self.setup.clip * 1.1))


# ---- what leaves, and what is on record ----


@fault("the server's step takes the noised mean and nothing else")
def a_step_on_more_than_the_noised_mean(patch):
    class Peeking(MadeUpFederation):
        def given(self, mean):
            return {name: array + 1e-3 for name, array in mean.items()}

    return Peeking


@fault("nothing is released of clients but what ε covers")
def a_metric_of_clients_that_is_released(patch):
    class Telling(MadeUpFederation):
        def row(self, number, closed):
            return ("number", "clip", "median_norm")

    return Telling


@fault(ALL_ROUNDS)
def a_ledger_that_is_one_round_short(patch):
    class Forgetful(MadeUpFederation):
        def spend(self, number, closed):
            if number < 2:
                super().spend(number, closed)

    return Forgetful


@fault(LEDGER)
def a_round_that_is_left_out_of_the_ledger(patch):
    class Forgetful(MadeUpFederation):
        def spend(self, number, closed):
            if number:
                super().spend(number, closed)

    return Forgetful


@fault("the ledger matches the rounds")
def a_ledger_with_more_noise_than_there_was(patch):
    spent = round_ledger.RoundSpent
    patch.setattr(round_ledger, "RoundSpent", lambda **fields: spent(**fields | {"noise_multiplier": 2.0, "rate": 0.1}))


@fault("ε is at least what these rounds cost")
def an_epsilon_of_fewer_rounds(patch):
    epsilon = RoundLedger.epsilon
    patch.setattr(RoundLedger, "epsilon", lambda self: epsilon(self, self.rounds - 1))


@fault("what was trained is what is saved")
def another_model_in_the_folder(patch):
    class Stale(MadeUpFederation):
        def reread(self):
            return {name: torch.zeros_like(array) for name, array in self.arrays.items()}

    return Stale


@fault("the noised mean of each round is in the model")
def an_array_that_the_server_never_moves(patch):
    step = ServerOptimizer.__call__

    def still(self, moments, mean):
        moments, change = step(self, moments, mean)
        return moments, change | {"b": torch.zeros_like(change["b"])}

    patch.setattr(ServerOptimizer, "__call__", still)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_and_the_promise_named(tmp_path, monkeypatch, name):
    plant, promise, plan = FAULTS[name]
    kind = plant(monkeypatch) or MadeUpFederation
    with pytest.raises(GuaranteeViolated, match=promise):
        run(tmp_path, plan, kind=kind)


def test_a_second_run_of_a_round_with_other_updates_is_refused(tmp_path):
    class Again(MadeUpFederation):
        def spend(self, number, closed):
            super().spend(number, closed)
            other = {name: array + 1e-3 for name, array in closed.mean.items()}
            self.ledger.spend(number, other, clip=self.clip, next_clip=closed.next_clip)

    with pytest.raises(BadInput, match="was spent before"):
        run(tmp_path, kind=Again)


def test_the_faults_are_as_many_as_were_planned():
    assert len(FAULTS) >= 20
