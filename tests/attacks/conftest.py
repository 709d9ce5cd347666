# SPDX-License-Identifier: Apache-2.0
"""Small token tables from plain lists."""

import numpy as np
import pytest

from reticent.core.table import TokenTable


def make_table(logp, *, ids=None, copies=1, **columns):
    """A table from one list of log-probabilities a row; other token columns are lists of lists too."""
    lengths = [len(row) for row in logp]
    total = sum(lengths)

    def flat(name, dtype, default):
        rows = columns.get(name)
        return np.full(total, default, dtype) if rows is None else np.array([x for row in rows for x in row], dtype)

    records = len(logp) // copies
    ids = [f"r{i}" for i in range(records)] if ids is None else ids
    return TokenTable(
        rows={
            "record_id": np.repeat(np.array(ids, dtype=object), copies),
            "copy": np.tile(np.arange(copies), records).astype(np.int32),
            "text_bytes": np.array(columns.get("text_bytes", [10] * len(logp)), np.int32),
            "zlib_bytes": np.array(columns.get("zlib_bytes", [20] * len(logp)), np.int32),
        },
        tokens={
            "token_id": flat("token_id", np.int32, 0),
            "logp": np.array([x for row in logp for x in row], np.float32),
            "rank": flat("rank", np.int32, 1),
            "entropy": flat("entropy", np.float32, 1.0),
            "mu": flat("mu", np.float32, -1.0),
            "sigma": flat("sigma", np.float32, 1.0),
            "loss_mask": flat("loss_mask", bool, True),
        },
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def random_rows(lengths, seed):
    rng = np.random.default_rng(seed)
    return [list(np.float32(-rng.exponential(2.0, n)).astype(float)) for n in lengths]


@pytest.fixture(scope="session", name="table_of")
def _table_of():
    return make_table


@pytest.fixture(scope="session", name="rows_of")
def _rows_of():
    return random_rows
