# SPDX-License-Identifier: Apache-2.0
"""TokenTable's ragged operations against loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.table import TokenTable, concat, iter_tables, read_table


def make(lengths, seed=0):
    rng = np.random.default_rng(seed)
    n, total = len(lengths), int(sum(lengths))
    return TokenTable(
        rows={
            "record_id": np.array([f"r{i}" for i in range(n)], dtype=object),
            "copy": np.zeros(n, np.int32),
            "text_bytes": np.full(n, 10, np.int32),
            "zlib_bytes": np.full(n, 12, np.int32),
        },
        tokens={
            "token_id": rng.integers(0, 50, total).astype(np.int32),
            "logp": -rng.exponential(size=total).astype(np.float32),
            "rank": rng.integers(0, 50, total).astype(np.int32),
            "entropy": rng.exponential(size=total).astype(np.float32),
            "mu": -rng.exponential(size=total).astype(np.float32),
            "sigma": rng.exponential(size=total).astype(np.float32),
            "loss_mask": rng.random(total) < 0.7,
        },
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def rows_of(table, name):
    return [table[name][a:b] for a, b in zip(table.offsets, table.offsets[1:], strict=False)]


ragged = st.lists(st.integers(0, 12), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(ragged, st.sampled_from([0.1, 0.2, 1 / 3, 0.5, 1.0]))
def test_reductions_equal_loops(lengths, k):
    table = make(lengths)
    rows = rows_of(table, "logp")
    np.testing.assert_allclose(table.sum(table["logp"]), [r.astype(float).sum() for r in rows], rtol=1e-12)
    np.testing.assert_allclose(table.mean(table["logp"]), [r.astype(float).mean() if len(r) else np.nan for r in rows])
    counts = [int(np.ceil(round(k * len(r), 9))) for r in rows]
    naive = [np.sort(r.astype(float))[:c].mean() if len(r) else np.nan for r, c in zip(rows, counts, strict=True)]
    np.testing.assert_allclose(table.mean_lowest(table["logp"], k), naive)


@settings(max_examples=30, deadline=None)
@given(ragged)
def test_take_trained_and_concat_equal_loops(lengths):
    table = make(lengths)
    order = np.random.default_rng(1).permutation(len(table))
    for got, want in zip(rows_of(table.take(order), "rank"), [rows_of(table, "rank")[i] for i in order], strict=True):
        np.testing.assert_array_equal(got, want)
    for got, values, mask in zip(
        rows_of(table.trained(), "logp"), rows_of(table, "logp"), rows_of(table, "loss_mask"), strict=True
    ):
        np.testing.assert_array_equal(got, values[mask])
    both = concat([table, table])
    assert len(both) == 2 * len(table)
    np.testing.assert_array_equal(both["logp"], np.tile(table["logp"], 2))


def test_parquet_round_trip_and_identical_bytes(tmp_path):
    table = make([3, 0, 5] * 2000)
    table.write(tmp_path / "a.parquet")
    table.write(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    back = read_table(tmp_path / "a.parquet")
    for name in [*table.rows, *table.tokens]:
        np.testing.assert_array_equal(back[name], table[name])
        assert back[name].dtype == table[name].dtype
    streamed = concat(list(iter_tables(tmp_path / "a.parquet", columns=["logp"])))
    np.testing.assert_array_equal(streamed["logp"], table["logp"])
    assert set(streamed.tokens) == {"logp"}


def test_write_refuses_what_is_not_finite(tmp_path):
    table = make([2, 3])
    table.tokens["logp"][3] = np.nan
    with pytest.raises(BadInput, match=r"'r1'.*logp"):
        table.write(tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())
