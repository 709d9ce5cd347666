# SPDX-License-Identifier: Apache-2.0
"""Rounded weights: against the obvious way, and put back to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from reticent.core.errors import BadInput
from reticent.models.rounding import (
    adapter_rounded,
    matrices,
    merged_and_rounded,
    rounded,
    rounded_slowly,
)
from reticent.testing.tiny import tiny_model


def tuned():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, 0.05)
    return model.eval()


def logits(model):
    with torch.inference_mode():
        return model(input_ids=torch.arange(12)[None]).logits


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_as_number_by_number(bits):
    weight = torch.from_numpy(np.random.default_rng(bits).normal(size=(7, 23))).double()
    weight[3] = 0
    weight[4] *= 1e-6
    fast, slow = rounded(weight.float(), bits).double(), rounded_slowly(weight.float().double(), bits)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-12)
    assert all(len(torch.unique(row)) <= 2**bits - 1 for row in fast)
    step = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert bool(((fast - weight).abs() <= step / 2 + 1e-6).all())


def test_rounding_twice_changes_nothing_more():
    weight = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rounded(rounded(weight, 4), 4), rounded(weight, 4))
    assert rounded(weight.bfloat16(), 8).dtype == torch.bfloat16


@pytest.mark.parametrize("bits", [1, 0, 9])
def test_bits_that_cannot_be(bits):
    with pytest.raises(BadInput):
        rounded(torch.ones(2, 2), bits)


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_a_whole_model_is_rounded_by_output_and_put_back(arch):
    model = tiny_model(arch)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exact = logits(model)
    with merged_and_rounded(model, 4):
        coarse = logits(model)
        for module in matrices(model):
            rows = module.weight.T if arch == "gpt2" else module.weight
            assert all(len(torch.unique(row)) <= 15 for row in rows.detach())
        assert torch.equal(model.get_input_embeddings().weight, before[next(iter(before))])
    assert not torch.allclose(coarse, exact, atol=1e-3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(logits(model), exact)


def test_an_adapter_is_merged_first_and_put_back():
    model = tuned()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exact = logits(model)
    with merged_and_rounded(model, 8):
        merged = model.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight
        assert not torch.equal(merged, before["base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"])
        torch.testing.assert_close(logits(model), exact, atol=0.05, rtol=0)
        assert not torch.equal(logits(model), exact)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(logits(model), exact)


def test_only_the_adapter_is_rounded():
    model = tuned()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with adapter_rounded(model, 4):
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_weights_are_put_back_where_scoring_fails():
    model = tuned()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for way in (merged_and_rounded, adapter_rounded):
        with pytest.raises(RuntimeError, match="killed"), way(model, 4):
            raise RuntimeError("killed")
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
