# SPDX-License-Identifier: Apache-2.0
"""The results of a federated run: the facts of this machine that may travel, and what to know first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reticent.core.federation import FederationResults, WhoSees
from reticent.core.manifest import environment, now
from reticent.core.stated_epsilon import StatedEpsilon
from reticent.federated.client_statement import number_of_rounds
from reticent.federated.engine_config import LOCAL
from reticent.privacy.spec import ZERO_OUT
from reticent.train.held_out import perplexity, sentence

if TYPE_CHECKING:
    from reticent.federated.train_federation import FederationOutcome
    from reticent.workflows.federation_recipe import FederationRecipe

FEW_CLIENTS = 200
SIMULATED = (
    "All clients were simulated on one machine, which saw all texts and all updates: nothing is hidden from that "
    "machine."
)
DEPLOYED = (
    "Each client's texts stayed on its own machine. The server saw each client's update of each round: the promise to "
    "a client, if any, holds against those who see the weights that leave the server, and not against the server."
)


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """Words on what reached the clients.

    Args:
        name: the engine, in words.
        apart: clients were on machines of their own.
        loading_share: of what clients did for a message, the share that loading the base took; None where that is not
            known, or covered by no promise.
    """

    name: str = LOCAL
    apart: bool = False
    loading_share: float | None = None


AVERAGED = {
    "average": "trained arrays are averaged, each by itself",
    "ffa": "LoRA with A frozen: the average of B is the average of the products, exactly",
    "stacked": "LoRA's factors are stacked, so the average of the products is exact and ranks add up",
}


def results_of(
    outcome: FederationOutcome, recipe: FederationRecipe, *, title: str, engine: EngineReport | None = None
) -> FederationResults:
    """The results for the file and the page; under a promise without what it does not cover.

    Args:
        outcome: of the federation.
        recipe: its settings.
        title: of the page.
        engine: that was used; None for the recipe's.
    """
    engine = engine or EngineReport(name=recipe.engine.in_words)
    spec = recipe.federation
    private = recipe.privacy.is_private
    return FederationResults(
        title=title,
        created=now(),
        headline=_headline(outcome, recipe),
        sentences=_sentences(outcome, recipe, engine),
        promise=outcome.promise,
        stated=outcome.stated,
        record_promise=outcome.record_promise,
        method=spec.method,
        exchange=f"{spec.exchange}: {AVERAGED[spec.exchange]}",
        aggregation=f"{spec.aggregation}, {spec.server_optimizer} with rate {spec.server_rate:g}",
        clients=outcome.clients,
        expected=float(spec.clients_per_round),
        bytes_per_message=outcome.message_bytes,
        base_loss=outcome.base_loss,
        held_out=outcome.held_out,
        rounds=outcome.rows,
        who_sees=_who_sees_sums(outcome)
        if recipe.secure.secure_aggregation
        else _who_sees(outcome, private=private, apart=engine.apart),
        checks=outcome.checks,
        engine=engine.name,
        loading_share=None if outcome.promise else engine.loading_share,
        provenance=_provenance(recipe, engine),
    )


def _headline(outcome: FederationOutcome, recipe: FederationRecipe) -> str:
    spec = recipe.federation
    text = f"{outcome.clients} clients tuned one model in {number_of_rounds(len(outcome.rows))}"
    records = " and to each record" if recipe.record_privacy.is_private else ""
    secure = recipe.secure.secure_aggregation
    if recipe.privacy.is_private:
        number = f"up to {spec.clients_per_round}" if secure else f"about {spec.clients_per_round}"
        text += f", {number} a round, under a promise to each client{records}"
        return f"{text} that holds against the server too" if secure else text
    text += f", {spec.clients_per_round} a round"
    return f"{text}, under a promise to each record" if records else f"{text}; nothing is promised to them"


def _sentences(outcome: FederationOutcome, recipe: FederationRecipe, engine: EngineReport) -> tuple[str, ...]:
    sentences = [promise for promise in (outcome.promise, outcome.record_promise) if promise]
    if 0 < outcome.clients < FEW_CLIENTS and outcome.promise:
        sentences.append(
            f"With {outcome.clients} clients little is left to learn under a promise: the noise of a round is shared "
            f"by {_clients(recipe.federation.clients_per_round)} only."
        )
    last = outcome.rows[-1].held_out_loss if outcome.rows else None
    if outcome.base_loss is not None and last is not None:
        text = sentence(outcome.held_out, perplexity(outcome.base_loss), perplexity(last))
        sentences.append(f"Clients that took no part: {text}.")
    errors = [row.product_error for row in outcome.rows if row.product_error is not None]
    if errors:
        sentences.append(
            f"A and B of LoRA are averaged apart, which is not the average of their products: off by "
            f"{100 * max(errors):.2g} % of its norm at most, measured on a few matrices. --exchange ffa and stacked "
            "are exact."
        )
    if recipe.secure.secure_aggregation:
        sentences += _of_sums(outcome, recipe)
    sentences += _of_messages(outcome, recipe)
    if engine.loading_share is not None and not outcome.promise:
        sentences.append(
            f"{100 * engine.loading_share:.0f} % of what clients did for a message was loading the base, by their own "
            "clocks; more local steps in a round make that less."
        )
    return (*sentences, DEPLOYED if engine.apart else SIMULATED)


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _of_messages(outcome: FederationOutcome, recipe: FederationRecipe) -> list[str]:
    """Sentences on messages: those that did not count, those that were kept, and what is not told of them."""
    sentences, lost = [], sum(len(row.dropped) for row in outcome.rows)
    if lost and not outcome.promise:
        messages = "1 message" if lost == 1 else f"{lost} messages"
        sentences.append(f"{messages} did not count; the table says whose and why.")
    if recipe.federation.record_updates:
        noise = "with the noise of its client alone on it" if outcome.record_promise else "with no noise on it"
        sentences.append(f"The update of each client in each round lies in the run folder, {noise}.")
    if outcome.promise:
        untold = "Who was drawn, who answered and how long updates were"
        if recipe.secure.secure_aggregation:
            untold = "Who was asked and who answered"
        sentences.append(
            f"{untold} is covered by no noise, so it is not here but in rounds.jsonl in the run folder, for its owner."
        )
    return sentences


def _of_sums(outcome: FederationOutcome, recipe: FederationRecipe) -> list[str]:
    """Sentences on secure aggregation, which nothing else says."""
    asked, secure = recipe.federation.clients_per_round, recipe.secure
    still = sum(not row.changed for row in outcome.rows)
    sentences = [
        f"The server saw masked updates and opened their sum, of at least {secure.threshold_of(asked)} of up to "
        f"{asked} clients, with the clients' noise in it; the table says which ε holds against whom."
    ]
    if still:
        sentences.append(
            f"{number_of_rounds(still)} of {len(outcome.rows)} changed nothing: too few clients were left to open the "
            "sum, or it could not be a sum of clipped updates. ε counts those rounds too."
        )
    return sentences


def _who_sees_sums(outcome: FederationOutcome) -> tuple[WhoSees, ...]:
    """The same for a federation whose server sees sums only."""
    rows = [
        WhoSees(
            who="this machine",
            sees="all texts and updates, since it simulates all clients and the server",
            promise="none",
        )
    ]
    for observer in outcome.observers:
        finite = math.isfinite(observer.epsilon)
        stated = StatedEpsilon(epsilon=observer.epsilon, delta=observer.delta, unit="client", relation=ZERO_OUT)
        promise = stated.sentence if finite else "none"
        rows.append(
            WhoSees(
                who=observer.name,
                sees=observer.sees,
                promise=" And: ".join(part for part in (promise, outcome.record_promise) if part),
                epsilon=observer.epsilon if finite else None,
                rests_on=observer.rests_on,
            )
        )
    return tuple(rows)


def _who_sees(outcome: FederationOutcome, *, private: bool, apart: bool) -> tuple[WhoSees, ...]:
    nothing = "none"
    inside = outcome.record_promise or nothing
    world = " And: ".join(part for part in (outcome.promise, outcome.record_promise) if part) or nothing
    update = "with the noise that hides each record" if outcome.record_promise else "without noise"
    simulated_view = WhoSees(
        who="this machine",
        sees="all texts and updates, since it simulates all clients and the server",
        promise=nothing,
    )
    apart_view = WhoSees(
        who="a client's machine", sees="its own texts, and no text or update of another", promise=nothing
    )
    return (
        apart_view if apart else simulated_view,
        WhoSees(
            who="the server" if apart else "a server, were the clients apart",
            sees=f"each client's update of each round, {update}" + (", then clipped" if private else ""),
            promise=inside,
        ),
        WhoSees(
            who="another client",
            sees="the global weights at the start of each round that it is drawn for",
            promise=nothing if world == nothing else "as for the world",
        ),
        WhoSees(who="the world", sees="the final weights, and what this page says", promise=world),
    )


def _provenance(recipe: FederationRecipe, engine: EngineReport) -> dict[str, Any]:
    return {**recipe.on_record, "engine": engine.name, **environment()}
