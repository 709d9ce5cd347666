# SPDX-License-Identifier: Apache-2.0
"""Numbers of the attacks on single updates, for one round or over several. Pure, no model and no file."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.attacks.federated.server_membership import loss_drop
from reticent.attacks.federated.source_inference import likely_sources
from reticent.attacks.user.aggregate import aggregate
from reticent.auditing.updates.collect import OUTSIDE, OWN, TRAINED, RoundReadings, TextReading
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.stats.clustered import auc_clustered
from reticent.stats.proportions import paired_difference, share

Floats = npt.NDArray[np.float64]


class ScoredTexts(NamedTuple):
    """Texts with the mean of their scores over rounds, ``[N]`` each: ``score``, higher = more likely trained on;
    ``kind``; ``owner``; ``client`` that they are held against."""

    score: Floats
    kind: npt.NDArray[np.str_]
    owner: npt.NDArray[np.str_]
    client: npt.NDArray[np.str_]


class SourceGuesses(NamedTuple):
    """Guesses at the client behind each text: the share that is right, and the share by chance."""

    right: Estimate
    chance: float


def drop_of(reading: TextReading) -> float | None:
    """By how much the client's model finds the text likelier than the round's global one, nats a token; None where
    either is not finite."""
    if not (math.isfinite(reading.after) and math.isfinite(reading.start)):
        return None
    return float(loss_drop([reading.after], [reading.start])[0])


def cosine_of(reading: TextReading) -> float | None:
    """The cosine of the client's update with the descent on the text."""
    return reading.cosine if reading.cosine is not None and math.isfinite(reading.cosine) else None


def scored(rounds: Iterable[RoundReadings], score: Callable[[TextReading], float | None]) -> ScoredTexts:
    """Each text once, with the mean of its scores over the rounds that its suspected client was in."""
    by_text: dict[tuple[str, str, str, int], list[float]] = defaultdict(list)
    for reading in (text for readings in rounds for text in readings.texts):
        value = score(reading)
        if value is not None:
            by_text[(reading.client, reading.owner, reading.kind, reading.text)].append(value)
    names = list(by_text)
    column = [np.array([name[place] for name in names], dtype=np.str_) for place in range(3)]
    means = np.array([np.mean(by_text[name]) for name in names], dtype=np.float64)
    return ScoredTexts(score=means, kind=column[2], owner=column[1], client=column[0])


def text_auc(texts: ScoredTexts, against: str, *, confidence: float) -> Estimate:
    """AUC of trained texts against those of another kind, with whole clients as clusters.

    Raises:
        BadInput: none of one of the two, or all of one client.
    """
    inside, outside = texts.kind == TRAINED, texts.kind == against
    return auc_clustered(
        texts.score[inside],
        texts.score[outside],
        texts.owner[inside],
        texts.owner[outside],
        confidence=confidence,
    )


def client_auc(texts: ScoredTexts, *, confidence: float) -> Estimate:
    """AUC of clients: the mean score of a client's texts, against that of its held-out counterpart's.

    Raises:
        BadInput: as `text_auc`.
    """
    sides = []
    for kind in (TRAINED, OUTSIDE):
        rows = texts.kind == kind
        clients, scores = aggregate(texts.score[rows], texts.client[rows])
        owners = dict(zip(texts.client[rows].tolist(), texts.owner[rows].tolist(), strict=True))
        sides.append((scores, np.array([owners[client] for client in clients.tolist()], dtype=np.str_)))
    (inside, who), (outside, other) = sides
    return auc_clustered(inside, outside, who, other, confidence=confidence)


def sources(rounds: Sequence[RoundReadings], *, confidence: float, seed: int = 0) -> SourceGuesses:
    """How often the client whose model finds a text likeliest is the one that trained on it.

    Raises:
        BadInput: no round with two clients, or texts of one client only.
    """
    hits: list[bool] = []
    owners: list[str] = []
    chances: list[float] = []
    for readings in rounds:
        trained = [text for text in readings.texts if text.kind == TRAINED and np.isfinite(text.others).all()]
        if len(readings.clients) < 2 or not trained:
            continue
        guess = likely_sources(np.array([text.others for text in trained]).T, seed=seed + readings.number)
        hits += [readings.clients[place] == text.client for place, text in zip(guess, trained, strict=True)]
        owners += [text.client for text in trained]
        chances += [1 / len(readings.clients)] * len(trained)
    if not hits:
        raise BadInput("source inference", "no round has two clients to choose from", "Record more updates.")
    right = share(np.array(hits, dtype=float), np.array(owners), confidence=confidence)
    return SourceGuesses(right, float(np.mean(chances)))


def written(rounds: Sequence[RoundReadings], *, confidence: float) -> tuple[Estimate, Estimate]:
    """Share of trained texts whose second half the client's model writes and the global one does not: greedily, and by
    sampling.

    Raises:
        BadInput: no texts, or those of one client only.
    """
    trained = [text for readings in rounds for text in readings.texts if text.kind == TRAINED]
    owner = np.array([text.client for text in trained], dtype=np.str_)

    def gained(after: str, start: str) -> Estimate:
        x, y = (np.array([getattr(text, name) for text in trained], dtype=np.float64) for name in (after, start))
        return paired_difference(x, y, owner, confidence=confidence)

    return gained("greedy", "greedy_start"), gained("sampled", "sampled_start")


def recalled(rounds: Sequence[RoundReadings], *, confidence: float) -> Estimate:
    """Token recall of clients' texts by their updates, less that of texts of clients that took no part.

    Raises:
        BadInput: no update, or those of one client only.
    """
    tokens = [reading for readings in rounds for reading in readings.tokens]
    owner = np.array([reading.client for reading in tokens], dtype=np.str_)
    recall, other = ([getattr(reading, name) for reading in tokens] for name in ("recall", "outside_recall"))
    return paired_difference(recall, other, owner, confidence=confidence)


def opened(rounds: Sequence[RoundReadings], *, confidence: float) -> Estimate:
    """Share of texts whose opening came out of an update, less that of texts of clients that took no part.

    Raises:
        BadInput: no such update, or those of one client only.
    """
    tokens = [reading for readings in rounds for reading in readings.tokens if reading.exact is not None]
    owner = np.array([reading.client for reading in tokens], dtype=np.str_)
    exact = [float(reading.exact or 0.0) for reading in tokens]
    other = [float(reading.outside_exact or 0.0) for reading in tokens]
    return paired_difference(exact, other, owner, confidence=confidence)


def by_itself(measure: Callable[[], Estimate]) -> Estimate | None:
    """An estimate for a table; None where there is too little for an interval."""
    try:
        return measure()
    except BadInput:
        return None


def own_auc(texts: ScoredTexts, *, confidence: float) -> Estimate:
    """AUC of trained texts against held-out ones of the same clients.

    Raises:
        BadInput: as `text_auc`.
    """
    return text_auc(texts, OWN, confidence=confidence)
