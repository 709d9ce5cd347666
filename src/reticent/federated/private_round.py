# SPDX-License-Identifier: Apache-2.0
"""PrivateRound: one round of a federation under a promise to its clients.

Each update is clipped when it arrives and added to the one sum that is kept, so memory does not grow with the clients.
On closing, noise of ``update_noise · clip`` goes on the sum, of the norm that clipped, and the sum is divided by a
number that was fixed beforehand. A client that does not answer, or sends what cannot be summed, adds zero; the noise
and the denominator stay. Nothing that a client says of itself is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from reticent.federated.adaptive_clip import AdaptiveClip, bit
from reticent.federated.round_watch import RoundMeasurements, RoundWatch
from reticent.federated.tree_noise import Node
from reticent.federated.update import RefusedUpdate, Update, add_, check_update, clipped, norm
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.noise import NoiseSums, add_noise


@dataclass(frozen=True, kw_only=True)
class RoundSetup:
    """All that is fixed before a round begins.

    Args:
        round: its number, from 0.
        clip: the norm that updates are clipped to.
        drawn: numbers of the clients that take part.
        denominator: expected clients of a round.
        update_noise: standard deviation of the noise on the sum, over ``clip``.
        nodes: which noise of the key goes on the sum.
        adaptive: how the clip norm moves; None where it is fixed.
        key: 32 secret bytes.
    """

    round: int
    clip: float
    drawn: tuple[int, ...]
    denominator: float
    update_noise: float
    nodes: tuple[Node, ...]
    adaptive: AdaptiveClip | None
    key: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ClosedRound:
    """The outcome of a round.

    Args:
        mean: noised sum over the denominator, the only thing made of updates that may leave the process.
        next_clip: the clip norm of the next round; may be released.
        measured: for the self-check; may not.
    """

    mean: dict[str, torch.Tensor]
    next_clip: float
    measured: RoundMeasurements


class PrivateRound:
    """Takes the updates of one round, and closes once.

    Args:
        setup: what was fixed before.
        like: the global arrays; only names, shapes and types are read.

    Raises:
        GuaranteeViolated: more updates than clients were drawn, or an update after the round was closed.
    """

    def __init__(self, setup: RoundSetup, like: Update) -> None:
        self.setup, self.like = setup, like
        # By name, so that the noise of an array does not depend on the order in which a model lists its arrays.
        self.names = sorted(like)
        self.total = {name: torch.zeros(like[name].shape) for name in self.names}
        self.watch = RoundWatch(self.names, like, clip=setup.clip, key=setup.key, number=setup.round)
        self.bits = 0.0
        self.answered, self.refused = 0, 0
        self._waiting = set(setup.drawn)
        self._closed = False

    def add(self, update: Update, *, client: int | None = None) -> bool:
        """Clip an update and add it to the sum.

        Args:
            update: as it was sent.
            client: number of the client that sent it, where it is known: one that was not drawn, or has answered, is
                left out.

        Returns:
            Whether it is in the sum. One that cannot be summed is not, and counts as zero.
        """
        if self._closed:
            _broken(f"an update came after round {self.setup.round} was closed")
        if client is not None and client not in self._waiting:
            self.refused += 1
            return False
        try:
            check_update(update, self.like)
        except RefusedUpdate:
            self.refused += 1
            return False
        if self.answered == len(self.setup.drawn):
            _broken(f"more updates than the {self.answered} clients drawn for round {self.setup.round}")
        self._waiting.discard(-1 if client is None else client)
        self.answered += 1
        self.watch.arrived(update)
        if self.setup.adaptive is not None:
            self.bits += bit(norm(update), self.setup.clip)
        add_(self.total, clipped(update, self.setup.clip))
        return True

    def close(self) -> ClosedRound:
        """Noise the sum, divide it, and say what the next clip norm is."""
        if self._closed:
            _broken(f"round {self.setup.round} was closed twice")
        self._closed = True
        setup = self.setup
        summed = self.watch.of(self.total)
        sums = tuple(noised_(self.total[name], setup, index) for index, name in enumerate(self.names))
        mean, self.total = self.total, {}
        noised_bits, fraction, following = self._bits()
        measured = RoundMeasurements(
            round=setup.round,
            clip=setup.clip,
            next_clip=following,
            denominator=setup.denominator,
            drawn=setup.drawn,
            answered=self.answered,
            refused=self.refused,
            norms=tuple(self.watch.norms),
            names=self.watch.names,
            places=self.watch.places,
            summed=summed,
            expected=self.watch.expected,
            weight=self.watch.weight,
            mean=self.watch.of(mean),
            noise=sums,
            bits=self.bits,
            noised_bits=noised_bits,
            fraction=fraction,
        )
        return ClosedRound(mean=mean, next_clip=following, measured=measured)

    def _bits(self) -> tuple[float | None, float | None, float]:
        """The sum of the bits with noise, the share of short updates by it, and the next clip norm."""
        setup = self.setup
        if setup.adaptive is None:
            return None, None, setup.clip
        total = torch.tensor([self.bits], dtype=torch.float32)
        std = setup.adaptive.bit_noise
        add_noise(total, std=std, scale=1.0, key=setup.key, step=setup.round, index=len(self.names))
        noised = float(total)
        fraction = setup.adaptive.fraction(noised, setup.denominator)
        return noised, fraction, setup.adaptive.following(setup.clip, fraction)


def noised_(array: torch.Tensor, setup: RoundSetup, index: int) -> NoiseSums:
    """Put the noise of a round on one summed array and divide it, in place; what was seen of the first noise."""
    std, sums = setup.update_noise * setup.clip, None
    for sign, step in setup.nodes:
        if sign < 0:
            array.neg_()
        seen = add_noise(array, std=std, scale=float(sign), key=setup.key, step=step, index=index)
        sums = sums or seen
    array.div_(setup.denominator)
    assert sums is not None, "a round has at least one noise"
    return sums


def _broken(measured: str) -> None:
    raise GuaranteeViolated(
        "each client that was drawn is summed at most once", measured, "It would count twice, and ε counts it once."
    )
