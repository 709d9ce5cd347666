# SPDX-License-Identifier: Apache-2.0
"""Families with layers of their own, and what only the loop can do. ``benchmarks/dp_families.py`` has all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from reticent.core.errors import BadInput
from reticent.models.tuning.method import TUNINGS
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.make import make_clipper
from reticent.privacy.clip.reference import ReferenceClipper
from reticent.testing.clip_conformance import check_against_reference, check_same_seen, make_batch

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
DECODER = {"d_model": 16, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "dropout": 0.0}
FAMILIES: dict[str, dict[str, Any]] = {
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16, "dropout": 0.0},
    "opt norm after": {"ffn_dim": 32, "word_embed_proj_dim": 8, "dropout": 0.0, "do_layer_norm_before": False},
    "falcon": {"hidden_dropout": 0.0, "attention_dropout": 0.0},
    "cohere": {"num_key_value_heads": 1},
    "cohere qk": {"num_key_value_heads": 1, "use_qk_norm": True},
    "bart": DECODER | {"is_decoder": True, "is_encoder_decoder": False, "scale_embedding": True},
    "mbart": DECODER | {"is_decoder": True, "is_encoder_decoder": False, "scale_embedding": True},
    "xglm": {"d_model": 16, "ffn_dim": 32, "num_layers": 2, "attention_heads": 2, "dropout": 0.0},
    "nemotron": {"num_key_value_heads": 1},
    "mixtral": {"num_local_experts": 4, "num_key_value_heads": 1},
    "qwen2_moe": {"num_experts": 4, "num_key_value_heads": 1, "moe_intermediate_size": 16},
    "llama": {},
}
EXPERTS = ("mixtral", "qwen2_moe")


def tiny(family: str) -> Any:
    """All weights random and of some size, so that nothing hides behind a one or a zero."""
    kind = family.split()[0]
    known = AutoConfig.for_model(kind)
    shape = {name: value for name, value in SHAPE.items() if hasattr(known, name) or name in known.attribute_map}
    config = AutoConfig.for_model(kind, **{**shape, **FAMILIES[family]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def tuned(family: str, **lora: Any) -> Any:
    config = {"task_type": "CAUSAL_LM", "r": 3, "target_modules": "all-linear"} | lora
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = get_peft_model(tiny(family), LoraConfig(**config))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in EXPERTS])
def test_full_fine_tuning_by_rule(family: str) -> None:
    check_against_reference(tiny(family).requires_grad_(True), tokens=(7,))


@pytest.mark.parametrize("family", ["opt", "opt norm after", "falcon", "bart"])
def test_lora_on_all_linear_layers_by_rule(family: str) -> None:
    check_against_reference(tuned(family), tokens=(7,))


def test_ia3_where_rows_are_flattened() -> None:
    check_against_reference(TUNINGS.get("ia3")(tiny("opt")).eval(), tokens=(7,))


@pytest.mark.parametrize("reentrant", [False, True])
def test_flattened_rows_in_checkpointed_blocks(reentrant: bool) -> None:
    """The first time round such a block runs without gradients, so nothing is known of its rows, nor recorded."""
    batch, model = make_batch(tiny("opt"), units=3, tokens=7), tiny("opt").requires_grad_(True)
    expected = batch.give(ReferenceClipper(model, clip_norm=1.0))
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.train()
    for clipper in (
        BookkeepingClipper(model, clip_norm=1.0, clipping="flat", autocast=None),
        ReferenceClipper(model, clip_norm=1.0),
    ):
        with clipper.attached():
            check_same_seen(batch.give(clipper), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tuned("llama", use_dora=True),
        lambda: tuned("llama", target_modules=["embed_tokens"]),
        lambda: tuned("llama", target_modules=["embed_tokens", "q_proj"], modules_to_save=["lm_head"]),
        lambda: tiny("mixtral").requires_grad_(True),
        lambda: tiny("qwen2_moe").requires_grad_(True),
    ],
)
def test_what_has_no_rule_goes_through_the_loop(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = make()
    with pytest.raises(BadInput, match=r'PrivateSpeed\(impl="reference"\)'):
        make_clipper(model, clip_norm=1.0, impl="bookkeeping")
    clipper = make_clipper(model, clip_norm=1.0)
    assert isinstance(clipper, ReferenceClipper)
    assert "exact loop" in capsys.readouterr().err


def test_lora_on_what_experts_share_and_on_their_router() -> None:
    """One reads all tokens in order, the other ranks them: whatever is chosen for both, it is the loop's result."""
    model = tuned("qwen2_moe")
    check_against_reference(model, tokens=(7,), make=make_clipper)
