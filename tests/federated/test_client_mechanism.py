# SPDX-License-Identifier: Apache-2.0
"""The client-level mechanism: who is drawn, what it costs, what it says, and what is refused."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from reticent.core.errors import BadInput
from reticent.federated.adaptive_clip import AdaptiveClip
from reticent.federated.aggregate.aggregator import AGGREGATORS
from reticent.federated.client_mechanism import COINS, calibrated, refuse_with_promise
from reticent.federated.client_privacy import ClientPrivacy
from reticent.privacy import accounting
from reticent.privacy.meters import DrawMeter, SizeMeter
from reticent.privacy.redraw import batch_again
from reticent.privacy.sampling import by_coins, words
from reticent.privacy.spec import PrivacySpec
from reticent.testing.made_up_federation import KEY, LIKE, made_up_mechanism
from reticent.testing.made_up_federation import OTHER_KEY as OTHER

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BY_HAND = [
    (98, 20, 30, 1.0, 1e-3, 5.4542),
    (2000, 200, 30, 1.0, 1e-5, 4.1782),
    (2000, 200, 30, 0.7, 1e-5, 8.7331),
    (98, 20, 30, 0.893, 1e-3, 6.7075),
    (98, 98, 30, 2.849, 1e-3, 7.1982),
    (2000, 200, 30, 0.783, 1e-5, 6.8821),
    (2000, 128, 16, 0.575, 1e-4, 6.4249),
    (60, 15, 6, 1.0, 1e-3, 3.0016),
    (10, 3, 2, 1.5, 1e-2, 0.6060),
    (500, 5, 100, 0.8, 1e-4, 1.0435),
    (100_000, 1000, 200, 0.6, 1e-6, 5.4616),
    (300, 30, 1, 0.5, 1e-4, 5.2833),
]
"""N, n, rounds, z, δ, and ε by dp_accounting 0.6 called by hand: ``PLDAccountant()`` at its default cells of 1e-4,
``SelfComposedDpEvent(PoissonSampledDpEvent(n / N, GaussianDpEvent(z)), rounds)``."""


@pytest.mark.parametrize(("clients", "expected", "rounds", "noise", "delta", "epsilon"), BY_HAND)
def test_epsilon_is_that_of_dp_accounting_called_by_hand(clients, expected, rounds, noise, delta, epsilon):
    plan = made_up_mechanism(clients=clients, expected=expected, rounds=rounds, noise_multiplier=noise, delta=delta)
    assert epsilon - 5e-4 <= plan.epsilon().epsilon <= epsilon + 4e-3


def test_epsilon_is_that_of_dp_accounting_in_coarse_cells():
    accountant = PLDAccountant(value_discretization_interval=1e-2)
    step = dp_event.PoissonSampledDpEvent(0.25, dp_event.GaussianDpEvent(1.0))
    accountant.compose(dp_event.SelfComposedDpEvent(step, 6))
    assert made_up_mechanism().epsilon().epsilon == pytest.approx(accountant.get_epsilon(1e-3), abs=0.05)


def test_an_adaptive_clip_norm_costs_nothing_on_top():
    """Both releases of a round are one Gaussian of multiplier z: their shifts add up to it."""
    rule = AdaptiveClip(bit_noise=0.75)
    plan = made_up_mechanism(adaptive=rule)
    assert plan.update_noise > 1
    assert plan.update_noise**-2 + (0.5 / rule.bit_noise) ** 2 == pytest.approx(1.0)
    assert plan.epsilon() == made_up_mechanism().epsilon()


def test_clients_are_drawn_by_the_coins_of_private_training_with_a_label_of_their_own():
    plan = made_up_mechanism()
    for number in (0, 5):
        drawn = plan.sampled(number)
        assert drawn.tolist() == by_coins(KEY, COINS, number, units=60, rate=0.25).tolist()
        assert drawn.tolist() == batch_again(KEY, number, units=60, rate=0.25, purpose=COINS)
        assert drawn.tolist() != by_coins(KEY, "sample", number, units=60, rate=0.25).tolist()
    assert made_up_mechanism(key=OTHER).sampled(0).tolist() != plan.sampled(0).tolist()
    assert made_up_mechanism(expected=60).sampled(2).tolist() == list(range(60))
    with pytest.raises(BadInput, match="must be in 0 … 5"):
        plan.sampled(6)


def _fixed(number):
    return np.sort(np.argsort(words(KEY, "fixed", number, count=60))[:15])


def _in_passes(number):
    order = np.argsort(words(KEY, "pass", number // 4, count=60))
    return np.sort(order[15 * (number % 4) :][:15])


def _by_group(number):
    """One coin for each group of twenty."""
    groups = by_coins(KEY, "groups", number, units=3, rate=0.25)
    return (20 * groups[:, None] + np.arange(20)).ravel()


@pytest.mark.parametrize(
    ("draw", "right"),
    [
        (lambda number: by_coins(KEY, COINS, number, units=60, rate=0.25), True),
        (_fixed, False),
        (_in_passes, False),
        (_by_group, False),
    ],
)
def test_coins_are_told_apart_from_samples_of_a_fixed_size_passes_and_groups(draw, right):
    """By the numbers alone; the self-check knows the key as well."""
    sizes, draws = (meter(60, 0.25, steps=400, error=1e-6) for meter in (SizeMeter, DrawMeter))
    odd = [sizes.add(len(draw(number))) or draws.add(draw(number)) for number in range(60)]
    assert (not any(odd)) == right


def test_everybody_has_a_turn_in_a_pass_in_another_order_each_time():
    plan = made_up_mechanism(sampling="shuffled", rounds=8, noise_multiplier=4.0)
    turns = [plan.sampled(number).tolist() for number in range(8)]
    for passed in (turns[:4], turns[4:]):
        assert sorted(client for turn in passed for client in turn) == list(range(60))
    assert turns[:4] != turns[4:]
    uneven = made_up_mechanism(clients=50, sampling="shuffled", noise_multiplier=4.0)
    assert [len(uneven.sampled(number)) for number in range(4)] == [15, 15, 15, 5]


def test_the_statement_never_says_epsilon_without_what_it_means():
    said = made_up_mechanism(clients=300, expected=30, rounds=1, noise_multiplier=0.5, delta=1e-4).statement()
    assert said.startswith("ε = 5.29 per client at δ = 0.0001 (add or remove one of N = 300 clients;")
    assert "q = 0.1" in said
    assert "1 round;" in said
    adaptive = made_up_mechanism(adaptive=AdaptiveClip(bit_noise=0.75)).statement(6)
    assert "and the count of short ones together" in adaptive
    turns = made_up_mechanism(sampling="shuffled", noise_multiplier=4.0).statement()
    assert "zero out one of N = 60 clients" in turns
    assert "in any order, so nothing is gained by sampling" in turns


def test_with_few_clients_the_statement_leads_with_how_weak_delta_is():
    said = made_up_mechanism().statement()
    assert said.startswith("With only 60 clients δ is weak: at δ = 0.001 even a training that publishes")
    assert "6.0 % of all runs" in said
    assert "ε = 3.01 per client" in said


def test_noise_is_found_for_a_promise_and_kept():
    plan = calibrated(ClientPrivacy(epsilon=4.0), clients=60, expected=15, rounds=6, key=KEY)
    assert plan.delta == 1e-3
    assert 3.9 < plan.epsilon().epsilon <= 4.0
    assert plan.adaptive is None
    shuffled = ClientPrivacy(epsilon=4.0, sampling="shuffled")
    plan = calibrated(shuffled, clients=60, expected=15, rounds=6, key=KEY)
    assert 3.98 < plan.epsilon().epsilon <= 4.0
    given = ClientPrivacy(noise_multiplier=1.0, adaptive=True, target_quantile=0.7)
    plan = calibrated(given, clients=60, expected=15, rounds=6, key=KEY)
    assert plan.adaptive == AdaptiveClip(quantile=0.7, learning_rate=0.2, bit_noise=0.75)


def test_too_few_clients_for_the_promise_are_told_how_many_would_do():
    def planned(clients, delta):
        spec = ClientPrivacy(epsilon=0.2, delta=delta)
        return calibrated(spec, clients=clients, expected=clients, rounds=10, key=KEY)

    with pytest.raises(BadInput, match=r"Give about (\d+) clients") as caught:
        planned(20, 1e-3)
    enough = int(caught.value.fix.split()[2])
    assert enough > 20
    assert planned(enough, 1e-3).noise_multiplier <= enough


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"clients": 1, "expected": 1}, "cannot hide one among others"),
        ({"expected": 61}, "at most the 60 there are"),
        ({"expected": 0}, "above 0"),
        ({"delta": 1 / 60}, "publishing one of them whole"),
        ({"delta": 0.0}, "publishing one of them whole"),
        ({"noise_multiplier": 0.0}, "greater than 0"),
        ({"rounds": 0}, "greater than 0"),
        ({"key": b"short"}, "must have 32"),
        ({"key": bytes(32)}, "pattern that can be guessed"),
        ({"adaptive": AdaptiveClip(bit_noise=0.5)}, "alone would give away more"),
        ({"sampling": "shuffled", "adaptive": AdaptiveClip(bit_noise=9.0)}, "not accounted for"),
        ({"sampling": "shuffled", "expected": 7.5}, "must be whole"),
        ({"sampling": "all"}, "not a known choice"),
    ],
)
def test_what_promises_nothing_is_refused(changes, match):
    with pytest.raises(BadInput, match=match):
        made_up_mechanism(**changes)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"epsilon": 8, "noise_multiplier": 1}, "follows from the other"),
        ({"clip_norm": 2.0}, "nothing would be private"),
        ({"adaptive": True}, "nothing would be private"),
        ({"epsilon": 8, "bit_noise": 2.0}, "only where the clip norm adapts"),
        ({"epsilon": 8, "adaptive": True, "sampling": "shuffled"}, "noise of a tree"),
        ({"epsilon": 8, "adaptive": True, "target_quantile": 1.0}, "never comes to rest"),
        ({"epsilon": float("nan")}, "greater than 0"),
        ({"epsilon": 8, "delta": 1e-13}, "must be at least"),
        ({"epsilon": 8, "clip_norm": 0.0}, "greater than 0"),
        ({"epsilon": 8, "sampling": "fixed"}, "not a known choice"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, match):
    with pytest.raises(BadInput, match=match):
        ClientPrivacy(**settings)


def test_nothing_is_calibrated_for_nothing():
    with pytest.raises(BadInput, match="promises nothing"):
        calibrated(ClientPrivacy(), clients=60, expected=15, rounds=6, key=KEY)
    with pytest.raises(BadInput, match="6 are planned"):
        made_up_mechanism().epsilon(7)
    assert made_up_mechanism().epsilon(0).epsilon == 0
    with pytest.raises(BadInput, match="greater than 0"):
        made_up_mechanism().open_round(0, 0.0, LIKE)


def test_one_training_has_no_clients():
    with pytest.raises(BadInput, match="reticent federate"):
        PrivacySpec(epsilon=8, unit="client")


def test_rules_that_one_client_can_move_too_far_are_refused_under_a_promise():
    for name in ("median", "krum", "trimmed_mean"):
        with pytest.raises(BadInput, match="more than clip norm / expected clients"):
            refuse_with_promise(name, bounded=AGGREGATORS.get(name).bounded)
    with pytest.raises(BadInput, match="clipped to the clip norm already"):
        refuse_with_promise("norm_bound", bounded=AGGREGATORS.get("norm_bound").bounded)
    refuse_with_promise("mean", bounded=AGGREGATORS.get("mean").bounded)


def test_the_accountant_is_asked_once_for_the_same_rounds():
    made_up_mechanism().epsilon()
    before = accounting.spent.cache_info().misses
    made_up_mechanism(clip_norm=9.0, key=OTHER).epsilon()
    assert accounting.spent.cache_info().misses == before


def test_the_table_of_accountants_has_the_known_numbers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("federated_epsilon")
    row = benchmark.measure(benchmark.SETTINGS[0], calibrate=False)
    assert (row["ours"], row["flower"], row["none"]) == (pytest.approx(5.454, abs=3e-3), 33.723, None)
    assert benchmark.without_amplification(1.0, 30, 1e-5) == pytest.approx(39.832, abs=1e-3)
    assert benchmark.without_amplification(0.7, 30, 1e-5) == pytest.approx(66.404, abs=1e-3)
    assert benchmark.flower_noise(30, 1e-3) == pytest.approx(2.849, abs=2e-3)
