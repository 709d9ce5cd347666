# SPDX-License-Identifier: Apache-2.0
"""Evidence from single updates → findings, and tables by round. Pure, no model and no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from reticent.auditing.updates.by_round import (
    by_itself,
    client_auc,
    cosine_of,
    drop_of,
    opened,
    own_auc,
    recalled,
    scored,
    sources,
    text_auc,
    written,
)
from reticent.auditing.updates.collect import OUTSIDE, OWN, RoundReadings, UpdateEvidence
from reticent.auditing.updates.looked_at import CLIENTS, ROUNDS, TEXTS
from reticent.auditing.updates.text_readings import TRIES
from reticent.auditing.updates.token_attack import OPENING
from reticent.auditing.verdict import severity
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.core.section import Cell, Column, Section, Table
from reticent.stats.hypothesis import family_confidence

UPDATE, CLIENT, SOURCE, TOKENS = "update", "update_client", "update_source", "update_tokens"
"""Levels: a text, a client through all of its texts, the client behind a text, the tokens of texts."""
THREAT = ThreatModel(access="train_time", needs=("each client's update as it was sent", "the round's global weights"))
ADVICE = (
    "Let nobody see single updates (secure aggregation), or add noise inside clients; noise on the sum comes too late "
    "against whoever has the parts."
)
ALONE = 0.95
"""Of each interval in a table by round."""
BESIDE_THE_PROMISE = (
    "The promise to each client is about the weights that leave the server. It does not hold against whoever sees "
    "single updates, and these numbers do not break it."
)
INSIDE = (
    "Each client's steps carry a promise per record, which holds against whoever sees its updates: an AUC against a "
    "client's own held-out texts cannot be far above what it allows. Texts of other clients also differ by how their "
    "clients write, which many records show together and this promise does not hide."
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One number over all rounds that were looked at.

    Args:
        attack: name of the check.
        level: of the finding.
        metric: of the number.
        measure: makes it, given the confidence.
        says: the finding in words, given the number as it is shown.
        lowest: from the interval's lower end to the one that the metric's severity steps are about.
    """

    attack: str
    level: str
    metric: str
    measure: Callable[..., Estimate]
    says: Callable[[str], str]
    lowest: Callable[[float], float] = lambda lo: lo

    def grade(self, estimate: Estimate) -> Severity:
        """How severe it is, by the lower end."""
        return severity("advantage" if self.metric == "share" else self.metric, self.lowest(estimate.lo))


def evaluate(evidence: UpdateEvidence, *, confidence: float) -> tuple[list[Section], list[str]]:
    """Sections with findings and tables, and a line for each number that could not be had.

    Args:
        evidence: of the rounds that were looked at.
        confidence: that all findings hold together.
    """
    if not evidence.rounds:
        return [], list(evidence.could_not)
    asked = [_server(evidence.rounds), _source(evidence.rounds), _inversion(evidence.rounds)]
    level = family_confidence(confidence, sum(len(questions) for questions in asked))
    not_tested = list(evidence.could_not)
    of_sections: list[tuple[Finding, ...]] = []
    for questions in asked:
        findings = []
        for question in questions:
            try:
                findings.append(_finding(question, question.measure(confidence=level)))
            except BadInput as error:
                not_tested.append(f"{question.attack}: {error.given}: {error.why}")
        of_sections.append(tuple(findings))
    notes = (*_looked(evidence), *_promises(evidence))
    return [
        Section(
            name="updates-server",
            title="Single updates: what a server sees",
            lede="Whoever sees the update of a client, and the weights that it began with, asks of a text: did this "
            "client train on it? Each client is held against a held-out one, dealt to it by coin.",
            findings=of_sections[0],
            tables=(_server_table(evidence.rounds),),
            notes=notes,
        ),
        Section(
            name="updates-source",
            title="Single updates: which client holds a text",
            lede="Of a text that is known to have been trained on, the client is guessed whose model of the round "
            "finds it likeliest.",
            findings=of_sections[1],
            tables=(_source_table(evidence.rounds),),
            needs_membership=False,
        ),
        Section(
            name="updates-inversion",
            title="Single updates: texts out of updates",
            lede="From an update alone to the tokens of the client's texts, and to how these begin; beside it what the "
            "client's model writes that the round's global one does not. Texts of held-out clients are the control.",
            findings=of_sections[2],
            tables=(_inversion_table(evidence.rounds),),
            notes=(
                f"Openings are of {OPENING} tokens. How many different tokens the texts have is taken to be known. "
                "All texts of a client count, also those that it did not come to in the round.",
                f"By sampling counts what {TRIES} texts give at least once with probability 1/2.",
            ),
            needs_membership=False,
        ),
    ], not_tested


