# SPDX-License-Identifier: Apache-2.0
"""FederationResults: everything that one federated fine-tuning can say of itself, as plain data. No private text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from reticent.core.field_types import Count, FreeForm, InRange
from reticent.core.promise_check import PromiseCheck
from reticent.core.stated_epsilon import StatedEpsilon

NotNegative = Annotated[float, InRange(least=0)]


@dataclass(frozen=True, kw_only=True)
class DroppedMessage:
    """A message that did not count.

    Args:
        client: name that tells nothing of the client; the run folder's key leads back.
        why: it did not.
    """

    client: str
    why: str


@dataclass(frozen=True, kw_only=True)
class FederationRound:
    """One round.

    Args:
        number: from 1.
        epsilon: spent up to here, per client; None where nothing is promised, or where it was not counted.
        held_out_loss: nats a token on records of clients that take no part, after the round; None where there are none.
        clip: norm that updates were clipped to; None without privacy.
        drawn: names that tell nothing of the clients that were asked; empty where that is covered by no promise.
        answered: messages that counted; None where that is covered by no promise.
        median_norm, largest_norm: of the updates that counted, before clipping; None as ``answered``.
        product_error: relative error of averaging LoRA's factors apart; None where they are not, or not measured.
        changed: whether the global arrays moved. No noise covers that, and none has to: it tells whether enough clients
            answered, and no honest client's answer follows from its texts.
        dropped: messages that did not count; empty where that is covered by no promise.
        seconds: that it took.
    """

    number: Count
    epsilon: NotNegative | None = None
    held_out_loss: float | None = None
    clip: NotNegative | None = None
    drawn: tuple[str, ...] = ()
    answered: Count | None = None
    median_norm: NotNegative | None = None
    largest_norm: NotNegative | None = None
    product_error: NotNegative | None = None
    changed: bool = True
    dropped: tuple[DroppedMessage, ...] = ()
    seconds: NotNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class WhoSees:
    """The view of one of those who take part, and the promise that holds against it.

    Args:
        who: it is.
        sees: of the clients' data.
        promise: that holds against it.
        epsilon: of that promise, per client, where it is one of secure aggregation; None where there is none.
        rests_on: what that promise takes for granted.
    """

    who: str
    sees: str
    promise: str
    epsilon: NotNegative | None = None
    rests_on: str = ""


@dataclass(frozen=True, kw_only=True)
class FederationResults:
    """The whole outcome.

    Args:
        title: of the page.
        created: ISO 8601, UTC.
        headline: one sentence.
        sentences: what to know first, one fact each.
        promise: the guarantee per client, in a sentence; empty where nothing is promised.
        stated: the promise per client as a number with δ, unit and relation, after the last round; None where nothing
            is promised, or in a file that is older than this field.
        record_promise: the guarantee per record against whoever sees its client's updates, likewise. Beside the other
            it stands by itself: the two are never added up.
        method: of tuning.
        exchange: how trained arrays travel and are made one.
        aggregation: rule and server optimizer, in words.
        clients: that take part.
        expected: clients in a round; under privacy on average.
        bytes_per_message: of the trained arrays, in one direction.
        base_loss: of the base on the held-out records, nats a token; None where there are none.
        held_out: records that the loss is measured on.
        rounds: one row each.
        who_sees: what those who take part see, and which promise holds against them.
        checks: of the self-check; none where nothing is promised.
        engine: what reached the clients, in words.
        loading_share: of what clients did for a message, the share that loading the base took, by their own clocks;
            None where it was resident, or where that is covered by no promise.
        provenance: settings, versions, hardware.
    """

    title: str
    created: str
    headline: str
    sentences: tuple[str, ...] = ()
    promise: str = ""
    stated: StatedEpsilon | None = None
    record_promise: str = ""
    method: str
    exchange: str
    aggregation: str
    clients: Count
    expected: NotNegative
    bytes_per_message: Count
    base_loss: float | None = None
    held_out: Count = 0
    rounds: tuple[FederationRound, ...] = ()
    who_sees: tuple[WhoSees, ...] = ()
    checks: tuple[PromiseCheck, ...] = ()
    engine: str = ""
    loading_share: Annotated[float, InRange(least=0, most=1)] | None = None
    provenance: FreeForm = field(default_factory=dict)
