# SPDX-License-Identifier: Apache-2.0
"""The server's loop: draw, ask, check, aggregate, put on the ledger, step, save. Killed anywhere, it ends the same.

A round is run again from its beginning where it was not saved. Draw, noise, updates and step are functions of key,
seed, round and client, so it gives the same aggregate again, and the ledger counts it once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from reticent.core.federation import DroppedMessage, FederationRound
from reticent.core.progress import progress
from reticent.federated.exchange.lora_factors_mean import ProductError
from reticent.federated.exchange.stacked import begin_factors, with_round
from reticent.federated.inbox import Inbox
from reticent.federated.local_grid import Grid, Message
from reticent.federated.round_rule import Aggregate, RoundRule, zeros_where_none
from reticent.federated.secure.secure_collector import CollectedSum
from reticent.federated.server_state import ServerState, write_state
from reticent.federated.update import Update
from reticent.federated.update_files import UpdateFiles

Arrays = dict[str, torch.Tensor]


class ServerStep(Protocol):
    """The server's optimizer on the aggregate."""

    def __call__(self, moments: Arrays, mean: Update) -> tuple[Arrays, Update]:
        """New moments, and what is added to the global arrays."""
        ...


class SecureRounds(Protocol):
    """Rounds of which the server sees the sum alone."""

    def refuse_stuck(self, rows: Sequence[FederationRound]) -> None:
        """Refuse to spend more where round after round changed nothing."""
        ...

    def collect(self, round_: int, asked: Sequence[int], arrays: Update) -> CollectedSum:
        """Run the protocol of one round, from 1."""
        ...


