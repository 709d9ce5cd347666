# SPDX-License-Identifier: Apache-2.0
"""A model whose layers lie in several places answers as one that lies in one, and a map that cannot be is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn
from transformers import AutoConfig

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.computing_device import computing_device, lies_elsewhere, stand_ins, weights_at_hand
from reticent.models.device_map import DeviceMap, read_device_map, summary
from reticent.models.encode import encode
from reticent.models.load import LoadedModel, load, pick_device
from reticent.score.engine import ScoreOptions, score
from reticent.score.generation.generate import generate
from reticent.score.scored_model import ScoredModel
from reticent.score.workers.spawned import take_gpu
from reticent.testing.peft_zoo import CONFIGS, save_peft_adapter, save_peft_base
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

TEXTS = [Record(id=str(number), text="the order of Ann, number 4711 " * (number + 1)) for number in range(4)]
MAPS: dict[str, dict[str, Any]] = {
    "all on disk": {"": "disk"},
    "a block on disk": {"model.layers.0": "disk", "": "cpu"},
    "vocabulary on disk": {"model.embed_tokens": "disk", "lm_head": "disk", "model": "cpu"},
    "half a block on disk": {"model.layers.1.mlp": "disk", "model": "cpu", "lm_head": "cpu"},
    "all in one place": {"": "cpu"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("placed")
    save_tiny(made / "tied")
    save_tiny(made / "untied", tied=False)
    save_tiny(made / "gpt2", arch="gpt2")
    save_peft_base(made / "base")
    return made


def device_map(folder: Path, places: dict[str, Any]) -> DeviceMap:
    file = folder / "map.json"
    file.write_text(json.dumps(places))
    return DeviceMap(where=str(file), offload_folder=str(folder / "offloaded"))


def scored(loaded: LoadedModel, *, off: bool = False) -> tuple[tuple[Any, ...], dict[str, np.ndarray]]:
    side = ScoredModel(loaded=loaded, off=off, options=ScoreOptions())
    rows = [encode(text, loaded.tokenizer, max_tokens=None) for text in TEXTS]
    engine = side.engine
    with side.answering():
        return (side.key, side.choices.key, engine.forward.path, engine.forward.plain), score(engine, rows)[0]


def assert_same(mine: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(mine[name], values, rtol=0, atol=1e-6 if values.dtype.kind == "f" else 0)


# ---- the same scores -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["tied", "untied"])
def test_a_map_changes_no_score_and_no_name_of_a_table(name: str, dtype: str, folder: Path) -> None:
    about, expected = scored(load(str(folder / name), dtype=dtype, device="cpu"))
    for places in MAPS.values():
        loaded = load(str(folder / name), dtype=dtype, device_map=device_map(folder, places))
        assert lies_elsewhere(loaded.model) == ("disk" in places.values())
        found, mine = scored(loaded)
        assert found == about
        assert_same(mine, expected)


def test_a_family_with_other_names_and_memory_that_is_short(folder: Path) -> None:
    plain = load(str(folder / "gpt2"), dtype="float32", device="cpu")
    wish = DeviceMap(where="auto", max_memory="cpu=200KB", offload_folder=str(folder / "offloaded"))
    loaded = load(str(folder / "gpt2"), dtype="float32", device_map=wish)
    assert set(summary(loaded.model) or ()) == {"cpu", "disk"}
    assert_same(scored(loaded)[1], scored(plain)[1])
    prefixes = [[5, 6, 7], [9, 10]]
    mine, expected = (generate(one.model, one.tokenizer, prefixes, max_new_tokens=5) for one in (loaded, plain))
    assert mine.token_id.tolist() == expected.token_id.tolist()


REFUSED = {
    *("lora_dora", "lora_dora_head", "lora_saved_modules", "lora_saved_norms", "lora_embeddings", "lora_head"),
    *("lora_tokens", "lora_parameters", "lora_bias_all", "lora_bias_lora_only", "lora_pissa", "lora_pissa_fast"),
    *("lora_olora", "dora_bias_all", "oft_bias", "boft", "hra", "ln_tuning", "shira", "trainable_tokens", "prefix"),
}
"""Adapters that hold or read weights of the base: all others give the same scores."""
QUICK = {"lora", "adalora", "ia3", "loha", "p_tuning", *("lora_dora", "lora_saved_modules", "lora_pissa", "ln_tuning")}


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in CONFIGS]
)
def test_an_adapter_on_a_base_that_lies_elsewhere(kind: str, folder: Path) -> None:
    adapter = save_peft_adapter(folder / "base", folder / kind, kind)
    wish = device_map(folder, {"": "disk"})
    if kind in REFUSED:
        with pytest.raises(BadInput, match="with a device map: "):
            load(str(adapter), dtype="float32", device_map=wish)
        return
    plain = load(str(adapter), dtype="float32", device="cpu")
    loaded = load(str(adapter), dtype="float32", device_map=wish)
    assert (loaded.fingerprint, loaded.apart) == (plain.fingerprint, plain.apart)
    for off in (False, True) if plain.is_adapter else (False,):
        assert_same(scored(loaded, off=off)[1], scored(plain, off=off)[1])


@pytest.mark.parametrize("method", ["lora", "adapter", "prompt", "full"])
def test_what_tune_saved_lies_where_it_is_asked_to(method: str, folder: Path) -> None:
    made = tune(str(folder / "tied"), TEXTS, folder / f"tuned-{method}", TuneConfig(method=method, epochs=1))
    about, expected = scored(load(str(made), dtype="float32", device="cpu"))
    found, mine = scored(load(str(made), dtype="float32", device_map=device_map(folder, {"": "disk"})))
    assert found == about
    assert_same(mine, expected)


def test_the_comparison_would_see_a_layer_that_is_lost(folder: Path) -> None:
    expected = scored(load(str(folder / "untied"), dtype="float32", device="cpu"))[1]
    loaded = load(str(folder / "untied"), dtype="float32", device_map=device_map(folder, MAPS["a block on disk"]))
    weights = loaded.model.model.layers[0].mlp.down_proj._hf_hook.weights_map.dataset
    name = "model.layers.0.mlp.down_proj.weight"
    weights.index[name] = weights.index["model.layers.0.mlp.down_proj.weight"] | {
        "weight_name": "model.layers.1.mlp.down_proj.weight"
    }
    with pytest.raises(AssertionError):
        assert_same(scored(loaded)[1], expected)


# ---- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ({"model.layers.0": "cpu"}, "leaves '.*' nowhere"),
        ({"model.layers": "cpu", "model.embed_tokens": "cpu", "lm_head": "cpu"}, "leaves 'model.norm.weight' nowhere"),
        ({"": "cpu", "model.layers.9": "disk"}, "no such module"),
        ({"": "cpu", "transformer": "disk"}, "no such module"),
        ({"": "cpu", "lm_head": "disk"}, "are one weight, in two places"),
        ({"": "cpu", "model.layers.0.mlp": 0}, "cuts 'model.layers.0' over several devices"),
        ({"": 0, "model.layers.0.mlp": 1}, "cuts 'model.layers.0' over several devices"),
    ],
)
def test_a_map_that_cannot_be_is_refused(places: dict[str, Any], reason: str, folder: Path) -> None:
    wish = device_map(folder, places)
    config = AutoConfig.from_pretrained(folder / "tied")
    with pytest.raises(BadInput, match=reason):
        wish.places("m", config, torch.float32)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "{}", '"auto"', '{"": true}', '{"": -1}', '{"": "gpu"}', '{"": null}', '{"": "meta"}'),
        *("[" * 10_000, '{"": "cpu", "": "disk"}', '{"": "cuda:x"}', '{"": {"model": 0}}', '{"": 1.5}'),
    ],
)
def test_a_file_that_is_no_map_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    file.write_text(content)
    with pytest.raises(BadInput, match=r"--device_map .*map\.json: is neither auto nor balanced nor a file"):
        read_device_map(file)
    with pytest.raises(BadInput, match="is neither auto"):
        read_device_map(tmp_path)


def test_gpus_are_named_in_several_ways(folder: Path) -> None:
    wish = device_map(folder, {"": "cuda:1", "model.layers.0": 1, "model.layers.1": "1"})
    assert wish.device == "cuda:1"
    assert wish.places("m", AutoConfig.from_pretrained(folder / "tied"), torch.float32) == {"": 1}


def test_nothing_lies_on_disk_that_no_folder_was_named_for(folder: Path) -> None:
    for wish in (DeviceMap(where="auto", max_memory="cpu=90KB"), DeviceMap(where=str(folder / "map.json"))):
        (folder / "map.json").write_text('{"": "disk"}')
        with pytest.raises(BadInput, match="no folder was named"):
            load(str(folder / "tied"), dtype="float32", device_map=wish)
    (folder / "file").touch()
    with pytest.raises(BadInput, match="cannot be written to"):
        load(
            str(folder / "tied"), device_map=DeviceMap(where=str(folder / "map.json"), offload_folder=f"{folder}/file")
        )


# ---- layers that compute elsewhere than their weights lie ------------------------------------------------------------


def test_a_layer_computes_where_its_hook_says() -> None:
    layer = nn.Linear(2, 3)
    before = layer.weight.detach().clone()
    add_hook_to_module(layer, AlignDevicesHook(execution_device="cpu", offload=True))
    assert layer.weight.is_meta
    assert computing_device(nn.Sequential(nn.ReLU(), layer)).type == "cpu"
    with weights_at_hand(layer):
        assert torch.equal(layer.weight, before)
    assert layer.weight.is_meta
    with pytest.raises(ValueError, match="computes nowhere"):
        computing_device(nn.ReLU())


def test_stand_ins_say_what_a_layer_is_and_go_again() -> None:
    layer = nn.Linear(2, 3)
    add_hook_to_module(layer, AlignDevicesHook(execution_device="cpu", offload=True))
    away = layer.weight
    with stand_ins(layer):
        assert (layer.weight.shape, layer.weight.device.type) == (away.shape, "cpu")
        assert layer.weight.untyped_storage().nbytes() == 4
        assert layer.weight.isnan().all()
    assert layer.weight is away


# ---- one's own GPU ---------------------------------------------------------------------------------------------------


def test_no_process_takes_the_gpu_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "3", "RANK": "2", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for wish in ("auto", "cuda"):
        with pytest.raises(BadInput, match="has no GPU of its own: there are 2"):
            pick_device(wish)
    assert pick_device("cpu") == "cpu"
    for number in range(4):
        take_gpu(number)
    assert taken == [0, 1, 0, 1]
