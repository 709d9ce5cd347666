# SPDX-License-Identifier: Apache-2.0
"""Clients that break the protocol of secure rounds: who is named, which rounds are lost, when the run stops."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.federated.secure.blamed_clients import FILE as BLAMED
from reticent.federated.secure.ciphers import RefusedMessage
from reticent.federated.secure.disputes import IN_QUARRELS, WRONG_PIECES, Disputes
from reticent.federated.secure.messages import (
    Accusation,
    Complaints,
    MaskedVector,
    RevealedPieces,
    SealedPieces,
    from_bytes,
    to_bytes,
)
from reticent.federated.secure.secure_client import SecureClient
from reticent.federated.secure.secure_clients import Reply
from reticent.federated.secure.secure_server import CHANGED_PIECES, NOT_ONE_POLYNOMIAL
from reticent.testing.naive_ciphers import QuickCiphers
from reticent.testing.secure_rounds import SecureRound, small_plan
from tests.federated.secure.test_secure_federation import (
    ROUNDS,
    Dying,
    Killed,
    Meddling,
    Toy,
    ToyClients,
    mechanism_of,
    naive,
    off,
    rounding,
    start,
    turns,
)

ODD = turns(1)[0]
"""A client that breaks the protocol. It is asked in one round of each pass of two."""
ITS_ROUNDS = [round_ for round_ in range(1, ROUNDS + 1) if ODD in turns(round_)]


def meddled(kind, change):
    """Changes messages of a kind that the odd client sends."""

    def changed(reply):
        message = from_bytes(reply.data)
        if isinstance(message, kind) and message.sender == ODD:
            message = change(message)
        yield Reply(client=reply.client, data=to_bytes(message))

    return lambda clients: Meddling(clients, changed)


def flipped(text):
    return text[:-1] + bytes([text[-1] ^ 1])


def each(change):
    return lambda texts: {number: change(text) for number, text in texts.items()}


def said_of(toy, round_, client=ODD):
    return {drop.why for drop in toy.state.rows[round_ - 1].dropped if drop.client == f"c{client}"}


def blamed(folder):
    lines = [json.loads(line) for line in (folder / BLAMED).read_text().splitlines()]
    return [(line["client"], line["round"], line["reason"]) for line in lines[1:]]


def opened(toy):
    return [row.changed for row in toy.state.rows]


# ---- one client that breaks its part ---------------------------------------------------------------------------------


def test_honest_clients_are_in_no_quarrel_and_nobody_is_blamed(tmp_path):
    toy = Toy(tmp_path)
    toy.run()
    assert opened(toy) == [True] * ROUNDS
    assert blamed(tmp_path) == []
    assert all(not row.dropped for row in toy.state.rows)


def test_broken_envelopes_cost_their_sender_its_place_and_no_round(tmp_path):
    """Before, each neighbour fell silent on one, so a single client stopped each of its rounds and was not named."""
    break_all = meddled(SealedPieces, lambda sent: replace(sent, envelopes=each(flipped)(sent.envelopes)))
    toy = Toy(tmp_path, wrap=break_all)
    assert all(check.passed for check in toy.finish())
    assert opened(toy) == [True] * ROUNDS
    assert all(IN_QUARRELS in said_of(toy, round_) for round_ in ITS_ROUNDS)
    assert {drop.client for row in toy.state.rows for drop in row.dropped} == {f"c{ODD}"}
    assert off(toy.state.arrays, naive(without=[(ODD, round_) for round_ in ITS_ROUNDS])) < rounding()
    assert blamed(tmp_path) == []  # its neighbours could all have lied


def test_one_broken_envelope_is_made_good_by_showing_what_was_in_it(tmp_path, whole):
    def break_one(sent):
        first = min(sent.envelopes)
        return replace(sent, envelopes={**sent.envelopes, first: flipped(sent.envelopes[first])})

    toy = Toy(tmp_path, wrap=meddled(SealedPieces, break_one))
    assert all(check.passed for check in toy.finish())
    assert all(torch.equal(array, toy.state.arrays[name]) for name, array in whole.items())
    assert all(any("shown in the open" in why for why in said_of(toy, round_)) for round_ in ITS_ROUNDS)


def test_a_client_that_complains_about_everybody_stops_nothing(tmp_path, whole):
    lies = meddled(Complaints, lambda sent: replace(sent, against=present_with(sent)))
    toy = Toy(tmp_path, wrap=lies)
    assert all(check.passed for check in toy.finish())
    assert all(torch.equal(array, toy.state.arrays[name]) for name, array in whole.items())
    assert blamed(tmp_path) == []


def present_with(sent):
    """The others of the round that the odd client is in; sessions tell rounds apart."""
    (round_,) = (r for r in ITS_ROUNDS if mechanism_of().plan(r - 1).session == sent.session)
    return tuple(i for i in turns(round_) if i != ODD)


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        (SealedPieces, lambda sent: replace(sent, digests=each(flipped)(sent.digests)), WRONG_PIECES),
        (RevealedPieces, lambda sent: replace(sent, seeds=each(flipped)(sent.seeds)), CHANGED_PIECES),
    ],
)
def test_what_is_proven_leaves_a_client_out_of_later_rounds(tmp_path, kind, change, why):
    toy = Toy(tmp_path, wrap=meddled(kind, change))
    assert all(check.passed for check in toy.finish())
    assert opened(toy) == [True] * ROUNDS
    assert blamed(tmp_path) == [(ODD, ITS_ROUNDS[0], why)]
    assert why in said_of(toy, ITS_ROUNDS[0])
    assert said_of(toy, ITS_ROUNDS[1]) == {f"left out since round {ITS_ROUNDS[0]}, when it sent {why}"}


@pytest.fixture
def deals_no_secret(monkeypatch):
    """The odd client's pieces are on no polynomial, and its digests are of just those."""
    dealt = SecureClient._dealt

    def no_secret(self):
        pieces = dealt(self)
        return {i: piece[:1] + bytes([i] * 65) for i, piece in pieces.items()} if self.number == ODD else pieces

    monkeypatch.setattr(SecureClient, "_dealt", no_secret)