class Spending(Protocol):
    """The ledger and the self-check of a federation with a promise."""

    def asked(self, round_: int, clients: Sequence[int]) -> None:
        """Check who is asked."""
        ...

    def given(self, mean: Update) -> None:
        """Check what the server's step takes."""
        ...

    def spend(self, round_: int, aggregate: Aggregate) -> None:
        """Put a round on record, on the disk, before its aggregate leaves. A round counts once."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounds:
    """A federation with nothing left open.

    Args:
        grid: reaches the clients.
        rule: who is asked, and how updates become one.
        server: the server's optimizer.
        rounds: how many.
        folder: of the state.
        key: of the federation, which the state is of.
        name_of: a name for a client that tells nothing of it.
        seed: of factors that are begun with in each round.
        held_out_loss: of global arrays; None where nothing is held out.
        measure_products: whether the error of averaging LoRA's factors apart is measured. It costs a dense sum for each
            of a few matrices, and is covered by no promise.
        merge: puts stacked factors into the base; None where arrays are averaged.
        spending: the ledger; None without privacy.
        record: where each client's update is kept; None: nowhere.
        secure: runs rounds in place of ``grid`` and the rule's aggregation, where the server may see sums only.
    """

    grid: Grid
    rule: RoundRule
    server: ServerStep
    rounds: int
    folder: Path
    key: str
    name_of: Callable[[int], str]
    seed: int = 0
    held_out_loss: Callable[[Update], float] | None = None
    measure_products: bool = False
    merge: Callable[[Update], None] | None = None
    spending: Spending | None = None
    record: UpdateFiles | None = None
    secure: SecureRounds | None = None


def run_rounds(job: Rounds, state: ServerState) -> ServerState:
    """Run all rounds that are left, and give the state after the last.

    Args:
        job: the federation.
        state: to begin or go on with.

    Raises:
        BadInput: of a secure federation, too many rounds in a row changed nothing; what was run is saved.
    """
    with progress("Federating", job.rounds, unit="rounds", done=state.round) as advance:
        while state.round < job.rounds:
            if job.secure is not None:
                job.secure.refuse_stuck(state.rows)
            state = run_round(job, state)
            write_state(job.folder, state, job.key)
            advance(1)
    return state


def run_round(job: Rounds, state: ServerState) -> ServerState:
    """One round; nothing is saved but what was spent. Its ε is not counted here: that takes longer than a round may."""
    number, started = state.round + 1, time.perf_counter()
    arrays = state.arrays if job.merge is None else begin_factors(state.arrays, job.seed, number)
    asked = job.rule.drawn(number)
    if job.spending is not None:
        job.spending.asked(number, asked)
    heard = (_heard if job.secure is None else _heard_in_secret)(job, number, asked, arrays, state)
    aggregate = heard.aggregate
    if job.spending is not None:
        job.spending.spend(number, aggregate)
    following = _step(job, state, aggregate, number)
    loss = None if job.held_out_loss is None else job.held_out_loss(following.arrays)
    row = FederationRound(
        number=number,
        held_out_loss=loss,
        clip=state.clip,
        drawn=tuple(job.name_of(client) for client in asked),
        answered=heard.answered,
        median_norm=statistics.median(heard.norms) if heard.norms else None,
        largest_norm=max(heard.norms, default=None),
        product_error=heard.product_error,
        changed=aggregate.mean is not None or aggregate.stacked is not None,
        dropped=heard.dropped,
        seconds=round(time.perf_counter() - started, 3),
    )
    return replace(following, rows=(*state.rows, row))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Heard:
    """Answers of a round, and their aggregate."""

    aggregate: Aggregate
    answered: int
    norms: Sequence[float] = ()
    product_error: float | None = None
    dropped: tuple[DroppedMessage, ...] = ()


def _heard(job: Rounds, number: int, asked: Sequence[int], arrays: Update, state: ServerState) -> _Heard:
    """Ask, and aggregate what counts."""
    inbox = Inbox(number, asked, arrays, job.name_of)
    error = ProductError(arrays) if job.measure_products else None
    if job.record is not None:
        job.record.begin_round(number, arrays)
    messages = job.grid.ask(number, asked, arrays)
    aggregate = job.rule.aggregate(number, _seen(job, inbox, messages, error), arrays, state.clip)
    return _Heard(
        aggregate=aggregate,
        answered=len(inbox.answered),
        norms=inbox.norms,
        product_error=None if error is None else error.relative(),
        dropped=tuple(inbox.dropped),
    )


def _heard_in_secret(job: Rounds, number: int, asked: Sequence[int], arrays: Update, state: ServerState) -> _Heard:
    """The same where only the sum may be seen: norms of single updates are not known."""
    assert job.secure is not None, "the caller has looked"
    collected = job.secure.collect(number, asked, arrays)
    aggregate = Aggregate(mean=collected.mean, next_clip=state.clip)
    return _Heard(aggregate=aggregate, answered=len(collected.measured.present), dropped=collected.dropped)


def _seen(
    job: Rounds, inbox: Inbox, messages: Iterable[Message], error: ProductError | None
) -> Iterator[tuple[int, Update]]:
    """Answers that count, recorded and measured where that was asked for."""
    for client, update in inbox.accepted(messages):
        if job.record is not None:
            job.record.write(inbox.round_, client, update)
        if error is not None:
            error.add(update)
        yield client, update
        del update  # else it would be held while the next is made


def _step(job: Rounds, state: ServerState, aggregate: Aggregate, number: int) -> ServerState:
    """The state after the server's step."""
    if job.merge is not None:
        stacks = state.stacks
        if aggregate.stacked is not None:
            job.merge(aggregate.stacked)
            stacks = with_round(stacks, number, aggregate.stacked)
        return replace(state, round=number, stacks=stacks)
    clip = state.clip if aggregate.next_clip is None else aggregate.next_clip
    if aggregate.mean is None:
        return replace(state, round=number, clip=clip)
    mean = zeros_where_none(aggregate.mean, state.arrays)
    if job.spending is not None:
        job.spending.given(mean)
    moments, change = job.server(state.moments, mean)
    arrays = {name: array + change[name] for name, array in state.arrays.items()}
    return replace(state, round=number, arrays=arrays, moments=moments, clip=clip)
