# SPDX-License-Identifier: Apache-2.0
"""A whole round: sums for every way to drop out, what is refused, and that a masked vector tells nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from reticent.core.errors import BadInput
from reticent.federated.secure import secure_client
from reticent.federated.secure.ciphers import RefusedMessage
from reticent.federated.secure.keyed_hash import add_mask, keyed_hash
from reticent.federated.secure.messages import Survivors, from_bytes, to_bytes
from reticent.federated.secure.neighbours import neighbourhood_risks, neighbours
from reticent.federated.secure.secure_server import UnopenedRound
from reticent.testing.secure_rounds import PARTS, SecureRound, opened_sum, small_plan


def vectors(plan, seed=0):
    drawn = np.random.default_rng(seed).integers(-1000, 1000, size=(plan.clients, plan.dimension))
    return dict(enumerate(drawn))


def naive_sum(values, present):
    return sum(values[i] for i in present)


# ---- sums ----


def test_masks_cancel_to_the_bit(ciphers):
    plan = small_plan()
    values = vectors(plan)
    result = opened_sum(plan, ciphers, values)
    np.testing.assert_array_equal(result.total, naive_sum(values, range(5)))
    assert result.clients == (0, 1, 2, 3, 4)
    assert result.gone == ()


@pytest.mark.parametrize("part", PARTS)
def test_every_client_may_go_in_every_part(ciphers, part):
    """One of five may go, at a threshold of four. After its vector is in, it is in the sum."""
    plan = small_plan()
    values = vectors(plan, 1)
    for client in range(5):
        result = opened_sum(plan, ciphers, values, {client: part})
        present = range(5) if part == "reveal" else [i for i in range(5) if i != client]
        np.testing.assert_array_equal(result.total, naive_sum(values, present))
        assert result.clients == tuple(present)


def test_every_pattern_down_to_the_threshold(ciphers):
    """Any two of six may go, each in a part of its own."""
    plan = small_plan(clients=6, threshold=4, dimension=3)
    values = vectors(plan, 2)
    pairs = list(itertools.combinations(range(6), 2))
    for number, (one, other) in enumerate(pairs):
        parts = list(itertools.product(PARTS, PARTS))[number % 25]
        result = opened_sum(plan, ciphers, values, dict(zip((one, other), parts, strict=True)))
        gone = {i for i, part in zip((one, other), parts, strict=True) if part != "reveal"}
        np.testing.assert_array_equal(result.total, naive_sum(values, set(range(6)) - gone))


@pytest.mark.parametrize("part", PARTS)
def test_below_the_threshold_nothing_is_opened(ciphers, part):
    plan = small_plan()
    expected = RefusedMessage if part == "reveal" else UnopenedRound
    with pytest.raises((expected, UnopenedRound)):
        opened_sum(plan, ciphers, vectors(plan), {0: part, 3: part})


def test_a_ring_of_neighbours(ciphers):
    plan = small_plan(clients=9, threshold=7, degree=6, needed=4)
    values = vectors(plan, 3)
    for silent in ({}, {4: "vector"}, {1: "pieces", 6: "vector"}, {2: "reveal", 3: "keys"}):
        result = opened_sum(plan, ciphers, values, silent)
        gone = {i for i, part in silent.items() if part != "reveal"}
        np.testing.assert_array_equal(result.total, naive_sum(values, set(range(9)) - gone))


@pytest.mark.parametrize("bits", [8, 13, 32])
def test_sums_are_modulo_the_modulus(ciphers, bits):
    plan = small_plan(clients=3, threshold=3, bits=bits)
    values = {i: np.full(40, (1 << bits) // 3 - i, dtype=np.int64) for i in range(3)}
    total = opened_sum(plan, ciphers, values).total
    np.testing.assert_array_equal((total - naive_sum(values, range(3))) % (1 << bits), 0)
    assert total.min() >= -(1 << bits) // 2
    assert total.max() < (1 << bits) // 2


def test_with_the_library(ciphers):
    pytest.importorskip("cryptography")
    from reticent.federated.secure.ciphers import LibraryCiphers

    plan = small_plan()
    values = vectors(plan, 4)
    by_library = opened_sum(plan, LibraryCiphers(), values, {2: "vector"})
    np.testing.assert_array_equal(by_library.total, opened_sum(plan, ciphers, values, {2: "vector"}).total)


# ---- secrecy ----


def masked_vector(ciphers, value, salt, plan):
    round_ = SecureRound(plan, ciphers, salt=salt)
    deliveries = round_.until("vector")
    vector = np.full(plan.dimension, value & plan.mask, dtype=np.uint32)
    return round_.clients[0].mask(deliveries[0], vector)[1].values


def departure(values, bits):
    """p of uniformity, by Pearson's χ² over 64 cells of the upper bits and of the lower bits; the smaller, doubled."""
    tests = []
    for part in (values >> np.uint32(bits - 6), values & np.uint32(63)):
        counts = np.bincount(part, minlength=64)
        expected = len(values) / 64
        tests.append(chi2.sf(((counts - expected) ** 2 / expected).sum(), 63))
    return min(1.0, 2 * min(tests))


