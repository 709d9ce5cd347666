# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.privacy.sampling import TokenRange
from reticent.train.batches import IGNORED
from reticent.train.private.micro_batches import micro_batches, row_of, tokens_of

LENGTHS = (3, 9, 1, 5, 12, 4)
DATA = [{"input_ids": list(range(100 * i, 100 * i + n))} for i, n in enumerate(LENGTHS)]


def whole(record: int) -> tuple[TokenRange, ...]:
    return (TokenRange(record, 0, LENGTHS[record]),)


@settings(deadline=None, max_examples=100)
@given(
    units=st.lists(st.lists(st.integers(0, 5), min_size=0, max_size=4), max_size=12), micro_tokens=st.integers(1, 200)
)
def test_every_trained_row_is_there_once_whole_and_weighed(units: list[list[int]], micro_tokens: int) -> None:
    batches = list(micro_batches([tuple(map(whole, unit)) for unit in units], DATA, micro_tokens=micro_tokens, pad=7))
    found = []
    for batch in batches:
        rows, length = batch.labels.shape
        per_unit = batch.rows_per_unit
        assert rows % per_unit == 0
        assert rows * length <= micro_tokens or rows == per_unit  # one unit alone may be larger
        assert bool((batch.inputs["attention_mask"][:, 0] == 1).all())  # nothing to attend to would be NaN
        for unit in range(rows // per_unit):
            part = range(unit * per_unit, (unit + 1) * per_unit)
            weights = batch.weight[list(part)]
            assert float(weights.sum()) == pytest.approx(1)
            assert len(set(weights[weights > 0].tolist())) == 1
            kept = []
            for row in part:
                n = int(batch.inputs["attention_mask"][row].sum())
                assert bool((batch.labels[row, n:] == IGNORED).all())
                if weights[row - part[0]] > 0:
                    ids = batch.inputs["input_ids"][row, :n].tolist()
                    assert batch.labels[row, :n].tolist() == ids
                    assert bool((batch.inputs["input_ids"][row, n:] == 7).all())
                    kept.append(ids[0] // 100)
                else:
                    assert bool((batch.labels[row] == IGNORED).all())
            found.append(kept)
    # Record 2 has one token, and nothing predicts it.
    wanted = [[record for record in unit if record != 2] for unit in units]
    assert sorted(found) == sorted(unit for unit in wanted if unit)


def test_rows_of_several_pieces_lie_one_behind_the_other() -> None:
    row = row_of(DATA, (TokenRange(1, 4, 7), TokenRange(0, 0, 2)))
    assert row.ids.tolist() == [104, 105, 106, 0, 1]
    assert not row_of(DATA, ()).is_trained


def test_similar_units_share_a_micro_batch_longest_first() -> None:
    units = [tuple(map(whole, [record])) for record in (0, 4, 5, 1)]
    shapes = [tuple(batch.labels.shape) for batch in micro_batches(units, DATA, micro_tokens=24, pad=0)]
    assert shapes == [(2, 12), (2, 4)]


def test_a_long_unit_leaves_the_whole_budget_to_those_behind_it() -> None:
    units = [tuple(map(whole, [record])) for record in (4, 0, 0, 0, 0)]
    shapes = [tuple(batch.labels.shape) for batch in micro_batches(units, DATA, micro_tokens=12, pad=0)]
    assert shapes == [(1, 12), (4, 3)]


def test_labels_follow_what_is_trained() -> None:
    one = EncodedRecord(token_id=np.array([4, 5, 6], dtype=np.int32), trained=np.array([False, True, True]))
    assert tokens_of(one).labels.tolist() == [IGNORED, 5, 6]
    assert tokens_of({"input_ids": [4, 5], "labels": [IGNORED, 5]}).labels.tolist() == [IGNORED, 5]


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"text": "a"}, "no column input_ids"),
        ({"input_ids": [1, 2], "completion_mask": [0, 1]}, "would train on all tokens"),
        ({"input_ids": [1, 0], "attention_mask": [1, 0]}, "padded already"),
    ],
)
def test_what_is_not_ready_for_training_is_refused(item: dict[str, list[int]], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        tokens_of(item)
