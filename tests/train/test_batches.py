# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.record import Record
from reticent.models.encode import EncodedRecord
from reticent.testing.tiny import tiny_tokenizer
from reticent.train.batches import IGNORED, LengthGrouped, collate, encode_all


def encoded(ids: list[int], trained: list[bool]) -> EncodedRecord:
    return EncodedRecord(token_id=np.array(ids, dtype=np.int32), trained=np.array(trained, dtype=bool))


def test_collate_pads_and_masks() -> None:
    batch = collate([encoded([4, 5, 6], [False, True, True]), encoded([7, 8], [True, True])], pad=9)
    assert batch["input_ids"].tolist() == [[4, 5, 6], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 5, 6], [7, 8, IGNORED]]


def test_what_cannot_be_trained_on_is_left_out_and_counted() -> None:
    records = [
        Record(id="whole", text="abc"),
        Record(id="cut", text="abcdefghij"),
        Record(id="prompt too long", prompt="abcdefghij", completion="k"),
        Record(id="one byte, then the end", text="a"),
        Record(id="only the end", text=""),
    ]
    corpus = encode_all(records, tiny_tokenizer(), 6)
    assert [len(one) for one in corpus.encoded] == [4, 6, 2]
    assert (corpus.truncated, corpus.empty) == (1, 2)
    assert corpus.tokens == 12
    assert corpus.trained_tokens == 3 + 5 + 1  # the first token of a text is not predicted


@settings(deadline=None, max_examples=50)
@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=300),
    batch_size=st.integers(1, 16),
    seed=st.integers(0, 99),
)
def test_each_epoch_sees_each_record_once(lengths: list[int], batch_size: int, seed: int) -> None:
    sampler = LengthGrouped(lengths, batch_size, seed)
    first = list(sampler)
    assert sorted(first) == list(range(len(lengths))) == list(range(len(sampler)))
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first
    if len(set(lengths)) > 50:
        assert first != second


def test_batches_hold_records_of_similar_length_in_random_order() -> None:
    lengths = np.random.default_rng(0).integers(10, 500, size=400)
    order = np.array(list(LengthGrouped(lengths.tolist(), 8, 0)))
    batches = lengths[order].reshape(-1, 8)
    padding = 1 - batches.sum() / (batches.max(axis=1) * 8).sum()
    shuffled = lengths[np.random.default_rng(1).permutation(400)].reshape(-1, 8)
    assert padding < 0.05 < 1 - shuffled.sum() / (shuffled.max(axis=1) * 8).sum()
    assert abs(np.corrcoef(np.arange(50), batches.mean(axis=1))[0, 1]) < 0.4
