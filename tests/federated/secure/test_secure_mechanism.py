# SPDX-License-Identifier: Apache-2.0
"""Turns, calibration and statement of a secure federation, and the settings that it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reticent.core.errors import BadInput
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.secure.distributed_epsilon import Observation, distributed_epsilon
from reticent.federated.secure.secure_mechanism import settled_secure
from reticent.federated.secure.secure_spec import SecureAggregation
from reticent.privacy import accounting
from reticent.privacy.mechanism import Mechanism

KEY = bytes(range(32))
SECURE = SecureAggregation(secure_aggregation=True)
SPEC = FederationSpec(rounds=15, clients_per_round=20)
PRIVACY = ClientPrivacy(epsilon=8.0, sampling="shuffled")


def settled(secure=SECURE, privacy=PRIVACY, spec=SPEC, clients=98):
    return settled_secure(secure, privacy, spec, clients=clients, dimension=1000, key=KEY)


def test_all_have_one_turn_a_pass_and_groups_are_alike():
    mechanism = settled()
    assert mechanism.pass_length == 5
    for first in (0, 5, 10):
        groups = [mechanism.sampled(first + place).tolist() for place in range(5)]
        assert sorted(client for group in groups for client in group) == list(range(98))
        assert {len(group) for group in groups} == {19, 20}
    assert mechanism.sampled(0).tolist() != mechanism.sampled(5).tolist()
    with pytest.raises(BadInput, match="round 15"):
        mechanism.sampled(15)


def test_epsilon_is_that_of_turns_and_of_the_threshold():
    """Not of the rounds, and not of all who answer; and not below that of one Gaussian of the same noise."""
    mechanism = settled()
    assert mechanism.appearances(15) == 3
    expected = distributed_epsilon(mechanism.noise, Observation(3, 1.0, 14), delta=mechanism.delta)
    assert 7.9 < mechanism.epsilon() == expected <= 8.0
    gaussian = Mechanism(noise_multiplier=mechanism.noise.noise_multiplier, rate=1.0)
    assert accounting.spent(gaussian, steps=3, delta=mechanism.delta).epsilon < expected
    assert mechanism.epsilon(5) < mechanism.epsilon(6) == mechanism.epsilon(10)
    by_name = {row.name: row.epsilon for row in mechanism.observers(15)}
    assert by_name["the world"] == by_name["the server"] == expected
    assert by_name["the server and 1 client of a round"] > expected
    assert "14 carry z" in mechanism.statement()
    assert mechanism.statement().startswith("With only 98 clients")
    assert KEY.hex() not in repr(mechanism)


def test_sessions_and_keys_are_others_for_each_round_and_client():
    mechanism = settled()
    assert len({mechanism.plan(number).session for number in range(15)}) == 15
    assert mechanism.plan(3) == settled().plan(3)
    assert len({mechanism.client_key(name) for name in ("ana", "bob", "")} | {mechanism.server_key(0), KEY}) == 5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"clients": 21}, "could never be opened"),
        ({"secure": replace(SECURE, secure_bits=12)}, "Take 1[0-9] bits"),
        ({"secure": replace(SECURE, secure_threshold=9)}, "could not be opened"),
        ({"secure": replace(SECURE, secure_colluders=13)}, "no promise against so many"),
        ({"secure": replace(SECURE, secure_neighbours=5)}, "must be even"),
        ({"privacy": replace(PRIVACY, epsilon=0.2)}, "clients a round, or a larger epsilon"),
        ({"privacy": replace(PRIVACY, delta=0.1)}, "is so large that publishing"),
    ],
)
def test_numbers_that_cannot_hold_are_refused(given, said):
    with pytest.raises(BadInput, match=said):
        settled(**given)


def test_neighbours_of_a_ring_are_enough():
    mechanism = settled(replace(SECURE, secure_neighbours=10))
    assert mechanism.plan(0).neighbours_of(20) == 10
    assert "6 neighbours" in mechanism.observers(15)[-1].name


@pytest.mark.parametrize(
    ("spec", "privacy", "engine", "said"),
    [
        ({"record_updates": True}, {}, "local", "no single update ever reaches"),
        ({"aggregation": "median"}, {}, "local", "looks at single updates"),
        ({"aggregation": "krum"}, {}, "local", "looks at single updates"),
        ({"aggregation": "norm_bound"}, {}, "local", "looks at single updates"),
        ({"weighting": "size"}, {}, "local", "count alike"),
        ({"clients_per_round": 2}, {}, "local", "each knows another's update"),
        ({"clients_per_round": 5}, {}, "local", "only 5 clients"),
        ({}, {"epsilon": None, "sampling": "poisson"}, "local", "without noise"),
        ({}, {"sampling": "poisson"}, "local", "all take turns"),
        ({}, {"sampling": "poisson", "adaptive": True}, "local", "a secure sum of its own"),
        ({}, {}, "ray", "masks would hide nothing"),
    ],
)
def test_what_needs_single_updates_or_cannot_be_counted_is_refused(spec, privacy, engine, said):
    secure = replace(SECURE, secure_threshold=6)
    with pytest.raises(BadInput, match=said):
        secure.refuse(replace(SPEC, **spec), replace(PRIVACY, **privacy), engine=engine)
    secure.refuse(SPEC, PRIVACY, engine="local")
    SecureAggregation().refuse(replace(SPEC, record_updates=True), ClientPrivacy(), engine="ray")


def test_settings_without_the_flag_are_refused():
    for given in ({"secure_threshold": 4}, {"secure_bits": 20}, {"secure_colluders": 3}):
        with pytest.raises(BadInput, match="which is off"):
            SecureAggregation(**given)
    with pytest.raises(BadInput, match="secure_bits"):
        SecureAggregation(secure_aggregation=True, secure_bits=40)
