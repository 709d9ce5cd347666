# SPDX-License-Identifier: Apache-2.0
"""Two models in turn: one has its weights in memory, and both answer as ever."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from reticent.core.errors import BadInput
from reticent.models.load import LoadedModel, load
from reticent.models.turns import Turns, memory_of
from reticent.testing.tiny import save_tiny

TEXT = torch.tensor([[5, 6, 7, 8]])


def opened(turns: Turns, folder: Path) -> LoadedModel:
    return turns.opened(partial(load, str(folder), dtype="float32", device="cpu"))


def test_one_model_has_its_weights_and_both_answer(tmp_path: Path) -> None:
    folders = [save_tiny(tmp_path / "a", seed=1), save_tiny(tmp_path / "b", seed=2, tied=False)]
    expected = [load(str(folder), dtype="float32", device="cpu").model(TEXT).logits for folder in folders]
    turns = Turns()
    models = [opened(turns, folder).model for folder in folders]
    whole = [memory_of(load(str(folder), dtype="float32", device="cpu").model) for folder in folders]
    shapes = [[(weight.shape, weight.dtype, weight.device) for weight in model.parameters()] for model in models]
    embeddings = [model.get_input_embeddings() for model in models]
    for number in (1, 0, 0, 1):
        with torch.inference_mode():
            assert torch.equal(models[number](TEXT).logits, expected[number])
        assert memory_of(models[number]) == whole[number]
        assert memory_of(models[1 - number]) <= 8
        assert all(weight.isnan().all() for weight in models[1 - number].parameters())
    assert embeddings[0].weight.isnan().all()
    assert embeddings[0](TEXT).isfinite().all()  # who calls a part of it, calls it too
    assert models[0].lm_head.weight is embeddings[0].weight
    assert shapes == [
        [(weight.shape, weight.dtype, weight.device) for weight in model.parameters()] for model in models
    ]


def test_files_that_change_meanwhile_are_noticed(tmp_path: Path) -> None:
    turns = Turns()
    first = opened(turns, save_tiny(tmp_path / "a", seed=1))
    opened(turns, save_tiny(tmp_path / "b", seed=2))
    save_tiny(tmp_path / "c", seed=3)
    (tmp_path / "c" / "model.safetensors").replace(tmp_path / "a" / "model.safetensors")
    with pytest.raises(BadInput, match="is another model than a moment ago"):
        first.model(TEXT)
