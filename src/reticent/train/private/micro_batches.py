# SPDX-License-Identifier: Apache-2.0
"""The units of a step as padded tensors, a few at a time, so that memory follows a budget of tokens and not the batch.

Which units share a micro-batch changes nothing but rounding: each unit's gradient is clipped on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from reticent.core.errors import BadInput
from reticent.models.encode import IGNORED, EncodedRecord
from reticent.privacy.sampling import Row, TokenRange, Unit

_MASKS = ("completion_mask", "assistant_masks")
"""Columns that say what is trained on where nobody has made labels of them."""


class Tokens(NamedTuple):
    """A sequence: ``ids [n]`` and ``labels [n]`` (``IGNORED`` where not trained on), int64."""

    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    @property
    def is_trained(self) -> bool:
        """True if any token is predicted; the first one never is."""
        return self.predicted > 0

    @property
    def predicted(self) -> int:
        """How many tokens are predicted."""
        return int((self.labels[1:] != IGNORED).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class MicroBatch:
    """Input of one forward and backward pass: U units of R rows each, ``B = U·R``, rows of a unit adjacent.

    Args:
        inputs: ``input_ids`` and ``attention_mask``, ``[B, T]`` int64.
        labels: ``[B, T]`` int64.
        weight: ``[B]`` float32: 1 / (rows of the unit), 0 for rows that only fill up.
        rows_per_unit: R.
        places: of the U units among those that were given.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    weight: torch.Tensor
    rows_per_unit: int
    places: tuple[int, ...]

    def to(self, device: torch.device | str) -> MicroBatch:
        """The same on ``device``."""
        return replace(
            self,
            inputs={name: tensor.to(device) for name, tensor in self.inputs.items()},
            labels=self.labels.to(device),
            weight=self.weight.to(device),
        )


def tokens_of(item: Any) -> Tokens:
    """A record as it is trained on: an ``EncodedRecord``, or what a data set of TRL or the Trainer holds.

    Raises:
        BadInput: no ``input_ids``, or a mask that nobody has turned into labels.
    """
    if isinstance(item, EncodedRecord):
        ids = item.token_id.astype(np.int64)
        return Tokens(ids=ids, labels=np.where(item.trained, ids, IGNORED))
    if not isinstance(item, Mapping) or "input_ids" not in item:
        raise BadInput("train_dataset", "has no column input_ids", "Tokenise it first (TRL's SFTTrainer does).")
    masks = [name for name in _MASKS if name in item]
    if masks and "labels" not in item:
        raise BadInput(f"train_dataset with {masks[0]} but no labels", "would train on all tokens", "Add labels.")
    ids = np.asarray(item["input_ids"], dtype=np.int64)
    labels = np.asarray(item["labels"], dtype=np.int64) if item.get("labels") is not None else ids
    if labels.shape != ids.shape:
        raise BadInput(
            f"train_dataset with {labels.size} label{'' if labels.size == 1 else 's'} for {ids.size} tokens",
            "is for another task: private training is for causal language models, which have a label for each token",
            "Give labels of the length of input_ids (-100 where not trained on), or none.",
        )
    if "attention_mask" in item and not np.all(item["attention_mask"]):
        raise BadInput("train_dataset", "holds records that are padded already", "Tokenise without padding.")
    return Tokens(ids=ids, labels=labels)


def row_of(dataset: Any, pieces: Row) -> Tokens:
    """The pieces of a row, one behind the other."""
    parts = [_cut(tokens_of(dataset[piece.record]), piece) for piece in pieces]
    if not parts:
        return Tokens(ids=np.zeros(0, dtype=np.int64), labels=np.zeros(0, dtype=np.int64))
    return Tokens(
        ids=np.concatenate([part.ids for part in parts]), labels=np.concatenate([part.labels for part in parts])
    )


def micro_batches(units: Sequence[Unit], dataset: Any, *, micro_tokens: int, pad: int) -> Iterator[MicroBatch]:
    """Whole units, similar ones together, longest first; units that train nothing are left out.

    Args:
        units: of one step.
        dataset: what record numbers point into.
        micro_tokens: ``B·T`` is at most this, except where one unit alone is larger.
        pad: token id that fills up rows.
    """
    whole = [[row for row in (row_of(dataset, pieces) for pieces in unit) if row.is_trained] for unit in units]
    shapes = [(len(rows), max((len(row.ids) for row in rows), default=0)) for rows in whole]
    group: list[int] = []
    rows = longest = 0
    for place in sorted((i for i, unit in enumerate(whole) if unit), key=lambda i: shapes[i], reverse=True):
        rows, longest = max(rows, shapes[place][0]), max(longest, shapes[place][1])
        if group and (len(group) + 1) * rows * longest > micro_tokens:
            yield _padded({i: whole[i] for i in group}, pad)
            group, (rows, longest) = [], shapes[place]
        group.append(place)
    if group:
        yield _padded({i: whole[i] for i in group}, pad)


def _cut(tokens: Tokens, piece: TokenRange) -> Tokens:
    part = slice(piece.start, piece.stop)
    return Tokens(ids=tokens.ids[part], labels=tokens.labels[part])


def _padded(by_row: Mapping[int, Sequence[Tokens]], pad: int) -> MicroBatch:
    units = list(by_row.values())
    rows_per_unit = max(map(len, units))
    rows = len(units) * rows_per_unit
    shape = (rows, max(len(row.ids) for unit in units for row in unit))
    ids = np.full(shape, pad, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    mask[:, 0] = 1  # a row with nothing to attend to would be NaN, and 0 · NaN is not 0
    labels = np.full(shape, IGNORED, dtype=np.int64)
    weight = np.zeros(rows, dtype=np.float32)
    for place, unit in enumerate(units):
        for row, tokens in enumerate(unit, start=place * rows_per_unit):
            n = len(tokens.ids)
            ids[row, :n], mask[row, :n], labels[row, :n] = tokens.ids, 1, tokens.labels
            weight[row] = 1 / len(unit)
    return MicroBatch(
        inputs={"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)},
        labels=torch.from_numpy(labels),
        weight=torch.from_numpy(weight),
        rows_per_unit=rows_per_unit,
        places=tuple(by_row),
    )
