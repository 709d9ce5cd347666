# SPDX-License-Identifier: Apache-2.0
"""The table of a secure federation: each observer, what it sees, and the ε that holds against it.

One ε would mislead: the sum is noised for everybody, but a server sees who takes part, colluders subtract the noise
that they added themselves, and enough of them can open a vector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.federated.secure.distributed_epsilon import Observation, distributed_epsilon
from reticent.federated.secure.distributed_noise import DistributedNoise
from reticent.federated.secure.secure_plan import SecurePlan


@dataclass(frozen=True, kw_only=True)
class SecureRun:
    """A secure federation in the numbers that its promises depend on.

    Args:
        plan: of its sessions.
        noise: of each round.
        rounds: in all.
        rate: chance of a client to be drawn for a round.
        appearances: the most rounds that any one client sends an update in, which the client counts itself.
        delta: of every promise.
        topped_up: the server adds noise to what it publishes, see `DistributedNoise.top_up`.

    Raises:
        BadInput: the plan opens sums of fewer or more clients than the noise is for, or of another dimension, or its
            modulus is too small.
    """

    plan: SecurePlan
    noise: DistributedNoise
    rounds: int
    rate: float
    appearances: int
    delta: float
    topped_up: bool

    def __post_init__(self) -> None:
        validate.positive(rounds=self.rounds)
        validate.in_range(0, self.rounds, appearances=self.appearances)
        plan, noise = self.plan, self.noise
        if (plan.threshold, plan.clients) != (noise.threshold, noise.clients):
            raise BadInput(
                f"a plan for {plan.threshold} to {plan.clients} clients",
                f"does not fit to noise for {noise.threshold} to {noise.clients}, so its promise would be another one",
                "Make both from the same numbers.",
            )
        if plan.dimension != noise.lattice.dimension:
            raise BadInput(
                f"a plan for {plan.dimension} numbers",
                f"and noise for {noise.lattice.dimension}",
                "Give both the same.",
            )
        noise.check_bits(plan.bits, self.rounds)


@dataclass(frozen=True, kw_only=True)
class Observer:
    """One row.

    Args:
        name: who looks.
        sees: what.
        epsilon: that holds against it, for a client; infinite where none does.
        delta: of that ε.
        rests_on: what the number takes for granted.
    """

    name: str
    sees: str
    epsilon: float
    delta: float
    rests_on: str


def who_sees_what(run: SecureRun, *, colluders: int) -> tuple[Observer, ...]:
    """The rows, about from the one who sees least to the one who sees most.

    Args:
        run: the federation.
        colluders: clients that tell the server all that they know.

    Examples:
        >>> noise = DistributedNoise.fitted(clip_norm=1, dimension=1000, noise_multiplier=1, threshold=16, clients=20)
        >>> plan = SecurePlan(session=bytes(16), dimension=1000, clients=20, threshold=16)
        >>> run = SecureRun(
        ...     plan=plan, noise=noise, rounds=30, rate=0.1, appearances=6, delta=1e-5, topped_up=True
        ... )
        >>> rows = who_sees_what(run, colluders=2)
        >>> [row.epsilon < next_row.epsilon for row, next_row in zip(rows, rows[1:])]
        [True, True, True, True]
    """
    threshold, pieces = run.noise.threshold, run.plan.pieces_of(run.plan.neighbours_of(run.plan.clients))
    validate.in_range(-1, pieces - 1, colluders=colluders)
    seen = f"at most {run.appearances} rounds of one client, as the client counts itself"
    honest = "clients that add their noise"
    world = _epsilon(run, run.rounds, run.rate, run.noise.clients) if run.topped_up else math.inf
    unsampled = _epsilon(run, run.appearances, 1.0, threshold)
    sampled = run.topped_up and world < unsampled
    published = run.noise.clients if run.topped_up else threshold
    return (
        Observer(
            name="the world",
            sees="the published models, and which rounds changed nothing: fewer than the threshold were left there",
            epsilon=min(world, unsampled),
            delta=run.delta,
            rests_on=f"{honest}; rounds that all reach the threshold; a server that keeps secret who was drawn, and "
            "adds the top-up"
            if sampled
            else f"{honest}; {seen}; nothing of the sampling, as the noise tells how many took part",
        ),
        Observer(
            name="another client",
            sees="the published models, its own noise, and who its neighbours are in the rounds that it is in",
            epsilon=_epsilon(run, run.appearances, 1.0, published - 1),
            delta=run.delta,
            rests_on=f"{honest}; {seen}" + ("; a server that adds the top-up" if run.topped_up else ""),
        ),
        Observer(
            name="the server",
            sees="who takes part, and the noised sum of each round; no client's update",
            epsilon=unsampled,
            delta=run.delta,
            rests_on=f"{honest}; a server that keeps to the protocol; {seen}",
        ),
        Observer(
            name=f"the server and {colluders} client{'' if colluders == 1 else 's'} of a round",
            sees="the same, and the updates and the noise of those clients",
            epsilon=_epsilon(run, run.appearances, 1.0, threshold - colluders),
            delta=run.delta,
            rests_on=f"{honest}, but for those {colluders}; a server that keeps to the protocol; {seen}",
        ),
        Observer(
            name=f"the server and {pieces} neighbours of a client",
            sees="that client's update under nothing but the noise that it added itself",
            epsilon=_epsilon(run, run.appearances, 1.0, 1),
            delta=run.delta,
            rests_on=f"the client's own share of noise, 1/{threshold} of the variance; {seen}",
        ),
    )


def _epsilon(run: SecureRun, rounds: int, rate: float, shares: int) -> float:
    observed = Observation(rounds=rounds, rate=rate, shares=max(shares, 0))
    return distributed_epsilon(run.noise, observed, delta=run.delta)
