# SPDX-License-Identifier: Apache-2.0
"""Tuning methods on families that PEFT knows less well: they train and come back as saved, or are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models import adapters
from reticent.models.load import load
from reticent.models.tuned import TuningInfo
from reticent.models.tuning.method import TUNINGS, tuning
from reticent.models.unadapted import unadapted
from reticent.models.weights import fingerprint_weights
from reticent.testing.families import tiny_family
from reticent.testing.tiny import tiny_tokenizer
from reticent.train.checkpoints import folder_for
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

IDS = torch.tensor([[5, 7, 33, 20, 9, 9], [4, 3, 3, 4, 5, 6]])
PARAMS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4},
    "prefix": {"virtual_tokens": 3},
    "prompt": {"virtual_tokens": 3},
    "adapter": {"reduction_factor": 4},
}
MULTI_QUERY = {"multi_query": True, "new_decoder_architecture": False}
WORKS = [
    ("lora", "mamba", {}),
    ("lora", "mamba2", {}),
    ("lora", "falcon_h1", {}),
    ("lora", "jamba", {}),
    ("lora", "gpt_oss", {}),
    ("lora", "rwkv", {}),
    ("lora", "llama4_text", {}),
    ("lora", "deepseek_v4", {}),
    ("adapter", "mamba", {}),
    ("prompt", "mpt", {}),
    ("prompt", "mamba", {}),
    ("prompt", "lfm2", {}),
    ("prompt", "falcon_h1", {}),
    ("prompt", "deepseek_v3", {}),
    ("prompt", "falcon", MULTI_QUERY),
    ("prompt", "opt", {"word_embed_proj_dim": 16}),
    ("prefix", "mpt", {}),
    ("prefix", "falcon", MULTI_QUERY),
    ("prefix", "falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("prefix", "gpt_bigcode", {}),
    ("prefix", "gemma", {"head_dim": 16}),
]
REFUSED = [
    ("prefix", "mamba"),
    ("prefix", "rwkv"),
    ("prefix", "lfm2"),
    ("prefix", "jamba"),
    ("prefix", "falcon_h1"),
    ("prefix", "qwen3_next"),
    ("prefix", "deepseek_v3"),
    ("ia3", "mamba"),
    ("ia3", "mpt"),
]


def make(method: str, family: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    return TUNINGS.get(method)(tiny_family(family, **settings), **PARAMS.get(method, {}))


def step(model: Any) -> None:
    """One step of the optimizer, as training takes it."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=IDS).loss.backward()
    optimizer.step()
    model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, attention_mask=torch.ones_like(IDS), use_cache=False).logits
    return found[:, -IDS.shape[1] :]


@pytest.mark.parametrize(("method", "family", "settings"), WORKS)
def test_it_trains_and_comes_back_as_saved(tmp_path: Path, method: str, family: str, settings: dict[str, Any]) -> None:
    base = tiny_family(family, vocab_size=len(tiny_tokenizer()), **settings)
    base.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    before = logits(base)
    model = make(method, family, vocab_size=len(tiny_tokenizer()), **settings)
    step(model)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    with adapters.switched_off(model):
        assert torch.allclose(logits(model), before, atol=1e-5)
    storage = TUNINGS.get(method).storage
    adapters.save(model, tmp_path / "out", storage)
    params = TUNINGS.get(method).defaults | PARAMS.get(method, {})
    print_of_base = fingerprint_weights(tmp_path / "base")
    about = TuningInfo(
        method=method, params=params, base=str(tmp_path / "base"), base_fingerprint=print_of_base, storage=storage
    )
    about.write(tmp_path / "out")
    assert torch.allclose(logits(load(str(tmp_path / "out"), dtype="float32").model), logits(model), atol=1e-5)


@pytest.mark.parametrize(("method", "family"), REFUSED)
def test_what_does_not_fit_is_refused_by_name(method: str, family: str) -> None:
    with pytest.raises(BadInput) as refusal:
        make(method, family)
    assert method in refusal.value.given
    assert refusal.value.fix


def test_every_layer_of_a_prefix_reaches_the_loss() -> None:
    model = make("prefix", "falcon", **MULTI_QUERY)
    weight = model.prompt_encoder["default"].embedding.weight
    assert weight.shape == (3, 2 * 2 * 8)  # layers, keys and values, and one head of eight
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert (weight.grad.reshape(3, 2, 2, 8).abs().amax(dim=(0, 3)) > 0).all()


def adapted(model: Any) -> set[str]:
    return {name.split(".lora_")[0].split(".")[-1] for name, p in model.named_parameters() if p.requires_grad}


