# SPDX-License-Identifier: Apache-2.0
"""Every tuning method: what it trains, what it leaves alone, and that what is saved is what is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, GPT2Config, GPT2LMHeadModel

from reticent.core.errors import BadInput
from reticent.models import adapters
from reticent.models.anatomy import beside_text, is_tied, transformer_blocks
from reticent.models.load import load
from reticent.models.tuned import TuningInfo
from reticent.models.tuning.adapter import Bottleneck
from reticent.models.tuning.method import TUNINGS, trained_parameters
from reticent.models.weights import fingerprint_weights
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer

IDS = torch.tensor([[5, 70, 33, 200, 9, 9], [1, 2, 3, 4, 5, 6]])
ALL = [(name, arch) for name in TUNINGS.names() for arch in ("llama", "gpt2") if (name, arch) != ("bitfit", "llama")]


def step(model: Any) -> None:
    """Two optimizer steps that move everything that is trained."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(2):
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    return found[:, -IDS.shape[1] :]  # a prompt puts positions before the text


@pytest.mark.parametrize(("name", "arch"), ALL)
def test_saved_and_loaded_it_answers_the_same(tmp_path: Path, name: str, arch: str) -> None:
    base = save_tiny(tmp_path / "base", arch=arch)
    method = TUNINGS.get(name)
    torch.manual_seed(1)
    model = method(tiny_model(arch), **({} if name != "adapter" else {"reduction_factor": 4}))  # type: ignore[arg-type]
    step(model)
    out = tmp_path / "tuned"
    out.mkdir()
    adapters.save(model, out, method.storage)
    if method.storage == "weights":
        tiny_tokenizer().save_pretrained(out)
    params = method.defaults | ({} if name != "adapter" else {"reduction_factor": 4})
    about = TuningInfo(
        method=name, params=params, base=str(base), base_fingerprint=fingerprint_weights(base), storage=method.storage
    )
    about.write(out)

    loaded = load(str(out), dtype="float32")
    assert torch.equal(logits(loaded.model), logits(model))
    assert not torch.allclose(logits(loaded.model), logits(tiny_model(arch)), atol=1e-3)  # type: ignore[arg-type]
    assert (loaded.tuned, loaded.base_source, loaded.base_fingerprint) == (about, str(base), about.base_fingerprint)
    assert loaded.fingerprint != loaded.base_fingerprint
    assert loaded.is_adapter == (method.storage != "weights")
    assert not list(out.glob("*.bin"))
    halved = logits(load(str(out), dtype="bfloat16").model)
    assert halved.dtype is torch.bfloat16
    assert (halved.float() - logits(model)).abs().mean() < 0.05 * logits(model).std()


@pytest.mark.parametrize(("name", "arch"), [pair for pair in ALL if TUNINGS.get(pair[0]).storage != "weights"])
def test_an_adapter_switched_off_is_its_base(name: str, arch: str) -> None:
    model = TUNINGS.get(name)(tiny_model(arch))  # type: ignore[arg-type]
    step(model)
    tuned, base = logits(model), logits(tiny_model(arch))  # type: ignore[arg-type]
    with adapters.switched_off(model):
        assert torch.equal(logits(model), base)
    assert torch.equal(logits(model), tuned)
    assert not torch.allclose(tuned, base, atol=1e-3)


@pytest.mark.parametrize(("name", "arch"), ALL)
def test_only_what_is_marked_moves(name: str, arch: str) -> None:
    model = TUNINGS.get(name)(tiny_model(arch))  # type: ignore[arg-type]
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    step(model)
    for key, value in model.named_parameters():
        moved = not torch.equal(value, before[key])
        assert moved == value.requires_grad, key


