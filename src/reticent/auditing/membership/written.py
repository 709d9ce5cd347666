# SPDX-License-Identifier: Apache-2.0
"""The step in which both models go on from the beginning of each record, for attackers who see text only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.continuations import Continuations
from reticent.auditing.case import AuditCase
from reticent.auditing.models import Models, scored_models
from reticent.core.record import Record
from reticent.models.encode import encode, leading_tokens
from reticent.score.forward import most_read
from reticent.score.generation.generate import make_generations
from reticent.score.generation.scheme import Scheme
from reticent.score.make_tables import ScoredModel

SCHEME = Scheme(temperature=1.0, top_k=40)
"""How samples are drawn."""
PREFIX = 128
"""Tokens before the cut that the models are given at most."""
REST = 32
"""Tokens behind the cut that are to be written at most: what a model writes first tells most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CutRecord:
    """A record in two: what the models are given, and the tokens that follow in the record."""

    id: str
    given: npt.NDArray[np.int32]
    rest: npt.NDArray[np.int32]


def continuations(
    case: AuditCase, models: Models, names: Collection[str], *, samples: int, seed: int, cache: Path
) -> dict[str, Continuations]:
    """What the models write after the first half of what is trained on of each attacked record.

    Args:
        names: of the evidence that is wanted, ``"written"`` and ``"written_ref"``; the second needs a reference.
        samples: texts for each record, from each model, by the same random numbers.
        seed: of the sampling.
        cache: content-addressed store; what was generated is kept there.
    """
    target, base = scored_models(models)
    both = {"written": target} | ({"written_ref": base} if base is not None else {})
    asked = {name: side for name, side in both.items() if name in names}
    tokenizer = models.target.tokenizer
    room = min((most for side in asked.values() if (most := most_read(side.loaded.model))), default=None)
    cuts = [cut(record, tokenizer, case.max_tokens, room) for record in case.evaluated_records]
    return {name: _written(side, cuts, samples, seed, cache) for name, side in asked.items()}


def cut(record: Record, tokenizer: Any, max_tokens: int | None, room: int | None) -> CutRecord | None:
    """The record cut in the middle of the tokens that are trained on; None where there are fewer than two.

    Of a chat the rest ends with the turn that it begins in.

    Args:
        record: what to cut.
        tokenizer: of the model under audit.
        max_tokens: how much of the record was trained on; None for all.
        room: most tokens that the models read; None for no limit.
    """
    row = encode(record, tokenizer, max_tokens=max_tokens)
    places = np.flatnonzero(row.trained)
    places = places[places > 0]
    if len(places) < 2:
        return None
    first = int(places[len(places) // 2])
    behind = np.flatnonzero(~row.trained[first:])
    end = min(first + REST, first + int(behind[0]) if behind.size else len(row))
    lead = leading_tokens(tokenizer) if record.messages is None else []
    most = PREFIX if room is None else max(1, min(PREFIX, room - REST - len(lead)))
    given = row.token_id[max(len(lead), first - most) : first]
    start = np.asarray(lead, dtype=np.int32)
    return CutRecord(id=record.id, given=np.concatenate([start, given]).astype(np.int32), rest=row.token_id[first:end])


def _written(
    side: ScoredModel, cuts: Sequence[CutRecord | None], samples: int, seed: int, cache: Path
) -> Continuations:
    tokenizer = side.loaded.tokenizer
    kept = [one for one in cuts if one is not None]
    made = make_generations(
        side,
        [one.given for one in kept],
        max_new_tokens=[len(one.rest) for one in kept],
        samples=samples,
        scheme=SCHEME,
        seed=seed,
        keys=[f"continue/{one.id}" for one in kept],
        cache=cache,
        title="Going on from beginnings",
    )
    texts = made.texts(tokenizer)
    written = {one.id: tuple(texts[row * samples : (row + 1) * samples]) for row, one in enumerate(kept)}
    return Continuations(
        rest=["" if one is None else _text(tokenizer, one.rest) for one in cuts],
        texts=[() if one is None else written[one.id] for one in cuts],
    )


def _text(tokenizer: Any, token_id: npt.NDArray[np.int32]) -> str:
    return str(tokenizer.decode(token_id.tolist(), skip_special_tokens=True))