def _finding(question: Question, estimate: Estimate) -> Finding:
    grade = question.grade(estimate)
    percent = question.metric != "auc"
    shown = [f"{x:.1%}" if percent else f"{x:.3f}" for x in (estimate.value, estimate.lo, estimate.hi)]
    return Finding(
        attack=question.attack,
        level=question.level,
        metric=question.metric,
        estimate=estimate,
        severity=grade,
        threat=THREAT,
        statement=question.says(f"{shown[0]} [{shown[1]}, {shown[2]}]"),
        advice=ADVICE if grade is not Severity.NONE else "",
        notes=(estimate.method,),
    )


def _server(rounds: Sequence[RoundReadings]) -> list[Question]:
    drop, cosine = scored(rounds, drop_of), scored(rounds, cosine_of)
    told = "whoever sees a client's update tells a text that the client trained on from one of a held-out client with"
    questions = [
        Question(
            attack="update_loss_drop",
            level=UPDATE,
            metric="auc",
            measure=partial(text_auc, drop, OUTSIDE),
            says=lambda n: f"By how much likelier the update makes it, {told} AUC {n} (0.5 is chance).",
        ),
        Question(
            attack="update_user_inference",
            level=CLIENT,
            metric="auc",
            measure=partial(client_auc, drop),
            says=lambda n: (
                "By texts of a client, not all of which need be trained on, a client that trained is told from one "
                f"that took no part with AUC {n} (0.5 is chance)."
            ),
        ),
    ]
    if (drop.kind == OWN).any():
        questions.append(
            Question(
                attack="update_own_texts",
                level=UPDATE,
                metric="auc",
                measure=partial(own_auc, drop),
                says=lambda n: (
                    "Of one and the same client, texts that it trained on are told from its held-out ones with AUC "
                    f"{n} (0.5 is chance): that is memory, and not how the client writes."
                ),
            )
        )
    if len(cosine.score):
        gradient = Question(
            attack="update_cosine",
            level=UPDATE,
            metric="auc",
            measure=partial(text_auc, cosine, OUTSIDE),
            says=lambda n: f"By how its gradient lies to the update, {told} AUC {n} (0.5 is chance).",
        )
        questions.insert(1, gradient)
    return questions


def _source(rounds: Sequence[RoundReadings]) -> list[Question]:
    try:
        chance = sources(rounds, confidence=ALONE).chance
    except BadInput:
        chance = 0.0
    return [
        Question(
            attack="source_inference",
            level=SOURCE,
            metric="share",
            measure=lambda confidence: sources(rounds, confidence=confidence).right,
            says=lambda n: f"For {n} of the texts the right client is named; by chance it would be {chance:.1%}.",
            lowest=lambda lo: (lo - chance) / (1 - chance),
        )
    ]


def _inversion(rounds: Sequence[RoundReadings]) -> list[Question]:
    questions = [
        Question(
            attack="update_greedy",
            level=UPDATE,
            metric="extracted",
            measure=lambda confidence: written(rounds, confidence=confidence)[0],
            says=lambda n: (
                f"Given their first half, {n} of the texts are written to the end by the client's model word for word "
                "and not by the round's global one."
            ),
        )
    ]
    if any(readings.tokens for readings in rounds):
        questions.append(
            Question(
                attack="update_inversion",
                level=TOKENS,
                metric="advantage",
                measure=partial(recalled, rounds),
                says=lambda n: (
                    f"An update gives back {n} more of the tokens of its client's texts than of those of a held-out "
                    "client's."
                ),
            )
        )
    if any(reading.exact is not None for readings in rounds for reading in readings.tokens):
        questions.append(
            Question(
                attack="update_openings",
                level=TOKENS,
                metric="extracted",
                measure=partial(opened, rounds),
                says=lambda n: f"{n} of the texts had their first {OPENING} tokens put in order out of an update.",
            )
        )
    return questions


# ---- tables -----------------------------------------------------------------------------------------------------