@pytest.mark.parametrize(
    ("name", "params", "count"),
    [
        ("full", {}, 124_439_808),
        ("head_tied", {}, 38_597_376),
        ("head", {}, 38_597_376),
        ("adapter", {"reduction_factor": 16}, 894_528),
        ("adapter", {"reduction_factor": 2}, 7_091_712),
        ("blocks", {"layers": [0]}, 7_087_872),  # 12·768² + 13·768
        ("bitfit", {}, 12 * 11 * 768 + 768),  # qkv 3, out 1, in 4, out 1, two norms, and the last norm
        ("lora", {"r": 16}, 12 * 16 * (768 + 2304 + 2 * 768 + 2 * (768 + 3072))),
        ("prefix", {"virtual_tokens": 20}, 20 * 12 * 2 * 768),
        ("prompt", {"virtual_tokens": 20}, 20 * 768),
    ],
)
def test_counts_of_gpt2_small(name: str, params: dict[str, Any], count: int) -> None:
    """Golden: full, head and adapters as in Mireshghallah et al. (2022); the others by hand."""
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config())
        assert trained_parameters(TUNINGS.get(name)(model, **params)) == count


def test_head_leaves_the_embedding_and_head_tied_moves_it() -> None:
    for name, moves in (("head", False), ("head_tied", True)):
        model = TUNINGS.get(name)(tiny_model())
        before = model.get_input_embeddings().weight.detach().clone()
        step(model)
        assert torch.equal(model.get_input_embeddings().weight, before) != moves
        assert is_tied(model) == moves
        assert model.config.tie_word_embeddings == moves
    with pytest.raises(BadInput, match="'head'"):
        TUNINGS.get("head_tied")(tiny_model(tied=False))


def test_blocks_chooses() -> None:
    model = TUNINGS.get("blocks")(tiny_model(), layers=[0])
    trained = [all(p.requires_grad for p in block.parameters()) for block in transformer_blocks(model)]
    assert trained == [True, False]
    with pytest.raises(BadInput, match="blocks 0 to 1"):
        TUNINGS.get("blocks")(tiny_model(), layers=[2])
    with pytest.raises(BadInput, match="trains nothing"):
        TUNINGS.get("blocks")(tiny_model(), layers=[])


def test_bitfit_refuses_a_model_without_biases() -> None:
    with pytest.raises(BadInput, match="no biases"):
        TUNINGS.get("bitfit")(tiny_model("llama"))


def test_bottleneck_is_the_formula() -> None:
    torch.manual_seed(0)
    module = Bottleneck(8, 2)
    hidden = torch.randn(3, 8)
    assert torch.equal(module(hidden), hidden)  # starts as nothing
    torch.nn.init.normal_(module.up.weight)
    expected = hidden + torch.relu(hidden @ module.down.weight.T + module.down.bias) @ module.up.weight.T
    assert torch.allclose(module(hidden), expected, atol=1e-6)
    with pytest.raises(BadInput, match="width"):
        TUNINGS.get("adapter")(tiny_model(), reduction_factor=64)
    with pytest.raises(BadInput, match="already"):
        TUNINGS.get("adapter")(TUNINGS.get("adapter")(tiny_model()))


def test_unknown_methods_and_parameters_are_refused() -> None:
    with pytest.raises(BadInput, match="Did you mean 'lora'"):
        TUNINGS.get("lorra")
    with pytest.raises(BadInput, match="It has: r, alpha"):
        TUNINGS.get("lora")(tiny_model(), rank=3)


def tuned_adapter(tmp_path: Path, name: str, **base: Any) -> tuple[Path, Path]:
    """An adapter on a base of its own, and a base that it does not belong on."""
    right, wrong = save_tiny(tmp_path / "right"), save_tiny(tmp_path / "wrong", **base)
    method = TUNINGS.get(name)
    model = method(tiny_model())
    step(model)
    out = tmp_path / "adapter"
    out.mkdir()
    adapters.save(model, out, method.storage)
    about = TuningInfo(
        method=name, params=method.defaults, base=str(right), base_fingerprint=fingerprint_weights(right),
        storage=method.storage,
    )  # fmt: skip
    about.write(out)
    return out, wrong


