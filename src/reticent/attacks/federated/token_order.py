# SPDX-License-Identifier: Apache-2.0
"""From a set of tokens to sentences: beam search under the base model, with the span of a deeper layer as a check.

The inputs of layer 1 depend on all tokens before, so the right beginning of a text lies in the span of what layer 1
changed, and a wrong one does not (Petrov et al. 2024, DAGER, arXiv:2405.15586). Where that says nothing, the base
model's sense of language is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class PrefixReading(NamedTuple):
    """A model's view of ``[B, T]`` beginnings: ``logp`` ``[B, V]`` of the next token, and ``distance`` ``[B]`` of the
    last token's input at the deeper layer from the span there; zeros where there is none."""

    logp: Floats
    distance: Floats


ReadPrefixes = Callable[[Tokens], PrefixReading]


@dataclass(frozen=True, kw_only=True)
class BeamSettings:
    """How wide the search is.

    Args:
        width: beginnings that are kept.
        tried: next tokens of each that are read, by their probability.
        weight: nats that a distance of 1 costs.
        fresh: nats that a token gains which the sentence does not have yet: all tokens are in some text, and a first
            token again and again would lie in the span, as attention cannot tell it from one.
    """

    width: int = 8
    tried: int = 32
    weight: float = 30.0
    fresh: float = 2.0
    unchecked: int = 1

    def __post_init__(self) -> None:
        validate.positive(width=self.width, tried=self.tried)
        validate.non_negative(weight=self.weight, fresh=self.fresh, unchecked=self.unchecked)


class Sentence(NamedTuple):
    """A guess, and its score in nats, higher = better."""

    tokens: tuple[int, ...]
    score: float


def ordered_sentences(
    candidates: Tokens, read: ReadPrefixes, *, length: int, start: tuple[int, ...] = (), settings: BeamSettings
) -> tuple[Sentence, ...]:
    """The best sentences of some tokens.

    A sentence's score is the sum of its log-probabilities (that of a first token that nothing comes before counts 0),
    less ``weight`` times the distances of all but the ``unchecked`` last ones, and ``fresh`` for each different one
    behind the start.

    Args:
        candidates: token ids.
        read: see `PrefixReading`.
        length: tokens of a sentence, ``start`` among them.
        start: tokens that every text begins with.
        settings: of the search.

    Returns:
        At most ``width``, best first.

    Raises:
        BadInput: no candidates, or no room behind the start.
    """
    if not len(candidates) or length <= len(start):
        raise BadInput(f"{len(candidates)} tokens for {length} places", "leave nothing to order", "Give some of both.")
    ids = np.unique(candidates)
    beams = np.array([start], dtype=np.int64).reshape(1, len(start))
    scores = np.zeros(1)
    logp = read(beams).logp[:, ids] if start else np.zeros((1, len(ids)))
    for place in range(len(start), length):
        tried = min(settings.tried, len(ids)) if beams.shape[1] else len(ids)
        logp = logp + settings.fresh * ~(beams[:, :, None] == ids).any(axis=1)
        best = np.argsort(-logp, axis=1, kind="stable")[:, :tried]
        parents = np.repeat(np.arange(len(beams)), tried)
        grown = np.concatenate([beams[parents], ids[best.ravel()][:, None]], axis=1)
        reading = read(grown)
        total = scores[parents] + logp[parents, best.ravel()]
        if place < length - settings.unchecked:
            total = total - settings.weight * reading.distance
        kept = np.argsort(-total, kind="stable")[: settings.width]
        beams, scores, logp = grown[kept], total[kept], reading.logp[kept][:, ids]
    return tuple(Sentence(tuple(row.tolist()), float(score)) for row, score in zip(beams, scores, strict=True))