def test_a_masked_vector_is_uniform(ciphers):
    """At an error of 0.001 for each; with these keys none is below. And p over sessions is uniform itself."""
    plan = small_plan(dimension=20_000, clients=3, threshold=3)
    chances = [departure(masked_vector(ciphers, value, salt, plan), 16) for salt in range(4) for value in (0, 12345)]
    assert min(chances) > 0.001
    # A sender's vector tells nothing of a second one either: their difference is uniform.
    difference = masked_vector(ciphers, 7, 9, plan) - masked_vector(ciphers, 7, 10, plan)
    assert departure(difference & np.uint32(plan.mask), 16) > 0.001
    assert kstest(chances, "uniform").pvalue > 0.001


def test_a_vector_without_its_masks_is_seen(ciphers, monkeypatch):
    """Planted: masks that are all the same, and the same secrets in two sessions."""
    plan = small_plan(dimension=20_000, clients=3, threshold=3)
    twice = masked_vector(ciphers, 7, 1, plan) - masked_vector(ciphers, 8, 1, plan)
    assert departure(twice & np.uint32(plan.mask), 16) < 1e-6
    monkeypatch.setattr(secure_client, "add_mask", lambda vector, seed, sign: None)
    assert departure(masked_vector(ciphers, 12345, 0, plan), 16) < 1e-6


def test_masks_are_those_of_a_naive_loop():
    """Long enough for two chunks: word by word from the hash."""
    seed, count = b"s" * 32, (1 << 20) + 5
    vector = np.arange(count, dtype=np.uint32)
    add_mask(vector, seed, sign=1)
    for chunk, place in ((0, 0), (0, 1), (0, (1 << 20) - 1), (1, 0), (1, 4)):
        size = 4 << 20 if chunk == 0 else 20
        word = int.from_bytes(keyed_hash(seed, "mask", chunk, size=size)[4 * place : 4 * place + 4], "little")
        index = (chunk << 20) + place
        assert vector[index] == (index + word) % 2**32
    add_mask(vector, seed, sign=-1)
    np.testing.assert_array_equal(vector, np.arange(count))


# ---- what is refused ----


def test_a_server_that_asks_for_both_secrets_of_a_client_is_refused(ciphers):
    round_ = SecureRound(small_plan(), ciphers)
    survivors = round_.until("reveal")
    client, honest = round_.clients[0], survivors[0]
    for wrong in (
        replace(honest, absent=(1,)),
        replace(honest, present=(1, 2), absent=(3, 4), count=5),
        replace(honest, present=(1, 2, 3), absent=(), count=5),
        replace(honest, present=(1, 2, 3, 9), absent=(4,)),
        replace(honest, count=3),
        replace(honest, receiver=1),
        replace(honest, session=bytes(16)),
    ):
        with pytest.raises(RefusedMessage):
            client.unmask(wrong)
    after, _ = client.unmask(honest)
    with pytest.raises(RefusedMessage, match="out of turn"):
        after.unmask(Survivors(session=honest.session, receiver=0, present=(2, 3, 4), absent=(1,), count=4))


def test_halves_of_the_neighbours_do_not_give_two_secrets():
    """More than half of the pieces are needed for each, so the two lists would have to overlap."""
    for clients in range(3, 40):
        plan = small_plan(clients=clients, threshold=clients)
        for degree in range(2, clients):
            assert 2 * plan.pieces_of(degree) > degree
    with pytest.raises(BadInput, match="more than half"):
        small_plan(clients=9, threshold=5, degree=6, needed=3)
    with pytest.raises(BadInput, match="Give 6 or more"):
        small_plan(clients=9, threshold=4)


