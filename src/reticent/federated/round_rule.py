# SPDX-License-Identifier: Apache-2.0
"""Rules of a round: the clients that are asked, and what becomes of their updates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from reticent.core.errors import BadInput
from reticent.data.coin import uniform
from reticent.federated.aggregate.aggregator import AGGREGATORS
from reticent.federated.client_mechanism import ClientMechanism, refuse_with_promise
from reticent.federated.exchange.stacked import stack
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.round_watch import RoundMeasurements
from reticent.federated.update import Update

Answers = Iterable[tuple[int, Update]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Aggregate:
    """The outcome of one round's aggregation.

    Args:
        mean: one update for all; None where the round changes nothing.
        next_clip: clip norm of the next round; None without privacy.
        measured: by the mechanism, for its self-check; None without privacy.
        stacked: factors of LoRA in place of a mean; None where they are averaged.
    """

    mean: Update | None
    stacked: Update | None = None
    next_clip: float | None = None
    measured: RoundMeasurements | None = None


class RoundRule(Protocol):
    """The draw and the aggregation of one round."""

    def drawn(self, round_: int) -> list[int]:
        """Numbers of the clients that are asked in a round, from 1."""
        ...

    def aggregate(self, round_: int, answers: Answers, like: Update, clip: float | None) -> Aggregate:
        """Make one update of all, while they arrive."""
        ...


@dataclass(frozen=True, kw_only=True)
class PlainRule:
    """Exactly so many clients by hash, and an aggregation rule; nothing is promised.

    Args:
        spec: of the federation.
        names: of the clients, for the draw.
        sizes: records of each, known to the server beforehand.
    """

    spec: FederationSpec
    names: Sequence[str]
    sizes: Sequence[int]

    def drawn(self, round_: int) -> list[int]:
        """See `RoundRule.drawn`; the draw of a client depends on no other client but by rank."""
        order = sorted(range(len(self.names)), key=lambda i: uniform(self.spec.seed, f"round {round_}", self.names[i]))
        return sorted(order[: self.spec.clients_per_round])

    def aggregate(self, round_: int, answers: Answers, like: Update, clip: float | None) -> Aggregate:
        """See `RoundRule.aggregate`. A rule that streams holds one update at a time."""
        rule, spec, count = AGGREGATORS.get(self.spec.aggregation), self.spec, 0
        weights = self._weights(round_)

        def weighted() -> Iterator[Update]:
            nonlocal count
            for client, update in answers:
                count += 1
                weight = weights[client]
                yield update if weight == 1 else {name: array * weight for name, array in update.items()}
                del update  # else it would be held while the next is made

        left_out = spec.missing == "left_out"
        updates = weighted() if rule.streams else list(weighted())
        if not rule.streams and count < rule.fewest:
            return Aggregate(mean=None)
        expected = float(spec.clients_per_round)
        denominator = 1.0 if left_out and rule.bounded else expected
        mean = rule(updates, denominator=denominator, **spec.aggregation_params)
        if count < max(spec.quorum, rule.fewest):
            return Aggregate(mean=None)
        if left_out and rule.bounded:
            mean = {name: array / count for name, array in mean.items()}
        return Aggregate(mean=mean)

    def _weights(self, round_: int) -> dict[int, float]:
        """The factor of each asked client's update: 1, or its size over the mean size of those that are asked."""
        asked = self.drawn(round_)
        if self.spec.weighting == "uniform":
            return dict.fromkeys(asked, 1.0)
        mean_size = sum(self.sizes[client] for client in asked) / len(asked)
        return {client: self.sizes[client] / mean_size for client in asked}


@dataclass(frozen=True, kw_only=True)
class StackedRule(PlainRule):
    """Clients as in `PlainRule`; their LoRA factors are stacked, so all updates of a round are held at once."""

    def aggregate(self, round_: int, answers: Answers, like: Update, clip: float | None) -> Aggregate:
        """See `RoundRule.aggregate`."""
        updates = [update for _, update in answers]
        if len(updates) < self.spec.quorum:
            return Aggregate(mean=None)
        return Aggregate(mean=None, stacked=stack(like, updates, self.spec.clients_per_round))


@dataclass(frozen=True, kw_only=True)
class PrivateRule:
    """Clients by coins of their own, and the noised sum over the expected number: client-level privacy."""

    mechanism: ClientMechanism

    def drawn(self, round_: int) -> list[int]:
        """See `RoundRule.drawn`: by the secret key, so nobody else can know it."""
        return [int(client) for client in self.mechanism.sampled(round_ - 1)]

    def aggregate(self, round_: int, answers: Answers, like: Update, clip: float | None) -> Aggregate:
        """See `RoundRule.aggregate`: each update is clipped on arrival and added; noise and denominator stay, whoever
        answers."""
        assert clip is not None
        opened = self.mechanism.open_round(round_ - 1, clip, like)
        for client, update in answers:
            opened.add(update, client=client)
            del update  # else it would be held while the next is made
        closed = opened.close()
        return Aggregate(mean=closed.mean, next_clip=closed.next_clip, measured=closed.measured)


def refuse_rule(spec: FederationSpec, *, private: bool) -> None:
    """Refuse an aggregation rule that does not exist, cannot do with so few clients, or voids the promise.

    Raises:
        BadInput: one of these.
    """
    rule = AGGREGATORS.get(spec.aggregation)
    if private:
        spec.refuse_privacy()
        refuse_with_promise(spec.aggregation, bounded=rule.bounded)
    if spec.clients_per_round < rule.fewest:
        raise BadInput(
            f"clients_per_round={spec.clients_per_round} with aggregation={spec.aggregation!r}",
            f"the rule needs {rule.fewest} updates",
            f"Give --clients_per_round {rule.fewest} or more.",
        )


def zeros_where_none(mean: Update | None, like: Update) -> dict[str, torch.Tensor]:
    """The mean, or the change of nothing where there is none or no client answered."""
    return {name: mean[name] if mean else torch.zeros_like(array) for name, array in like.items()}
