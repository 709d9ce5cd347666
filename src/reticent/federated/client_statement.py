# SPDX-License-Identifier: Apache-2.0
"""The sentence of a promise to clients: ε with its unit, δ, relation, number of clients, rate and rounds."""

from __future__ import annotations

from reticent.core.composed_epsilon import rounded_up

FEW = 200
"""With fewer clients the sentence begins with how weak δ is."""
HOW = {
    "poisson": (
        "add or remove one of N = {clients} clients; each drawn by a coin of its own with q = {rate:.3g}, Gaussian "
        "noise z = {noise:.3g} on the sum of clipped updates"
    ),
    "adaptive": (
        "add or remove one of N = {clients} clients; each drawn by a coin of its own with q = {rate:.3g}, Gaussian "
        "noise z = {noise:.3g} on the sum of clipped updates and the count of short ones together"
    ),
    "shuffled": (
        "zero out one of N = {clients} clients; each takes part at most once in a pass, in any order, so nothing is "
        "gained by sampling, q = {rate:.3g}; noise of a binary tree over the rounds of a pass, z = {noise:.3g} in each "
        "node"
    ),
}
"""The difference between neighbours, and the mechanism, by sampling."""


def client_statement(
    *, epsilon: float, delta: float, clients: int, expected: float, rounds: int, noise_multiplier: float, how: str
) -> str:
    """The promise to each client; every number is rounded up.

    Args:
        epsilon: upper bound.
        delta: chance that it may fail, for each client.
        clients: N.
        expected: clients of a round.
        rounds: that were run.
        noise_multiplier: z.
        how: "poisson", "adaptive" (the same, with an adaptive clip norm) or "shuffled".

    >>> client_statement(
    ...     epsilon=4.178, delta=1e-5, clients=2000, expected=200, rounds=30, noise_multiplier=1.0, how="poisson"
    ... )  # doctest: +ELLIPSIS
    'ε = 4.18 per client at δ = 1e-05 (add or remove one of N = 2000 clients; ... q = 0.1, ...; 30 rounds; ...).'
    """
    mechanism = HOW[how].format(clients=clients, rate=expected / clients, noise=noise_multiplier)
    text = (
        f"ε = {rounded_up(epsilon)} per client at δ = {delta:.2g} ({mechanism}; {number_of_rounds(rounds)}; counted by "
        "privacy loss distributions)."
    )
    return f"{weak_delta(delta, clients)} {text}" if clients < FEW else text


def weak_delta(delta: float, clients: int) -> str:
    """The worst that is permitted by a δ that so few clients allow for.

    >>> weak_delta(1e-3, 20)  # doctest: +ELLIPSIS
    "With only 20 clients δ is weak: at δ = 0.001 even a training that publishes ... would keep this promise."
    """
    share = rounded_up(100 * delta * clients, 1)
    return (
        f"With only {clients} clients δ is weak: at δ = {delta:.2g} even a training that publishes a client's update "
        f"whole in {share} % of all runs would keep this promise."
    )


def number_of_rounds(rounds: int) -> str:
    """So many rounds, in words.

    >>> number_of_rounds(1)
    '1 round'
    """
    return f"{rounds} round{'' if rounds == 1 else 's'}"