def test_pieces_of_no_secret_cost_one_round_and_their_dealer_all_others(tmp_path, deals_no_secret):
    """No holder can see it before the vectors are in; at the end it is proven."""
    toy = Toy(tmp_path)
    assert all(check.passed for check in toy.finish())
    assert opened(toy) == [round_ != ITS_ROUNDS[0] for round_ in range(1, ROUNDS + 1)]
    assert blamed(tmp_path) == [(ODD, ITS_ROUNDS[0], NOT_ONE_POLYNOMIAL)]
    assert toy.promise.ledger.rounds == ROUNDS


def test_a_run_that_was_killed_knows_whom_it_left_out(tmp_path, deals_no_secret):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    once = Toy(tmp_path / "whole").run()
    for at in (24, 30):
        with pytest.raises(Killed):
            Toy(tmp_path / "killed", wrap=lambda clients, at=at: Dying(clients, at)).run()
    again = Toy(tmp_path / "killed").run()
    assert all(torch.equal(array, again.arrays[name]) for name, array in once.arrays.items())
    assert [row.dropped for row in again.rows] == [row.dropped for row in once.rows]
    assert blamed(tmp_path / "killed") == blamed(tmp_path / "whole")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("whole")).run().arrays


# ---- quarrels --------------------------------------------------------------------------------------------------------


def test_few_liars_cannot_turn_out_many_that_are_honest():
    """Two of five say that no envelope of the others opens: one of them goes, and nobody who is honest."""
    disputes = Disputes(spare=dict.fromkeys(range(5), 1), complaints={0: (2, 3, 4), 1: (2, 3, 4), 2: (), 3: (), 4: ()})
    assert disputes.accused() == {2: (0,), 3: (0,), 4: (0,)}
    disputes.shown = {(honest, 0): b"pieces" for honest in (2, 3, 4)}
    assert disputes.removed({}) == (1,)