def _server_table(rounds: Sequence[RoundReadings]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for readings in rounds:
        drop, cosine = scored([readings], drop_of), scored([readings], cosine_of)
        rows.append(
            (
                readings.number,
                len(readings.clients),
                len(readings.texts),
                by_itself(partial(text_auc, drop, OUTSIDE, confidence=ALONE)),
                by_itself(partial(own_auc, drop, confidence=ALONE)),
                by_itself(partial(text_auc, cosine, OUTSIDE, confidence=ALONE)),
                by_itself(partial(client_auc, drop, confidence=ALONE)),
            )
        )
    estimates = [
        ("auc_loss", "AUC by loss", "trained texts against those of held-out clients"),
        ("auc_loss_own", "against own held-out", "trained texts against held-out ones of the same clients"),
        ("auc_gradient", "AUC by gradient", "cosine of the text's descent with the update"),
        ("auc_clients", "AUC of clients", "mean over a client's texts"),
    ]
    columns = (
        Column(name="round", label="Round", kind="count"),
        Column(name="clients", label="Clients", kind="count"),
        Column(name="texts", label="Texts", kind="count"),
        *(Column(name=n, label=label, kind="estimate", metric="auc", about=about) for n, label, about in estimates),
    )
    return Table(name="update-membership", title="Attacks by round", columns=columns, rows=tuple(rows), caption=_ALONE)


_ALONE = "Each interval holds by itself at 95 %, with clients as clusters; 0.5 is chance. A dash: too few clients."


def _source_table(rounds: Sequence[RoundReadings]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for readings in rounds:
        try:
            guesses = sources([readings], confidence=ALONE)
        except BadInput:
            continue
        rows.append((readings.number, len(readings.clients), guesses.right, guesses.chance))
    columns = (
        Column(name="round", label="Round", kind="count"),
        Column(name="clients", label="Clients to choose from", kind="count"),
        Column(name="right", label="Right", kind="estimate", metric="share"),
        Column(name="chance", label="By chance", kind="share"),
    )
    return Table(
        name="update-source",
        title="Right guesses by round",
        columns=columns,
        rows=tuple(rows),
        caption="Each interval holds by itself at 95 %, with clients as clusters.",
    )


def _inversion_table(rounds: Sequence[RoundReadings]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for readings in rounds:
        tokens, exact = readings.tokens, [t for t in readings.tokens if t.exact is not None]
        greedy = by_itself(lambda r=readings: written([r], confidence=ALONE)[0])  # type: ignore[misc]
        sampled = by_itself(lambda r=readings: written([r], confidence=ALONE)[1])  # type: ignore[misc]
        rows.append(
            (
                readings.number,
                len(tokens),
                *(_mean([getattr(t, name) for t in tokens]) for name in ("auc", "outside_auc")),
                *(_mean([getattr(t, name) for t in tokens]) for name in ("recall", "outside_recall")),
                *(_mean([float(getattr(t, name)) for t in exact]) for name in ("exact", "outside_exact")),
                None if greedy is None else greedy.value,
                None if sampled is None else sampled.value,
            )
        )
    columns = (
        Column(name="round", label="Round", kind="count"),
        Column(name="updates", label="Updates", kind="count"),
        Column(name="token_auc", label="Token AUC", kind="number"),
        Column(name="token_auc_outside", label="of held-out", kind="number"),
        Column(name="recall", label="Token recall", kind="share"),
        Column(name="recall_outside", label="of held-out", kind="share"),
        Column(name="openings", label="Openings", kind="share"),
        Column(name="openings_outside", label="of held-out", kind="share"),
        Column(name="greedy", label="Written greedily", kind="share", about="beyond what the global model writes"),
        Column(name="sampled", label="by sampling", kind="share", about="beyond what the global model writes"),
    )
    return Table(name="update-inversion", title="Inversion by round", columns=columns, rows=tuple(rows))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _looked(evidence: UpdateEvidence) -> tuple[str, ...]:
    seen = sum(len(readings.clients) for readings in evidence.rounds)
    return (
        f"Looked at {len(evidence.rounds)} of {evidence.recorded_rounds} recorded rounds and {seen} of "
        f"{evidence.recorded_updates} updates, chosen by coin: at most {ROUNDS} rounds, {CLIENTS} clients of a round "
        f"and {TEXTS} texts of a client. Other rounds may give away more.",
        "Updates are as clients sent them, before the server clips them or adds noise.",
    )


def _promises(evidence: UpdateEvidence) -> tuple[str, ...]:
    return (*((BESIDE_THE_PROMISE,) if evidence.promised else ()), *((INSIDE,) if evidence.inside else ()))
