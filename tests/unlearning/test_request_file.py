# SPDX-License-Identifier: Apache-2.0
"""request.parquet: what is written comes back, holds no text, and nothing else is taken for it."""

import stat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.unlearning.request_file import (
    REASONS,
    RequestRow,
    read_request,
    request_fingerprint,
    write_request,
)

ROWS = (
    RequestRow("r1", "ana", "user", "steer"),
    RequestRow("r 2", None, "id", "judge"),
    RequestRow("用", "José", "file", "steer"),
    RequestRow("7", "7", "near copy", "judge"),
    RequestRow("#", "", "pattern", "steer"),
    RequestRow("x" * 500, "bo", "copy", "judge"),
)


def test_it_comes_back_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "request.parquet"
    write_request(path, ROWS)
    assert read_request(path) == ROWS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert pq.read_schema(path).names == ["record_id", "user", "reason", "part"]
    assert {row.reason for row in ROWS} == set(REASONS)


def test_the_fingerprint_is_of_the_set_of_ids():
    assert request_fingerprint(["a", "b"]) == request_fingerprint(["b", "a", "b"])
    assert request_fingerprint(["a", "b"]) != request_fingerprint(["ab"])
    assert request_fingerprint(['a"', "b"]) != request_fingerprint(['a"b'])
    assert request_fingerprint(["é"]) != request_fingerprint(["e\u0301"])


@given(st.sets(st.text(max_size=3), max_size=4), st.sets(st.text(max_size=3), max_size=4))
def test_other_ids_have_another_fingerprint(first, second):
    assert (request_fingerprint(first) == request_fingerprint(second)) == (first == second)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "request.parquet"
    with pytest.raises(BadInput, match="is missing"):
        read_request(path)
    path.write_bytes(b"PAR1 but no table")
    with pytest.raises(BadInput, match="is no file of a request"):
        read_request(path)
    pq.write_table(pa.table({"record_id": ["r1"]}), path)
    with pytest.raises(BadInput, match="is no file of a request"):
        read_request(path)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [RequestRow("r1", None, "id", "judge")] * 2,
        [RequestRow("r1", None, "whim", "judge")],
        [RequestRow("r1", None, "id", "both")],
    ],
)
def test_damaged_rows_are_refused(tmp_path, rows):
    write_request(tmp_path / "request.parquet", rows)
    with pytest.raises(BadInput, match="damaged"):
        read_request(tmp_path / "request.parquet")


def test_a_later_format_is_named(tmp_path):
    path = tmp_path / "request.parquet"
    write_request(path, ROWS)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"reticent": "request", "version": "9"}), path)
    with pytest.raises(BadInput, match="another version"):
        read_request(path)
