# SPDX-License-Identifier: Apache-2.0
"""A file of a cache counts only where it is what was sealed."""

from __future__ import annotations

from pathlib import Path

import pytest

from reticent.core.sealed import drop, intact, seal, seal_of


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "no seal", "noise for a seal"])
def test_any_damage_is_seen(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(bytes(range(200)))
    assert not intact(path)
    seal(path)
    assert intact(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "flipped":
        path.write_bytes(b"\1" + path.read_bytes()[1:])
    elif damage == "gone":
        path.unlink()
    elif damage == "no seal":
        seal_of(path).unlink()
    else:
        seal_of(path).write_bytes(b"\xff\xfe")
    assert not intact(path)
    drop(path)
    assert list(tmp_path.iterdir()) == []