def test_the_server_refuses_replay_double_strange_and_changed_messages(ciphers):
    plan = small_plan()
    round_, other = SecureRound(plan, ciphers), SecureRound(small_plan(session=b"x" * 16), ciphers)
    server = round_.server
    keys = round_.tell(0, round_.clients[0].advertise)
    for wrong, sender, said in (
        (keys, 0, "second message"),
        (keys, 1, "in the name of another"),
        (replace(keys, sender=1), 1, "keys of another client"),
        (other.clients[1].advertise()[1], 1, "another session"),
        (replace(other.clients[1].advertise()[1], session=plan.session, masking=b"short"), 1, "another length"),
        (Survivors(session=plan.session, receiver=0, present=(), absent=(), count=0), 0, "out of turn"),
    ):
        with pytest.raises(RefusedMessage, match=said):
            server.receive(wrong, sender=sender)
    for client in range(1, 5):
        round_.tell(client, round_.clients[client].advertise)
    neighbourhoods = server.neighbourhoods()
    with pytest.raises(RefusedMessage, match="out of turn"):
        server.receive(keys, sender=0)
    for client in range(5):
        pieces = round_.clients[client].share(neighbourhoods[client])[1]
        with pytest.raises(RefusedMessage, match="others than"):
            server.receive(replace(pieces, envelopes={7: b""}), sender=client)
        round_.tell(client, round_.clients[client].share, neighbourhoods[client])
    deliveries = server.deliveries()
    for client in range(5):
        complaints = round_.clients[client].check(deliveries[client])[1]
        with pytest.raises(RefusedMessage, match="no envelope of"):
            server.receive(replace(complaints, against=(client,)), sender=client)
        round_.tell(client, round_.clients[client].check, deliveries[client])
    assert server.accusations() == {}
    partners = server.partners()
    vector = round_.clients[0].mask(partners[0], np.zeros(40, dtype=np.uint32))[1]
    for wrong in (vector.values[:-1], vector.values.astype(np.uint64), vector.values | np.uint32(1 << 20)):
        with pytest.raises(RefusedMessage, match="length, type or range"):
            server.receive(replace(vector, values=wrong), sender=0)


@pytest.mark.parametrize("which", ["masking", "sealing"])
def test_the_server_refuses_a_key_that_agrees_with_nobody(ciphers, which):
    """Handed on, it would stop every neighbour of the client that sent it."""
    round_ = SecureRound(small_plan(), ciphers)
    _, keys = round_.clients[0].advertise()
    with pytest.raises(RefusedMessage, match="agrees with nobody"):
        round_.server.receive(replace(keys, **{which: bytes(32)}), sender=0)
    round_.server.receive(keys, sender=0)


def test_the_client_says_which_envelopes_are_changed_or_swapped_and_refuses_strange_ones(ciphers):
    round_ = SecureRound(small_plan(), ciphers)
    honest = round_.until("check")[0]
    client = round_.clients[0]
    swapped = {1: honest.envelopes[2], **{i: honest.envelopes[i] for i in (2, 3, 4)}}
    changed = {**honest.envelopes, 1: honest.envelopes[1][:-1] + bytes([honest.envelopes[1][-1] ^ 1])}
    salted = {**honest.envelopes, 1: bytes([honest.envelopes[1][0] ^ 1]) + honest.envelopes[1][1:]}
    for envelopes in (swapped, changed, salted, {**honest.envelopes, 1: b""}):
        assert client.check(replace(honest, envelopes=envelopes))[1].against == (1,)
    assert client.check(replace(honest, digests={**honest.digests, 3: bytes(64)}))[1].against == (3,)
    for envelopes in ({**honest.envelopes, 9: b""}, {1: honest.envelopes[1]}):
        digests = dict.fromkeys(envelopes, bytes(64))
        with pytest.raises(RefusedMessage):
            client.check(replace(honest, envelopes=envelopes, digests=digests))


