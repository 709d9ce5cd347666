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


@dataclass(frozen=True, kw_only=True)
class PrefixReader:
    """A model's view of ``[B, T]`` beginnings.

    Args:
        logp: ``[B, V]`` of the next token; asked of the beginnings that are kept.
        distance: ``[B]`` of the last token's input at the deeper layer from the span there; asked of all that are
            tried, so it should leave the model at that layer. None where the span says nothing.
    """

    logp: Callable[[Tokens], Floats]
    distance: Callable[[Tokens], Floats] | None = None


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
    candidates: Tokens, reader: PrefixReader, *, length: int, start: tuple[int, ...] = (), settings: BeamSettings
) -> tuple[Sentence, ...]:
    """The best sentences of some tokens.

    A sentence's score is the sum of its log-probabilities (that of a first token that nothing comes before counts 0),
    less ``weight`` times the distances of all but the ``unchecked`` last ones, and ``fresh`` for each different one
    behind the start.

    Args:
        candidates: token ids.
        reader: see `PrefixReader`.
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
    for place in range(len(start), length):
        logp = reader.logp(beams)[:, ids] if place else np.zeros((1, len(ids)))
        logp = logp + settings.fresh * ~(beams[:, :, None] == ids).any(axis=1)
        tried = min(settings.tried, len(ids)) if place else len(ids)
        best = np.argsort(-logp, axis=1, kind="stable")[:, :tried]
        parents = np.repeat(np.arange(len(beams)), tried)
        grown = np.concatenate([beams[parents], ids[best.ravel()][:, None]], axis=1)
        total = scores[parents] + logp[parents, best.ravel()]
        if reader.distance is not None and place < length - settings.unchecked:
            total = total - settings.weight * reader.distance(grown)
        kept = np.argsort(-total, kind="stable")[: settings.width]
        beams, scores = grown[kept], total[kept]
    return tuple(Sentence(tuple(row.tolist()), float(score)) for row, score in zip(beams, scores, strict=True))
