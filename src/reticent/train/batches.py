# SPDX-License-Identifier: Apache-2.0
"""Encoded records, the order in which they are seen, and the padded batches that they become."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from reticent.core.progress import progress
from reticent.core.record import Record
from reticent.models.context import positions_of
from reticent.models.encode import IGNORED as IGNORED
from reticent.models.encode import EncodedRecord, encode

_POOL = 50
"""Batches' worth of shuffled records within which records are ordered by length."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """Records as a model is trained on them.

    Args:
        encoded: those with at least one token to predict.
        records: ``[len(encoded)]``, which record each of them was.
        truncated: how many of them were cut off.
        empty: how many records were left out because nothing of them is predicted.
    """

    encoded: list[EncodedRecord]
    records: tuple[int, ...]
    truncated: int
    empty: int

    @property
    def predicting(self) -> Corpus:
        """Without texts of which no token is to be predicted (any more); they count as empty."""
        rows = [i for i, encoded in enumerate(self.encoded) if encoded.predicted]
        return replace(
            self,
            encoded=[self.encoded[i] for i in rows],
            records=tuple(self.records[i] for i in rows),
            empty=self.empty + len(self.encoded) - len(rows),
        )

    @property
    def tokens(self) -> int:
        return sum(len(example) for example in self.encoded)

    @property
    def trained_tokens(self) -> int:
        return sum(example.predicted for example in self.encoded)


NOTHING = Corpus(encoded=[], records=(), truncated=0, empty=0)


def encode_all(records: Sequence[Record], tokenizer: Any, max_tokens: int, *, mark_spans: bool = False) -> Corpus:
    """Encode records for training, each with its end marked; with ``mark_spans`` as in ``encode``."""
    encoded = []
    with progress("Tokenising", len(records), unit="records") as advance:
        for record in records:
            example = encode(record, tokenizer, max_tokens=max_tokens, add_eos=True, mark_spans=mark_spans)
            encoded.append(example)
            advance(1)
    rows = tuple(i for i, example in enumerate(encoded) if example.predicted)
    useful = [encoded[i] for i in rows]
    return Corpus(
        encoded=useful,
        records=rows,
        truncated=sum(example.truncated for example in useful),
        empty=len(encoded) - len(useful),
    )


def collate(batch: Sequence[EncodedRecord], *, pad: int) -> dict[str, torch.Tensor]:
    """Right-pad to the longest: ``input_ids``, ``attention_mask``, ``labels``, each ``[B, T]`` int64.

    A label is its token's id where the token is trained on and ``IGNORED`` elsewhere; the model shifts them.
    """
    shape = (len(batch), max(len(example) for example in batch))
    ids = np.full(shape, pad, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    for row, example in enumerate(batch):
        n = len(example)
        ids[row, :n] = example.token_id
        mask[row, :n] = 1
        labels[row, :n] = np.where(example.trained, example.token_id, IGNORED)
    arrays = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def read_alike(model: Any, rows: Sequence[EncodedRecord], size: int) -> Iterator[Sequence[EncodedRecord]]:
    """Batches of ``size`` rows or less, in order, in which the model gives each row the positions that it has alone.

    For rows in the order of their lengths whose losses are told; what is trained on goes through batches as it comes,
    as everywhere.
    """
    positions = positions_of(model)
    for _, alike in groupby(rows, key=lambda row: positions.regime(len(row))):
        part = list(alike)
        for start in range(0, len(part), size):
            yield part[start : start + size]


class LengthGrouped(Sampler[int]):
    """A shuffled order in which neighbours have similar lengths, so that little is padding.

    The order depends on seed and epoch alone, so that a resumed training sees what it would have seen. Each batch of
    ``batch_size`` neighbours holds records of one pool of shuffled ones, and batches come in random order. Not for
    private training, where who shares a batch must not depend on the records.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = np.asarray(lengths), batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        pool = _POOL * self.batch_size
        batches = []
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            part = part[np.argsort(-self.lengths[part], kind="stable")]
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        short = [batch for batch in batches if len(batch) < self.batch_size]
        # A batch that is not full has to come last: the loader cuts the order into batches by counting.
        for place in rng.permutation(len(full)):
            yield from full[place].tolist()
        for batch in short:
            yield from batch.tolist()
