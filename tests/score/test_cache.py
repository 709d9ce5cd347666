# SPDX-License-Identifier: Apache-2.0
"""Keys tell contents apart, damage is seen, and joined shards are one table in full row groups."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from reticent.core.schema import TOKEN_COLUMNS
from reticent.core.table import ROW_GROUP, TokenTable, concat, read_table
from reticent.models.encode import EncodedRecord
from reticent.score.cache import content_key, drop, intact, join, keep, kept, key_of, open_cache
from reticent.score.candidates.memory import steady_heap


def table(rows, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 4, rows)
    total = int(lengths.sum())
    return TokenTable(
        rows={
            "record_id": np.array([f"{seed}-{i}" for i in range(rows)], dtype=object),
            "copy": np.zeros(rows, np.int32),
            "text_bytes": np.full(rows, 3, np.int32),
            "zlib_bytes": np.full(rows, 9, np.int32),
        },
        tokens={name: rng.integers(0, 2, total).astype(column.dtype) for name, column in TOKEN_COLUMNS.items()},
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


@pytest.mark.parametrize("sizes", [[0], [3], [5000], [3000, 3000, 3000], [0, 7, 0], [ROW_GROUP], [ROW_GROUP, 1]])
def test_joined_shards_are_their_rows_in_order(tmp_path, sizes):
    parts = [table(size, seed) for seed, size in enumerate(sizes)]
    join(iter(parts), tmp_path / "whole.parquet")
    found, truth = read_table(tmp_path / "whole.parquet"), concat(parts)
    for name in (*truth.rows, *truth.tokens):
        np.testing.assert_array_equal(found[name], truth[name])
    np.testing.assert_array_equal(found.offsets, truth.offsets)
    about = pq.read_metadata(tmp_path / "whole.parquet")
    groups = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
    total = sum(sizes)
    assert groups == [ROW_GROUP] * (total // ROW_GROUP) + [total % ROW_GROUP] * (total % ROW_GROUP > 0 or total == 0)


def test_what_is_kept_is_whole_or_not_there(tmp_path):
    path = tmp_path / "shard.parquet"
    assert kept(path) is None
    keep(table(20), path)
    found = kept(path)
    assert found is not None
    np.testing.assert_array_equal(found["logp"], table(20)["logp"])
    seal = path.with_suffix(".sha256")
    for damage in (lambda: path.write_bytes(path.read_bytes()[:-1]), seal.unlink, lambda: seal.write_bytes(b"\xff")):
        keep(table(20), path)
        damage()
        assert not intact(path)
    drop(path)
    assert not list(tmp_path.iterdir())


def test_keys_tell_apart():
    def row(ids, trained):
        return EncodedRecord(token_id=np.array(ids, dtype=np.int32), trained=np.array(trained, dtype=np.bool_))

    about = {"record_id": np.array(["a", "b"], dtype=object)}
    texts = [
        ([row([1, 2], [1, 1]), row([3], [1])], about),
        ([row([1], [1]), row([2, 3], [1, 1])], about),
        ([row([1, 2], [1, 0]), row([3], [1])], about),
        ([row([1, 2], [1, 1]), row([3], [1])], {"record_id": np.array(["a", "c"], dtype=object)}),
    ]
    assert len({content_key(*text) for text in texts}) == len(texts)
    assert content_key(*texts[0]) == content_key(*texts[0])
    assert key_of(1, "a") != key_of(1, "b")


def test_only_the_owner_can_read_the_cache(tmp_path):
    assert open_cache(tmp_path / "a" / "b").stat().st_mode & 0o077 == 0
    assert open_cache(tmp_path / "a" / "b").is_dir()


def test_the_heap_setting_changes_no_number():
    with steady_heap() as effective:
        assert isinstance(effective, bool)
        inside = np.ones((3000, 3000)).sum()
    assert inside == np.ones((3000, 3000)).sum()
