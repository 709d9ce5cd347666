# SPDX-License-Identifier: Apache-2.0
"""The texts that are looked at while a model unlearns: some to be forgotten, some never trained on, some to be kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import ATTACKS
from reticent.core.record import Record
from reticent.core.table import TokenTable
from reticent.data.coin import uniform
from reticent.models.encode import EncodedRecord, encode
from reticent.models.load import pick_dtype
from reticent.monitor.passes import as_it_was, rounded
from reticent.score.engine import ScoreOptions, open_engine, score
from reticent.score.forward import device_of

Floats = npt.NDArray[np.float64]

ATTACKS_LOOKED_AT = ("loss", "ref_ratio", "min_k_plus", "ez_mia")
"""Membership attacks that all have to fail before unlearning ends, on both sides."""
TIMES = 4
"""Unseen texts in a panel, and those to be kept: so many times the texts to be forgotten, within the limits below. Each
costs a pass in every look, and beyond that they add little to what an AUC can show."""
FEWEST_UNSEEN = 32
FEWEST_RETAIN, MOST_RETAIN = 24, 64
"""The same texts are held against themselves, before and after, so that few show a rise of their loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UnlearningPanel:
    """Encoded texts ``[N]``, each with a token to predict.

    Args:
        rows: as the model reads them.
        side: ``[N]`` ``"forget"``, ``"unseen"`` or ``"retain"``.
        user: ``[N]`` owners; None where a text has none.
    """

    rows: Sequence[EncodedRecord]
    side: npt.NDArray[np.object_]
    user: npt.NDArray[np.object_]

    def of(self, side: str) -> npt.NDArray[np.bool_]:
        """``[N]``: the texts of that side."""
        mask: npt.NDArray[np.bool_] = self.side == side
        return mask


def make_panel(
    forget: Sequence[Record],
    unseen: Sequence[Record],
    retain: Sequence[Record],
    tokenizer: Any,
    *,
    max_tokens: int | None,
) -> UnlearningPanel:
    """A panel of all texts to be forgotten, and of some of the others by hash."""
    times = TIMES * len(forget)
    others = _some(unseen, max(FEWEST_UNSEEN, times))
    kept = _some(retain, min(max(FEWEST_RETAIN, times), MOST_RETAIN))
    sides = (("forget", forget), ("unseen", others), ("retain", kept))
    texts = [
        (name, record.user, encode(record, tokenizer, max_tokens=max_tokens))
        for name, records in sides
        for record in records
    ]
    texts = [text for text in texts if text[2].predicted]
    return UnlearningPanel(
        rows=[row for _, _, row in texts],
        side=np.array([name for name, _, _ in texts], dtype=object),
        user=np.array([user for _, user, _ in texts], dtype=object),
    )


def _some(records: Sequence[Record], most: int) -> list[Record]:
    return sorted(records, key=lambda record: uniform(0, "unlearning panel", record.id))[:most]


def table_of(model: Any, rows: Sequence[EncodedRecord], dtype: str) -> TokenTable:
    """Token statistics of a model on texts, as an audit would see them; the model is left exactly as it was.

    Args:
        model: in training or not.
        rows: ``[N]``.
        dtype: what is computed in, as in `reticent.monitor.passes.Passes`.
    """
    with as_it_was(model), ExitStack() as within:
        if pick_dtype(dtype, device_of(model).type) == "bfloat16":
            within.enter_context(rounded(model))
        columns, offsets = score(open_engine(model, "the model in training", ScoreOptions()), rows)
    ids = np.array([str(place) for place in range(len(rows))], dtype=object)
    return TokenTable(rows={"record_id": ids}, tokens=columns, offsets=offsets)


def attack_scores(table: TokenTable, base: TokenTable) -> dict[str, Floats]:
    """``[N]`` scores of the attacks looked at, higher = looks trained on."""
    evidence = {"table": table, "ref": base}
    scores = {}
    for name in ATTACKS_LOOKED_AT:
        attack = ATTACKS.get(name)
        scores[name] = attack.score({needed: evidence[needed] for needed in attack.evidence})
    return scores
