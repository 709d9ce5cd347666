# SPDX-License-Identifier: Apache-2.0
"""Sums of LoRA adapters: the model with the sum on it is the base plus each product times its weight."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reticent.core.errors import BadInput
from reticent.models import adapters
from reticent.models.load import load
from reticent.models.lora_products import write_sum
from reticent.models.tuned import TuningInfo
from reticent.models.tuning.method import TUNINGS
from reticent.models.weights import fingerprint_weights
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer

IDS = torch.arange(9)[None]


@pytest.fixture(params=["llama", "gpt2"])
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def adapter(arch: str, base: Path, folder: Path, *, seed: int, targets: str | list[str] = "all-linear") -> TuningInfo:
    """An adapter whose products are not 0."""
    model = load(str(base), dtype="float32").model
    params = {"r": 3, "alpha": 6.0, "target_modules": targets}
    tuned = TUNINGS.get("lora")(model, **params)
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in tuned.parameters():
            if weight.requires_grad:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=made))
    adapters.save(tuned, folder, "peft")
    tiny_tokenizer().save_pretrained(folder)
    about = TuningInfo(
        method="lora",
        params=params,
        base=str(base),
        base_fingerprint=fingerprint_weights(base),
        storage="peft",
    )
    about.write(folder)
    return about


def merged(folder: Path) -> dict[str, torch.Tensor]:
    model = load(str(folder), dtype="float32").model.merge_and_unload()
    return dict(model.named_parameters())


@pytest.mark.parametrize("weights", [(0.5, 0.5), (2.0, -1.0)])
def test_the_sum_is_that_of_the_products(arch: str, tmp_path: Path, weights: tuple[float, float]) -> None:
    base = save_tiny(tmp_path / "base", arch=arch)
    places = [tmp_path / "one", tmp_path / "two"]
    about, _ = (adapter(arch, base, place, seed=seed) for seed, place in enumerate(places))
    out = tmp_path / "elsewhere" / "sum"
    out.mkdir(parents=True)
    write_sum(list(zip(weights, places, strict=True)), out, about, at=out)
    tiny_tokenizer().save_pretrained(out)
    start = dict(tiny_model(arch).named_parameters())
    parts, total = [merged(place) for place in places], merged(out)
    for name, weight in total.items():
        expected = start[name] + sum(
            share * (part[name] - start[name]) for share, part in zip(weights, parts, strict=True)
        )
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)
    loaded = load(str(out), dtype="float32")
    assert loaded.tuned is not None
    assert (loaded.tuned.params["r"], loaded.tuned.params["alpha"]) == (6, 12.0)
    config = json.loads((out / adapters.CONFIG).read_text())
    assert (config["r"], config["lora_alpha"]) == (6, 12.0)
    assert config["base_model_name_or_path"] == "../../base"
    assert str(tmp_path) not in "".join(path.read_text() for path in out.glob("*.json"))


def test_adapters_of_embeddings_are_products_too(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    places = [tmp_path / "one", tmp_path / "two"]
    about, _ = (
        adapter("llama", base, place, seed=seed, targets=["embed_tokens", "q_proj"])
        for seed, place in enumerate(places)
    )
    assert any("lora_embedding_A" in name for name in load_file(places[0] / adapters.WEIGHTS))
    out = tmp_path / "sum"
    out.mkdir()
    write_sum([(0.5, place) for place in places], out, about, at=out)
    tiny_tokenizer().save_pretrained(out)
    name = "model.embed_tokens.weight"
    start = dict(tiny_model().named_parameters())[name]
    expected = start + sum(0.5 * (merged(place)[name] - start) for place in places)
    torch.testing.assert_close(merged(out)[name], expected, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    places = [tmp_path / "one", tmp_path / "two"]
    about = adapter("llama", base, places[0], seed=0)
    adapter("llama", base, places[1], seed=1, targets=["q_proj"])
    with pytest.raises(BadInput, match=r"is no adapter like that in"):
        write_sum([(0.5, place) for place in places], tmp_path, about, at=tmp_path)
    config = json.loads((places[0] / adapters.CONFIG).read_text()) | {"use_dora": True}
    (places[0] / adapters.CONFIG).write_text(json.dumps(config))
    with pytest.raises(BadInput, match="use_dora"):
        write_sum([(1.0, places[0])], tmp_path, about, at=tmp_path)