@pytest.mark.parametrize("name", ["lora", "adapter"])
def test_an_adapter_of_another_base_is_refused_by_its_fingerprint(tmp_path: Path, name: str) -> None:
    out, wrong = tuned_adapter(tmp_path, name, seed=1)  # same shapes, other weights
    with pytest.raises(BadInput, match="other weights"):
        load(str(out), base=str(wrong))
    assert load(str(out)).is_adapter


@pytest.mark.parametrize("base", [{"arch": "gpt2"}, {"vocab_size": 300, "tied": False}])
def test_a_foreign_adapter_of_another_base_is_refused_by_its_shapes(tmp_path: Path, base: dict[str, Any]) -> None:
    out, wrong = tuned_adapter(tmp_path, "lora", **base)
    (out / "reticent_tuning.json").unlink()  # as other tools save adapters
    if base.get("arch") == "gpt2":
        with pytest.raises(BadInput, match="does not fit its base"):
            load(str(out), base=str(wrong))
    with pytest.raises(BadInput, match="does not say"):
        without_base(out)
    loaded = load(str(out), base=str(tmp_path / "right"))
    assert isinstance(loaded.model, PeftModel)


def without_base(out: Path) -> None:
    config = (out / "adapter_config.json").read_text()
    assert '"base_model_name_or_path": null' in config or '"base_model_name_or_path": ""' in config
    load(str(out))


def test_an_adapter_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    out, _ = tuned_adapter(tmp_path, "lora")
    weights = load_file(out / adapters.WEIGHTS)
    weights.pop(min(weights))
    save_file(weights, out / adapters.WEIGHTS)
    with pytest.raises(BadInput, match="does not fit its base"):
        load(str(out))


def test_a_pickled_adapter_is_refused(tmp_path: Path) -> None:
    out, _ = tuned_adapter(tmp_path, "lora")
    (out / adapters.WEIGHTS).rename(out / "adapter_model.bin")
    with pytest.raises(BadInput, match="run code"):
        load(str(out))


def test_the_fingerprint_knows_the_adapters_scale(tmp_path: Path) -> None:
    out, _ = tuned_adapter(tmp_path, "lora")
    before = load(str(out)).fingerprint
    config = out / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 32', '"lora_alpha": 16'))
    assert load(str(out)).fingerprint != before


# ---- models for images and text --------------------------------------------------------------------------------------


def with_a_tower() -> Any:
    """Gemma 3 with a tower for images that has as many blocks as the text part."""
    words = {"vocab_size": 300, "pad_token_id": 0}
    block = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**words, **block, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4}
    vision = {**block, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=299,
        boi_token_index=298,
        eoi_token_index=297,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Gemma3ForConditionalGeneration(config).eval()


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("full", {}),
        ("lora", {"r": 2}),
        ("ia3", {"target_modules": ["k_proj", "v_proj"], "feedforward_modules": []}),
        ("blocks", {}),
        ("adapter", {"reduction_factor": 4}),
        ("prompt", {"virtual_tokens": 2}),
        ("head", {}),
    ],
)
def test_only_what_text_goes_through_is_trained(name: str, params: dict[str, Any]) -> None:
    """Whatever is trained gets a gradient from text: private training would put nothing but noise into the rest."""
    model = TUNINGS.get(name)(with_a_tower(), **params)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=IDS).loss.backward()
    trained = {path: p for path, p in model.named_parameters() if p.requires_grad}
    assert not [path for path in trained if "vision" in path or "projector" in path]
    assert not [path for path, p in trained.items() if p.grad is None or not p.grad.any()]


def test_biases_of_a_tower_are_not_those_of_the_text() -> None:
    with pytest.raises(BadInput, match="no biases"):
        TUNINGS.get("bitfit")(with_a_tower())


def test_where_the_text_part_is() -> None:
    model = with_a_tower()
    assert transformer_blocks(model) is model.model.language_model.layers
    assert beside_text(tiny_model()) == []
    beside = beside_text(model)
    assert beside
    assert all("vision_tower" in name or "projector" in name for name in beside)