def test_lora_on_mamba_leaves_out_what_kernels_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert adapted(make("lora", "mamba")) == {"in_proj", "x_proj", "dt_proj"}
    assert "mixer.out_proj" in said(capsys)
    with pytest.raises(BadInput, match="out_proj"):
        TUNINGS.get("lora")(tiny_family("mamba"), target_modules=["out_proj"])


@pytest.mark.parametrize(
    ("family", "experts"),
    [
        ("gpt_oss", ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]),
        ("granitemoe", ["block_sparse_moe.experts.down_proj", "block_sparse_moe.experts.gate_up_proj"]),
        ("qwen2_moe", ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]),
        ("jetmoe", ["mlp.input_linear", "mlp.output_linear"]),
        ("deepseek_v3", ["mlp.down_proj", "mlp.shared_experts.down_proj"]),  # PEFT adapts the experts, and not these
        ("jamba", ["feed_forward.experts.down_proj", "feed_forward.experts.gate_up_proj"]),
    ],
)
def test_lora_says_which_experts_it_leaves_out(
    family: str, experts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = make("lora", family)
    left = unadapted(model)
    assert set(experts) <= set(left.names)
    everything = said(capsys)
    assert all(name in everything for name in experts)
    assert f"{left.share:.0%}" in everything
    whole = [p for name, p in model.named_parameters() if ".layers." in name and p.dim() > 1 and "lora" not in name]
    alone = [p for name, p in model.named_parameters() if any(one in name for one in experts) and p.dim() > 1]
    least = sum(p.numel() for p in alone) / sum(p.numel() for p in whole)
    assert least * 0.9 <= left.share < 1


def test_lora_says_nothing_where_it_adapts_all(capsys: pytest.CaptureFixture[str]) -> None:
    for family in ("llama", "gpt2", "gpt_neox", "falcon", "opt"):
        assert unadapted(make("lora", family)).names == ()
    assert said(capsys) == ""


def test_where_peft_adapts_experts_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    model = make("lora", "mixtral")
    assert "experts" in adapted(model)
    assert said(capsys) == ""


def test_lora_on_layers_that_are_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="nowhere"):
        TUNINGS.get("lora")(tiny_family("llama"), target_modules=["nowhere"])


def test_a_method_that_reaches_nothing_is_refused() -> None:
    """Planted: parameters that take no part in the loss."""

    @tuning("planted", learning_rate=1.0, storage="peft")
    def planted(model: Any) -> Any:
        model.unused = torch.nn.Parameter(torch.ones(3))
        return model

    method = TUNINGS._things.pop("planted")
    model, state = tiny_family("llama"), torch.get_rng_state()
    with pytest.raises(BadInput, match="changes what the model computes"):
        method(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_trial_leaves_no_trace() -> None:
    model = make("lora", "llama")
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.get_base_model().training


@pytest.mark.parametrize(("family", "method"), [("lfm2", "prefix"), ("mamba", "ia3")])
def test_tune_refuses_before_anything_is_trained(tmp_path: Path, family: str, method: str) -> None:
    tiny_family(family, vocab_size=len(tiny_tokenizer())).save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    records = [Record(id=str(i), text=f"the order of the day {i}") for i in range(4)]
    out = tmp_path / "out"
    with pytest.raises(BadInput, match=method):
        tune(str(tmp_path / "base"), records, out, TuneConfig(method=method, epochs=1, device="cpu"))
    assert not out.exists()
    assert not folder_for(out).exists()  # so the corrected call does not meet another training
    tune(str(tmp_path / "base"), records, out, TuneConfig(method="lora", epochs=1, device="cpu"))
    assert load(str(out)).is_adapter


@pytest.mark.parametrize(("method", "most"), [("lora", 40), ("prompt", 20)])
def test_records_beyond_the_limit_are_refused_with_the_number(tmp_path: Path, method: str, most: int) -> None:
    tiny_family("mpt", max_seq_len=40, vocab_size=len(tiny_tokenizer())).save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    records = [Record(id=str(i), text="order " * 30) for i in range(2)]
    config = TuneConfig(method=method, epochs=1, device="cpu")
    with pytest.raises(BadInput, match="at most 40 tokens") as refusal:
        tune(str(tmp_path / "base"), records, tmp_path / "out", config)
    assert f"--max_tokens {most} or less" in refusal.value.fix
    short = TuneConfig(method=method, epochs=1, device="cpu", max_tokens=most)
    with pytest.raises(BadInput, match="at most 40 tokens"):  # a held-out record is read too
        longer = TuneConfig(method=method, epochs=1, device="cpu", max_tokens=most + 1)
        tune(str(tmp_path / "base"), [Record(id="s", text="order")], tmp_path / "out", longer, held_out=records)
    tune(str(tmp_path / "base"), records, tmp_path / "out", short)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """All words to the person, without line breaks."""
    return " ".join(capsys.readouterr().err.split())
