# SPDX-License-Identifier: Apache-2.0
"""Losses of real held-out texts by a model, and by each label that could stand before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reticent.core.record import Record

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedLosses:
    """Losses of ``N`` held-out texts by one model.

    Args:
        nats: ``[N]`` loss of each, added up over its tokens.
        tokens: ``[N]`` how many; 0 where nothing can be predicted.
        by_label: ``[N, L]`` the same loss behind each label; ``[N, 0]`` without labels.
    """

    nats: Floats
    tokens: Floats
    by_label: Floats

    @property
    def on_record(self) -> dict[str, Any]:
        """As plain JSON; every digit is kept."""
        return {"nats": self.nats.tolist(), "tokens": self.tokens.tolist(), "by_label": self.by_label.tolist()}


def losses_on_record(content: dict[str, Any]) -> JudgedLosses:
    """The losses that ``JudgedLosses.on_record`` gave.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    nats = np.array(content["nats"], dtype=np.float64)
    by_label = np.array(content["by_label"], dtype=np.float64).reshape(len(nats), -1)
    return JudgedLosses(nats=nats, tokens=np.array(content["tokens"], dtype=np.float64), by_label=by_label)


def judged_losses(
    loaded: LoadedModel, records: Sequence[Record], labels: Sequence[str], *, max_tokens: int
) -> JudgedLosses:
    """Score held-out texts.

    Args:
        loaded: the model.
        records: with a label as their prompt where there are labels.
        labels: all of them; none for plain text.
        max_tokens: what texts are cut to.

    Raises:
        BadInput: the model cannot be scored.
    """
    nats, tokens = _losses(loaded, records, max_tokens)
    behind = [_losses(loaded, [replace(record, prompt=label) for record in records], max_tokens)[0] for label in labels]
    return JudgedLosses(nats=nats, tokens=tokens, by_label=np.array(behind).T.reshape(len(records), len(labels)))


def _losses(loaded: LoadedModel, records: Sequence[Record], max_tokens: int) -> tuple[Floats, Floats]:
    from reticent.models.encode import encode
    from reticent.score.engine import ScoreOptions, open_engine, score

    rows = [encode(record, loaded.tokenizer, max_tokens=max_tokens) for record in records]
    engine = open_engine(loaded.model, loaded.source, ScoreOptions(max_tokens=max_tokens))
    columns, offsets = score(engine, rows)
    before = np.concatenate([[0.0], np.cumsum(-columns["logp"].astype(np.float64))])
    nats: Floats = before[offsets[1:]] - before[offsets[:-1]]
    return nats, np.diff(offsets).astype(np.float64)