def test_of_two_in_a_quarrel_the_one_goes_that_showed_nothing():
    disputes = Disputes(spare=dict.fromkeys(range(3), 1), complaints={0: (2,), 1: (), 2: ()})
    assert disputes.removed({}) == (2,)
    assert disputes.removed({1: "guilty", 9: "long gone"}) == (1, 2)
    disputes.shown = {(2, 0): b"pieces"}
    assert disputes.removed({}) == ()


def test_a_client_shows_no_more_than_it_can_spare(ciphers):
    """Fewer than half of the pieces; nor for a stranger, a second time, or under way to another client."""
    round_ = SecureRound(small_plan(clients=6, threshold=4), ciphers)
    delivered = round_.until("check")[0]
    client = round_.clients[0].check(delivered)[0]
    asked = Accusation(session=round_.plan.session, receiver=0, by=(1, 2))
    after, shown = client.show(asked)
    assert sorted(shown.pieces) == [1, 2]
    for state, wrong in (
        (client, replace(asked, by=(1, 2, 3))),
        (client, replace(asked, by=(9,))),
        (client, replace(asked, receiver=1)),
        (after, asked),
    ):
        with pytest.raises(RefusedMessage):
            state.show(wrong)


# ---- rounds that never open ------------------------------------------------------------------------------------------


def spoiling(clients):
    """The first client's vectors are what no clipped update gives; that cannot be traced to it."""

    def change(reply):
        message = from_bytes(reply.data)
        if isinstance(message, MaskedVector) and message.sender == 0:
            message = replace(message, values=message.values + np.uint32(1 << 24))
        yield Reply(client=reply.client, data=to_bytes(message))

    return Meddling(clients, change)


def test_rounds_that_never_open_stop_the_run_before_they_use_up_the_promise(tmp_path):
    always = mechanism_of(clients=5, rounds=8)  # one group, so that the client is in each round
    for _ in range(2):  # the same command again spends nothing more
        toy = Toy(tmp_path, always, wrap=spoiling)
        with pytest.raises(BadInput, match=r"3 rounds in a row: changed nothing.*round 3: c0 c1 c2 c3 c4 \(in a sum"):
            toy.run()
        assert Toy(tmp_path, always).state.round == toy.promise.ledger.rounds == 3
    toy = Toy(tmp_path, always, most_unopened=6)  # who has seen to it goes on where it was
    assert all(check.passed for check in toy.finish())
    assert opened(toy) == [False] * 3 + [True] * 5


def test_clients_that_stay_silent_are_named_when_the_run_stops(tmp_path):
    silent = ToyClients({(client, round_): None for client in (1, 3) for round_ in range(1, 9)})
    with pytest.raises(BadInput, match=r"round 1: c1 c3 \(no answer\)") as refused:
        Toy(tmp_path, mechanism_of(clients=5, rounds=8), grid=silent, most_unopened=2).run()
    assert "--secure_unopened 4" in str(refused.value)


def test_a_client_that_spoils_the_sum_makes_the_round_change_nothing(tmp_path):
    """A vector that no clipped update gives shows in the length of the sum; nobody can say whose it is."""

    def change(reply):
        message = from_bytes(reply.data)
        if isinstance(message, MaskedVector) and message.sender == turns(2)[0]:
            message = replace(message, values=message.values + np.uint32(1 << 24))
        yield Reply(client=reply.client, data=to_bytes(message))

    toy = Toy(tmp_path, wrap=lambda clients: Meddling(clients, change))
    assert all(check.passed for check in toy.finish())
    first = toy.state.rows[: len(turns(2))]
    assert [row.changed for row in first] == [turns(2)[0] not in turns(row.number) for row in first]
    assert any("longer than" in drop.why for drop in first[1].dropped)


