# SPDX-License-Identifier: Apache-2.0
"""The data, tokenizer and base that an objective makes its trainer from. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reticent.core.record import Record

if TYPE_CHECKING:
    from reticent.train.batches import Corpus


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingMaterial:
    """All that an objective may look at when it makes its trainer or what lies beside the model.

    Args:
        records: those that are trained on, before any text was rewritten.
        tokenised: their texts as written for the training, before any token was left out.
        corpus: what is trained on.
        record_sets: further sets of records by name, such as those to be forgotten, tokenised as they are.
        tokenizer: of the base.
        max_tokens: what texts are cut to.
        pad: token id that fills up rows.
        reference: loads the model before any tuning once more, frozen: for objectives that hold the model against it.
    """

    records: Sequence[Record]
    tokenised: Corpus
    corpus: Corpus
    record_sets: Mapping[str, Corpus]
    tokenizer: Any
    max_tokens: int
    pad: int
    reference: Callable[[], Any]
