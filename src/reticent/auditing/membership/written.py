# SPDX-License-Identifier: Apache-2.0
"""Continuations of the beginning of each record by both models, for attackers who see text only."""

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
"""Decoding of samples."""
PREFIX = 128
"""Tokens before the cut that the models are given at most."""
REST = 32
"""Tokens behind the cut that are to be written at most: what a model writes first tells most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CutRecord:
    """A record cut in two: the tokens that the models are given, and the tokens that follow in the record."""

    id: str
    given: npt.NDArray[np.int32]
    rest: npt.NDArray[np.int32]


def continuations(
    case: AuditCase, models: Models, names: Collection[str], *, samples: int, seed: int, cache: Path
) -> dict[str, Continuations]:
    """Texts that the models write after the first half of the trained tokens of each attacked record.

    Args:
        case: the data under audit.
        models: as opened.
        names: of the evidence that is wanted, ``"written"`` and ``"written_ref"``; the second needs a reference.
        samples: texts for each record, from each model, by the same random numbers.
        seed: of the sampling.
        cache: content-addressed store of generated texts.
    """
    target, base = scored_models(models)
    models_by_name = {"written": target} | ({"written_ref": base} if base is not None else {})
    writers = {name: model for name, model in models_by_name.items() if name in names}
    tokenizer = models.target.tokenizer
    room = min((most for model in writers.values() if (most := most_read(model.loaded.model))), default=None)
    cuts = [cut(record, tokenizer, case.max_tokens, room) for record in case.evaluated_records]
    return {name: _written(model, cuts, samples, seed, cache) for name, model in writers.items()}


def cut(record: Record, tokenizer: Any, max_tokens: int | None, room: int | None) -> CutRecord | None:
    """The record cut in the middle of the tokens that are trained on; None where there are fewer than two.

    Of a chat the rest ends with the turn that it begins in.

    Args:
        record: to be cut.
        tokenizer: of the model under audit.
        max_tokens: tokens of the record that were trained on; None for all.
        room: most tokens that the models read; None for no limit.
    """
    row = encode(record, tokenizer, max_tokens=max_tokens)
    positions = np.flatnonzero(row.trained)
    positions = positions[positions > 0]
    if len(positions) < 2:
        return None
    first = int(positions[len(positions) // 2])
    behind = np.flatnonzero(~row.trained[first:])
    end = min(first + REST, first + int(behind[0]) if behind.size else len(row))
    bos = leading_tokens(tokenizer) if record.messages is None else []
    most = PREFIX if room is None else max(1, min(PREFIX, room - REST - len(bos)))
    prefix = row.token_id[max(len(bos), first - most) : first]
    start = np.asarray(bos, dtype=np.int32)
    return CutRecord(id=record.id, given=np.concatenate([start, prefix]).astype(np.int32), rest=row.token_id[first:end])


def _written(
    model: ScoredModel, cuts: Sequence[CutRecord | None], samples: int, seed: int, cache: Path
) -> Continuations:
    tokenizer = model.loaded.tokenizer
    complete = [record for record in cuts if record is not None]
    generations = make_generations(
        model,
        [record.given for record in complete],
        max_new_tokens=[len(record.rest) for record in complete],
        samples=samples,
        scheme=SCHEME,
        seed=seed,
        keys=[f"continue/{record.id}" for record in complete],
        cache=cache,
        title="Going on from beginnings",
    )
    texts = generations.texts(tokenizer)
    written = {record.id: tuple(texts[row * samples : (row + 1) * samples]) for row, record in enumerate(complete)}
    return Continuations(
        rest=["" if record is None else _text(tokenizer, record.rest) for record in cuts],
        texts=[() if record is None else written[record.id] for record in cuts],
    )


def _text(tokenizer: Any, token_id: npt.NDArray[np.int32]) -> str:
    return str(tokenizer.decode(token_id.tolist(), skip_special_tokens=True))
