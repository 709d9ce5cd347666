# SPDX-License-Identifier: Apache-2.0
"""One backward pass over a batch gives the gradients that one record at a time gives."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.privacy.clip.contribution import DenseGradient, Outer, RowGradients
from reticent.score.internals.gradients import (
    along,
    by_block,
    gradient_properties,
    origin_of,
    trained_parameters,
)
from reticent.testing.tiny import tiny_model, tiny_of_family, tiny_tuned


def text(length, seed=0, prompt=0):
    rng = np.random.default_rng([length, seed])
    return EncodedRecord(token_id=rng.integers(0, 280, length).astype(np.int32), trained=np.arange(length) >= prompt)


ROWS = [text(9), text(30, prompt=20), text(2), text(17, seed=1), text(40), text(12, prompt=11)]


@pytest.mark.parametrize(
    ("family", "method"),
    [
        *((family, method) for family in ("gpt2", "llama") for method in ("full", "lora")),
        *(("llama", method) for method in ("ia3", "adapter", "prefix", "prompt")),
        ("gpt2", "bitfit"),
        ("llama_untied", "head"),
    ],
)
@pytest.mark.parametrize("budget", [1, 80])
def test_the_tape_equals_one_record_at_a_time(family, method, budget):
    model = tiny_tuned(family, method)
    base = tiny_of_family(family) if method in ("full", "bitfit", "head") else None
    parameters = trained_parameters(model, base)
    origin = origin_of(model, parameters, base)
    fast, slow = (
        gradient_properties(model, ROWS, parameters=parameters, origin=origin, impl=impl, tokens_per_batch=budget)
        for impl in ("tape", "reference")
    )
    assert fast.names == slow.names
    np.testing.assert_allclose(fast.loss, slow.loss, rtol=1e-5)
    np.testing.assert_allclose(fast.norm, slow.norm, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(fast.update, slow.update)
    np.testing.assert_array_equal(np.isnan(fast.cosine), np.isnan(slow.cosine))
    np.testing.assert_allclose(fast.cosine, slow.cosine, atol=1e-4)
    assert (slow.total > 0).all()


def test_which_parameters_are_looked_at():
    base = tiny_of_family("gpt2")
    full = trained_parameters(tiny_tuned("gpt2", "full"), base)
    assert len(full) == 8
    assert all(name.endswith(".weight") and ".h." in name and ".ln" not in name for name in full)
    assert all(name.endswith(".bias") for name in trained_parameters(tiny_tuned("gpt2", "bitfit"), base))
    assert trained_parameters(tiny_tuned("llama_untied", "head"), tiny_of_family("llama_untied")) == ("lm_head.weight",)
    assert all("lora_" in name for name in trained_parameters(tiny_tuned("llama", "lora")))
    assert set(trained_parameters(tiny_of_family("gpt2"))) == set(full)
    assert set(trained_parameters(base, base)) == set(full)  # nothing was trained, so any will do


def test_the_start_of_lora_is_known_for_b_only_and_b_tells_of_both():
    """``<∂L/∂A, A> = <∂L/∂B, B>``: both are the gradient of the whole matrix along the update ``B A``."""
    model = tiny_tuned("llama", "lora")
    parameters = trained_parameters(model)
    origin = origin_of(model, parameters)
    assert origin == {name: 0.0 for name in parameters if "lora_B" in name}
    whole = gradient_properties(model, ROWS, parameters=parameters, origin=dict.fromkeys(parameters, 0.0))
    of_a, of_b = (whole.inner[:, [part in name for name in whole.names]] for part in ("lora_A", "lora_B"))
    np.testing.assert_allclose(of_a, of_b, atol=1e-4)


def test_a_step_of_descent_on_a_record_turns_its_gradient_against_the_update():
    """The update made by a small step on one record lies exactly against that record's gradient before the step."""
    base = tiny_model()
    before = copy.deepcopy(base)
    names = trained_parameters(base)
    loss = base(input_ids=(ids := torch.from_numpy(ROWS[4].token_id.astype(np.int64))[None]), labels=ids).loss
    loss.backward()
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if name in names:
                parameter -= 1e-3 * parameter.grad
    base.zero_grad(set_to_none=True)
    found = gradient_properties(base, ROWS, parameters=names, origin=origin_of(base, names, before))
    whole = found.grouped(lambda name: "all").cosine[:, 0]
    assert whole[4] < -0.99
    assert (whole[[0, 1, 2, 3, 5]] > whole[4]).all()


def test_groups_add_up():
    model = tiny_tuned("llama", "lora")
    parameters = trained_parameters(model)
    found = gradient_properties(model, ROWS, parameters=parameters, origin=origin_of(model, parameters))
    groups = found.grouped(by_block)
    assert groups.names == ("0.lora_A", "0.lora_B", "1.lora_A", "1.lora_B")
    np.testing.assert_allclose(groups.total, found.total)
    assert np.isnan(groups.cosine[:, [0, 2]]).all()
    inner = found.inner[:, [by_block(name) == "1.lora_B" for name in found.names]].sum(axis=1)
    np.testing.assert_allclose(groups.inner[:, 3], inner)
    assert (np.abs(groups.cosine[:, [1, 3]]) <= 1).all()
    assert set(groups.columns()) == {
        "gradient_norm",
        *(f"gradient_norm.{name}" for name in groups.names),
        "gradient_cosine.0.lora_B",
        "gradient_cosine.1.lora_B",
    }


@pytest.mark.parametrize("impl", ["tape", "reference"])
def test_the_model_is_left_as_it_was(impl):
    model = tiny_tuned("llama", "prompt")
    model.active_peft_config.inference_mode = True
    marked = next(iter(model.parameters()))
    marked.grad = torch.ones_like(marked)
    before = [(name, parameter.requires_grad) for name, parameter in model.named_parameters()]
    gradient_properties(model, ROWS[:2], parameters=trained_parameters(model), impl=impl)
    assert before == [(name, parameter.requires_grad) for name, parameter in model.named_parameters()]
    assert model.active_peft_config.inference_mode
    assert bool((marked.grad == 1).all())
    assert not any("forward" in vars(module) for module in model.modules())


def test_refusals():
    model = tiny_model()
    names = trained_parameters(model)
    with pytest.raises(BadInput, match="not in the model"):
        gradient_properties(model, ROWS, parameters=["nothing"])
    with pytest.raises(BadInput, match="no loss"):
        gradient_properties(model, [text(5), text(1)], parameters=names)
    with pytest.raises(BadInput, match="other shapes"):
        gradient_properties(model, ROWS, parameters=names[:1], origin={names[0]: torch.zeros(3)})


def test_the_inner_product_is_that_of_the_gradient_written_out():
    generator = torch.Generator().manual_seed(0)
    left, right, value, direction = (
        torch.randn(*shape, generator=generator) for shape in [(3, 5, 4), (3, 5, 6), (3, 5, 6), (4, 6)]
    )
    index = torch.randint(4, (3, 5), generator=generator)
    outer = torch.einsum("utd,utp->udp", left, right)
    rows = torch.zeros(3, 4, 6)
    for unit in range(3):
        rows[unit].index_add_(0, index[unit], value[unit])
    for one, gradient in [
        (Outer(left=left, right=right), outer),
        (RowGradients(index=index, value=value), rows),
        (DenseGradient(gradient=outer), outer),
    ]:
        torch.testing.assert_close(along(one, direction), (gradient * direction).sum((1, 2)))
