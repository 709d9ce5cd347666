# SPDX-License-Identifier: Apache-2.0
"""Votes: what one record or user can move, the noise on them, who is kept, and what that costs."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.privacy.spec import ADD_OR_REMOVE, REPLACE_ONE, ZERO_OUT
from reticent.synthesis.mechanisms.private_evolution import private_evolution
from reticent.synthesis.nearest_votes import histogram, histogram_naively, kept, nearest, noised
from reticent.synthesis.synthesis_mechanism import SynthesisMaterial
from reticent.synthesis.synthesis_spec import SynthesisSpec

KEY = hashlib.sha256(b"votes").digest()


def users(generator: np.random.Generator, records: int) -> list[tuple[int, ...]]:
    owner = generator.integers(0, 6, records)
    return [tuple(np.flatnonzero(owner == user).tolist()) for user in range(6) if (owner == user).any()]


def test_one_user_moves_the_histogram_by_at_most_one_and_it_is_that_of_the_twin() -> None:
    generator, reached = np.random.default_rng(2), 0.0
    for _ in range(100):
        votes = generator.integers(0, 4, 20)
        people = users(generator, 20)
        whole = histogram(votes, people, candidates=4)
        assert whole == pytest.approx(histogram_naively(votes.tolist(), people, candidates=4))
        for number in range(len(people)):
            without = histogram(votes, [*people[:number], *people[number + 1 :]], candidates=4)
            assert np.linalg.norm(whole - without) <= 1 + 1e-12
            reached = max(reached, float(np.linalg.norm(whole - without)))
        other = votes.copy()
        other[list(people[0])] = generator.integers(0, 4, len(people[0]))
        assert np.linalg.norm(whole - histogram(other, people, candidates=4)) <= math.sqrt(2) + 1e-12
    assert reached == pytest.approx(1.0)


def test_one_record_moves_it_by_one() -> None:
    votes = np.array([0, 1, 1])
    whole = histogram(votes, [(0,), (1,), (2,)], candidates=2)
    assert np.linalg.norm(whole - histogram(votes, [(0,), (1,)], candidates=2)) == 1.0


def test_the_nearest_is_by_angle_and_no_text_changes_the_vote_of_another() -> None:
    generator = np.random.default_rng(1)
    private, candidates = generator.normal(size=(30, 5)), generator.normal(size=(7, 5))
    votes = nearest(private, candidates)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (private, candidates)]
    assert votes.tolist() == (unit[0] @ unit[1].T).argmax(axis=1).tolist()
    assert nearest(private[3:4], candidates)[0] == votes[3]
    assert nearest(private[:2], np.stack([candidates[0]] * 3)).tolist() == [0, 0]
    assert nearest(np.zeros((1, 5)), candidates).tolist() == [0]


def test_noise_is_gaussian_of_the_key_and_the_round() -> None:
    zeros = np.zeros(20_000)
    first = noised(zeros, std=3.0, key=KEY, round_number=0)
    assert first.std() == pytest.approx(3.0, rel=0.02)
    assert abs(first.mean()) < 0.1
    assert np.array_equal(first, noised(zeros, std=3.0, key=KEY, round_number=0))
    assert abs(np.corrcoef(first, noised(zeros, std=3.0, key=KEY, round_number=1))[0, 1]) < 0.03


def test_who_is_kept_follows_the_votes_above_the_threshold() -> None:
    noisy = np.array([30.0, 5.0, 10.0, -4.0])
    chosen = kept(noisy, count=50, least=5.0, key=KEY, round_number=0)
    assert np.bincount(chosen, minlength=4).tolist() in ([41, 0, 9, 0], [42, 0, 8, 0])
    assert kept(noisy, count=3, least=99.0, key=KEY, round_number=0).tolist() == [0, 1, 2]
    assert kept(noisy[:1], count=3, least=99.0, key=KEY, round_number=0).tolist() == [0, 0, 0]


def material(count: int, **settings: object) -> SynthesisMaterial:
    records = [Record(id=f"r{n}", text="a", user=f"u{n}") for n in range(count)]
    spec = SynthesisSpec(mechanism="private_evolution", **settings)  # type: ignore[arg-type]
    return SynthesisMaterial(records=records, spec=spec, key=KEY)


@pytest.mark.parametrize(
    ("epsilon", "rounds", "relation"),
    [
        (8.0, 1, ADD_OR_REMOVE),
        (8.0, 10, ADD_OR_REMOVE),
        (2.0, 5, ZERO_OUT),
        (1.0, 3, ADD_OR_REMOVE),
        (4.0, 5, REPLACE_ONE),
        (0.5, 1, ADD_OR_REMOVE),
    ],
)
def test_epsilon_is_that_of_dp_accounting(epsilon: float, rounds: int, relation: str) -> None:
    plan = private_evolution(material(300, epsilon=epsilon, rounds=rounds, relation=relation, unit="user"))
    moves = math.sqrt(2) if relation == REPLACE_ONE else 1.0
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_event.SelfComposedDpEvent(dp_event.GaussianDpEvent(plan.noise / moves), rounds))
    other = accountant.get_epsilon(plan.delta)
    assert plan.promise.epsilon == pytest.approx(other, rel=1e-3)
    assert epsilon * (1 - 1e-6) <= plan.promise.epsilon <= epsilon


def test_too_few_units_are_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(BadInput, match=r"more than all votes together. Give (\d+) records or more") as caught:
        private_evolution(material(8, epsilon=0.5, rounds=10))
    enough = int(str(caught.value).split("Give ")[1].split()[0])
    private_evolution(material(enough, epsilon=0.5, rounds=10))
