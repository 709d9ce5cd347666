# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reticent.core.errors import BadInput
from reticent.models.weights import fingerprint_weights

A, B = torch.arange(6, dtype=torch.float32).reshape(2, 3), torch.arange(4, dtype=torch.float16)


def test_it_is_the_hash_of_names_shapes_and_bytes(tmp_path: Path) -> None:
    save_file({"b": B, "a": A}, tmp_path / "model.safetensors")
    digest = hashlib.sha256()
    for name, dtype, tensor in (("a", "F32", A), ("b", "F16", B)):
        digest.update(json.dumps([name, dtype, list(tensor.shape)]).encode() + tensor.numpy().tobytes())
    assert fingerprint_weights(tmp_path) == digest.hexdigest()


def test_how_tensors_are_spread_over_files_does_not_matter(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    save_file({"a": A, "b": B}, tmp_path / "one" / "model.safetensors", metadata={"format": "pt"})
    save_file({"b": B}, tmp_path / "two" / "model-1.safetensors")
    save_file({"a": A}, tmp_path / "two" / "model-2.safetensors")
    assert fingerprint_weights(tmp_path / "one") == fingerprint_weights(tmp_path / "two")


@pytest.mark.parametrize("other", [{"a": A + 1, "b": B}, {"a": A, "c": B}, {"a": A.reshape(3, 2), "b": B}])
def test_any_change_shows(tmp_path: Path, other: dict[str, torch.Tensor]) -> None:
    save_file({"a": A, "b": B}, tmp_path / "model.safetensors")
    before = fingerprint_weights(tmp_path)
    save_file(other, tmp_path / "model.safetensors")
    assert fingerprint_weights(tmp_path) != before


@pytest.mark.parametrize("data", [b"", b"\x00" * 4, b"\xff" * 64, b"\x02" + b"\x00" * 7 + b"[]"])
def test_broken_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(BadInput, match="safetensors"):
        fingerprint_weights(tmp_path)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no safetensors"):
        fingerprint_weights(tmp_path)
