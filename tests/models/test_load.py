# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reticent.core.errors import BadInput
from reticent.models.load import describe, load, pick_dtype
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer

IDS = torch.tensor([[5, 70, 33, 200]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model")


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_is_read_as_it_was_written(tmp_path: Path, arch: str, tied: bool) -> None:
    loaded = load(str(save_tiny(tmp_path / "m", arch=arch, tied=tied, seed=3)), dtype="float32")
    expected = tiny_model(arch, tied=tied, seed=3)(IDS).logits  # type: ignore[arg-type]
    assert torch.equal(loaded.model(IDS).logits, expected)
    assert not loaded.model.training
    assert len(loaded.tokenizer) == len(tiny_tokenizer())
    assert (loaded.is_adapter, loaded.dtype, loaded.device) == (False, "float32", "cpu")
    with pytest.raises(BadInput, match="no adapter"):
        loaded.adapter_off()


def test_dtype(folder: Path) -> None:
    assert load(str(folder), dtype="bfloat16").model.dtype is torch.bfloat16
    assert pick_dtype("auto", "cpu") in ("float32", "bfloat16")
    with pytest.raises(BadInput, match="dtype"):
        load(str(folder), dtype="int3")


def test_describe_is_json(folder: Path) -> None:
    about = json.loads(json.dumps(describe(load(str(folder)))))
    assert about["parameters"] == sum(p.numel() for p in tiny_model().parameters())
    assert about["method"] is None


def test_missing_sources_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load(str(tmp_path / "nowhere"))
    (tmp_path / "file.gguf").write_text("x")
    with pytest.raises(BadInput, match="not a model folder"):
        load(str(tmp_path / "file.gguf"))
    with pytest.raises(BadInput, match="no weights"):
        load(str(tmp_path))
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BadInput, match="reticent fetch-model smollm2-135m"):
        load("smollm2-135m")


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match="hub cannot be reached"):
        load("nobody/no-such-model")


def test_pickled_weights_are_refused(folder: Path) -> None:
    torch.save(tiny_model().state_dict(), folder / "pytorch_model.bin")
    load(str(folder))  # the safetensors beside it are what is read
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"pytorch_model\.bin.*run code"):
        load(str(folder))


def test_weights_that_are_missing_are_never_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"lacks 1 .*layers\.1\.mlp\.up_proj"):
        load(str(folder))


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(BadInput):
        load(str(folder))


def test_a_file_cut_short_is_refused(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(BadInput):
        load(str(folder))


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m", vocab_size=len(tiny_tokenizer()) - 1)
    with pytest.raises(BadInput, match="tokenizer of 281 tokens but a model of 280"):
        load(str(folder))
    load(str(save_tiny(tmp_path / "padded", vocab_size=320)))  # rows that no token uses are common


def test_no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(BadInput, match="tokenizer"):
        load(str(folder))


def test_remote_code_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(str(folder))


def test_a_device_that_is_not_there(folder: Path) -> None:
    with pytest.raises(BadInput, match="not usable"):
        load(str(folder), device="cuda:99")