def test_the_client_masks_with_those_alone_whose_pieces_it_holds(ciphers):
    round_ = SecureRound(small_plan(), ciphers)
    partners, zeros = round_.until("vector")[0], np.zeros(40, dtype=np.uint32)
    client = round_.clients[0]
    forged = replace(partners, shown={1: bytes(66)})
    for wrong in (replace(partners, partners=(1, 2, 3, 9)), replace(partners, partners=(1, 2)), forged):
        with pytest.raises(RefusedMessage):
            client.mask(wrong, zeros)
    with pytest.raises(BadInput, match="below its modulus"):
        client.mask(partners, zeros + np.uint32(1 << 16))
    with pytest.raises(RefusedMessage, match="out of turn"):
        client.advertise()


def test_the_client_refuses_neighbourhoods_that_cannot_be(ciphers):
    round_ = SecureRound(small_plan(), ciphers)
    honest = round_.until("pieces")[0]
    keys = dict(honest.keys)
    for wrong in ({**keys, 0: keys[1]}, {**keys, 2: keys[1]}, {1: keys[1]}, {**keys, 1: b"short"}, {}):
        with pytest.raises(RefusedMessage):
            round_.clients[0].share(replace(honest, keys=wrong))


def test_a_changed_piece_is_found_and_gone_around_and_its_holder_known(ciphers):
    """Of five pieces three are needed: whoever changes one is left out, and three such are too many."""
    plan = small_plan(clients=6, threshold=4)
    values = vectors(plan, 5)
    for changed, opens in ((1, True), (3, False)):
        round_ = SecureRound(plan, ciphers)
        survivors = round_.until("reveal", values, {5: "vector"})
        for i in range(5):
            _, revealed = round_.clients[i].unmask(survivors[i])
            if i < changed:
                piece = revealed.keys[5]
                revealed = replace(revealed, keys={5: piece[:9] + bytes([piece[9] ^ (1 << i)]) + piece[10:]})
                with pytest.raises(RefusedMessage, match="changed"):
                    round_.server.receive(revealed, sender=i)
            else:
                round_.server.receive(revealed, sender=i)
        if opens:
            np.testing.assert_array_equal(round_.server.opened().total, naive_sum(values, range(5)))
        else:
            with pytest.raises(UnopenedRound, match="too few"):
                round_.server.opened()
        assert sorted(round_.server.guilty) == list(range(changed))


def test_bytes_that_are_no_message_are_refused(ciphers):
    keys = SecureRound(small_plan(), ciphers).clients[0].advertise()[1]
    data = to_bytes(keys)
    assert from_bytes(data) == keys
    lies = data.replace(b'"sender": 0', b'"sender":-1'), data.replace(b"PublicKeys", b"PublicSeas")
    for wrong in (b"", data[:5], data[:-1], data + b"x", b"\xff" * 40, *lies, data.replace(b"sender", b"sander")):
        with pytest.raises(RefusedMessage):
            from_bytes(wrong)


def test_a_round_ends_once(ciphers):
    round_ = SecureRound(small_plan(), ciphers)
    round_.until("end")
    for part in (round_.server.opened, round_.server.survivors, round_.server.neighbourhoods):
        with pytest.raises(RefusedMessage):
            part()


# ---- the graph ----


def test_the_ring_is_regular_mutual_and_in_another_order_for_another_key():
    graph = neighbours(range(11), degree=4, key=b"a" * 32)
    assert all(len(others) == 4 and client not in others for client, others in graph.items())
    assert all(client in graph[other] for client, others in graph.items() for other in others)
    assert graph != neighbours(range(11), degree=4, key=b"b" * 32)
    assert neighbours(range(4), degree=4, key=b"a" * 32) == neighbours(range(4), degree=None, key=b"a" * 32)


def test_risks_of_the_graph_bound_what_happens():
    """Naive twin: graphs drawn many times."""
    opened, stuck = neighbourhood_risks(20, degree=6, needed=4, colluders=5, silent=4)
    happened = np.zeros(2)
    for seed in range(400):
        graph = neighbours(range(20), degree=6, key=keyed_hash(b"k" * 32, "graph", seed))
        happened[0] += any(sum(j < 5 for j in others) >= 4 for i, others in graph.items() if i >= 5)
        happened[1] += any(sum(j >= 4 for j in others) < 4 for i, others in graph.items())
    assert happened[0] / 400 <= opened + 0.05
    assert happened[1] / 400 <= stuck + 0.05
