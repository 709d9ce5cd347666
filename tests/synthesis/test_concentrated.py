# SPDX-License-Identifier: Apache-2.0
"""ε of private prediction equals independent computations, and the bound of a token holds for the mechanism itself."""

from __future__ import annotations

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant
from scipy.special import log_softmax, logsumexp

from reticent.core.errors import BadInput
from reticent.privacy.spec import ADD_OR_REMOVE, REPLACE_ONE, ZERO_OUT
from reticent.synthesis.concentrated import clip_for, epsilon_of_rho, rho_for, rho_of_token

PUBLISHED_EPSILON = [
    (64, 1.0, 8, 1.0, 1e-5, 4.728386984943314),
    (10, 0.5, 4, 1.0, 1e-5, 1.6707943697242313),
    (500, 0.3, 7, 1.1, 1e-6, 4.47041114231776),
    (200, 4.0, 32, 1.2, 1e-6, 8.14384426817459),
    (32, 0.1, 8, 1.0, 1e-5, 0.25811601674015516),
    (1000, 2.0, 64, 0.8, 1e-6, 6.643071871137559),
]
"""Tokens, clip, references, temperature, δ → ε, as the authors' package (invink 0.1.0) counts it."""
PUBLISHED_CLIP = [
    (8.0, 64, 1.0, 8, 1e-5, 1.5682566918469891),
    (1.0, 64, 1.0, 8, 1e-5, 0.24721082176004983),
    (8.0, 500, 1.1, 7, 1e-6, 0.49957704547020126),
    (3.0, 100, 0.9, 15, 1e-4, 1.0160490522221313),
    (10.0, 200, 1.2, 31, 1e-6, 4.615317458842169),
    (0.5, 32, 1.0, 32, 1e-5, 0.7378034683000902),
]
"""ε, tokens, temperature, references, δ → clip, by the same."""
ORDERS = 1 + np.exp(np.linspace(-5, 9, 20_000))


@pytest.mark.parametrize(("tokens", "clip", "references", "temperature", "delta", "published"), PUBLISHED_EPSILON)
def test_epsilon_is_that_of_the_authors_and_of_dp_accounting(
    tokens: int, clip: float, references: int, temperature: float, delta: float, published: float
) -> None:
    token = rho_of_token(clip=clip, references=references, temperature=temperature, relation=ADD_OR_REMOVE)
    epsilon = epsilon_of_rho(tokens * token, delta)
    assert epsilon == pytest.approx(published, rel=1e-6)
    event = dp_event.SelfComposedDpEvent(dp_event.ZCDpEvent(token), tokens)
    other = RdpAccountant(ORDERS).compose(event).get_epsilon(delta)
    assert epsilon == pytest.approx(other, rel=1e-4)
    assert epsilon <= other


@pytest.mark.parametrize(("epsilon", "tokens", "temperature", "references", "delta", "published"), PUBLISHED_CLIP)
def test_the_clip_is_that_of_the_authors(
    epsilon: float, tokens: int, temperature: float, references: int, delta: float, published: float
) -> None:
    rho = rho_for(epsilon, delta) / tokens
    clip = clip_for(rho, references=references, temperature=temperature, relation=ADD_OR_REMOVE)
    assert clip == pytest.approx(published, rel=1e-6)
    token = rho_of_token(clip=clip, references=references, temperature=temperature, relation=ADD_OR_REMOVE)
    assert epsilon * (1 - 1e-9) <= epsilon_of_rho(tokens * token, delta) <= epsilon * (1 + 1e-12)


def test_who_is_replaced_pays_four_times_as_much() -> None:
    paid = {
        relation: rho_of_token(clip=1.0, references=4, temperature=1.0, relation=relation)
        for relation in (ADD_OR_REMOVE, ZERO_OUT, REPLACE_ONE)
    }
    assert paid[ADD_OR_REMOVE] == paid[ZERO_OUT] == 1 / 32
    assert paid[REPLACE_ONE] == 1 / 8


@pytest.mark.parametrize("extreme", [False, True])
def test_the_renyi_divergence_of_the_mechanism_itself_is_below_the_bound(*, extreme: bool) -> None:
    """Scores of five tokens with a unit and without it; the divergence of the two choices by its definition."""
    generator = np.random.default_rng(5)
    for _ in range(200):
        clip, references, temperature = generator.uniform(0.05, 3), generator.integers(1, 6), generator.uniform(0.5, 2)
        without, moves = generator.normal(0, 3, 5), generator.normal(0, 3, 5)
        if extreme:
            moves = clip * generator.choice([-1.0, 1.0], 5)
        added = np.clip(moves, -clip, clip) / references
        p, q = (log_softmax(scores / temperature) for scores in (without + added, without))
        rho = rho_of_token(clip=clip, references=references, temperature=temperature, relation=ADD_OR_REMOVE)
        for order in (1.5, 2.0, 8.0, 64.0):
            for first, second in ((p, q), (q, p)):
                divergence = float(logsumexp(order * first + (1 - order) * second)) / (order - 1)
                assert divergence <= order * rho + 1e-9


def test_the_bound_is_nearly_reached() -> None:
    """Half of the chance on tokens that a unit lifts as far as it can, the rest where it pushes as far as it can."""
    clip, references = 0.2, 4
    without = np.zeros(2)
    added = np.array([clip, -clip]) / references
    p, q = (log_softmax(scores) for scores in (without + added, without))
    divergence = float(logsumexp(2 * p - q))
    rho = rho_of_token(clip=clip, references=references, temperature=1.0, relation=ADD_OR_REMOVE)
    assert divergence == pytest.approx(2 * rho, rel=0.01)


def test_nothing_costs_nothing_and_nonsense_is_refused() -> None:
    assert epsilon_of_rho(0.0, 1e-5) == 0.0
    assert epsilon_of_rho(1e-12, 0.5) == 0.0
    with pytest.raises(BadInput):
        epsilon_of_rho(-1.0, 1e-5)
    with pytest.raises(BadInput):
        rho_for(0.0, 1e-5)