def test_which_rounds_changed_nothing_tells_nothing_of_what_a_client_sends(tmp_path):
    """It is published without noise. Between neighbouring federations, where one client sends zeros, it is the same."""
    lost, changed = turns(2), []
    for place, zeros in enumerate((False, True)):
        odd = {(client, 2): None for client in lost[:2]}  # below the threshold
        for round_ in range(1, ROUNDS + 1) if zeros else ():
            odd.setdefault((lost[2], round_), {name: 0 * array for name, array in start().items()})
        (tmp_path / str(place)).mkdir()
        toy = Toy(tmp_path / str(place), grid=ToyClients(odd))
        toy.finish()
        changed.append([row.changed for row in toy.promise.published(toy.state.rows)])
        assert all(not row.dropped and row.answered is None for row in toy.promise.published(toy.state.rows))
    assert changed == [[True, False, True, True]] * 2
    world, server = (toy.promise.observers(ROUNDS)[place] for place in (0, 2))
    assert world.epsilon == server.epsilon  # nothing is gained from who was there


# ---- a round that is run again with other neighbours -----------------------------------------------------------------


class WatchedCiphers(QuickCiphers):
    """Keeps what is sealed under which key; the nonce is always the same."""

    def __init__(self):
        self.texts = {}

    def sealed(self, key, text, about):
        self.texts.setdefault(key, set()).add(text)
        return super().sealed(key, text, about)

    @property
    def used_twice(self):
        return sum(len(texts) > 1 for texts in self.texts.values())


def sealed_twice(ciphers):
    """Client 0's envelopes in a round, and in the same one when it is run again without client 4.

    With four neighbours three pieces open a secret, with three two do: other pieces for the same receivers."""
    plan = small_plan(degree=4, threshold=3)
    sent = []
    for silent in ({}, {4: "keys"}):
        round_ = SecureRound(plan, ciphers)
        sent.append(round_.clients[0].advertise()[0].share(round_.until("pieces", silent=silent)[0])[1])
    return sent


def test_no_key_seals_two_texts_when_a_round_is_run_again_with_other_neighbours(monkeypatch):
    ciphers = WatchedCiphers()
    first, second = sealed_twice(ciphers)
    assert set(first.envelopes) == {1, 2, 3, 4}
    assert set(second.envelopes) == {1, 2, 3}
    assert ciphers.texts
    assert ciphers.used_twice == 0
    assert not set(first.digests.values()) & set(second.digests.values())
    # Planted: a key of the two clients and the session alone.
    with_salt = SecureClient._envelope_key
    monkeypatch.setattr(SecureClient, "_envelope_key", lambda self, one, other, salt: with_salt(self, one, other, b""))
    ciphers = WatchedCiphers()
    sealed_twice(ciphers)
    assert ciphers.used_twice == 3


def test_a_round_that_is_run_again_with_the_same_neighbours_sends_the_same_envelopes():
    plan, ciphers = small_plan(degree=4, threshold=3), WatchedCiphers()
    one, other = (SecureRound(plan, ciphers) for _ in range(2))
    assert one.until("check") == other.until("check")
    assert ciphers.used_twice == 0


def test_pieces_for_other_neighbours_are_of_other_polynomials():
    """Else those of both runs went together, and more clients would hold pieces of a secret than are counted."""
    plan, ciphers = small_plan(clients=7, degree=4, threshold=5), QuickCiphers()
    client = SecureRound(plan, ciphers).clients[0].advertise()[0]
    one = replace(client, peers=dict.fromkeys((1, 2, 3, 4), bytes(64)))._dealt()
    two = replace(client, peers=dict.fromkeys((3, 4, 5, 6), bytes(64)))._dealt()
    assert all(one[holder][:33] != two[holder][:33] and one[holder][33:] != two[holder][33:] for holder in (3, 4))
