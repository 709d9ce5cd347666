# SPDX-License-Identifier: Apache-2.0
"""Bookkeeping is chosen where it gives what the loop gives, the loop anywhere else; the model stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from reticent.core.errors import BadInput
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.choose import LENGTHS, choose
from reticent.privacy.clip.make import make_clipper
from reticent.privacy.clip.reference import ReferenceClipper
from reticent.testing.tiny import tiny_model, tiny_tuned


class Wrapped(nn.Module):
    """A tiny model whose hidden states go through ``between``."""

    def __init__(self, between: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = type("Config", (), {"vocab_size": 30})()
        self.between = between
        self.embedding, self.layer, self.head = nn.Embedding(30, 8), nn.Linear(8, 8), nn.Linear(8, 30)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool = False) -> CausalLMOutput:
        hidden = self.embedding(input_ids)
        hidden = hidden if self.between is None else self.between(hidden)
        return CausalLMOutput(logits=self.head(self.layer(hidden).tanh()))


def chosen(model: Any, **more: Any) -> Any:
    return choose(model, **({"clip_norm": 1.0, "clipping": "flat", "autocast": None} | more))


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_what_the_rules_know_is_kept_in_books(autocast: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for model in (
        Wrapped(),
        tiny_model().requires_grad_(True),
        tiny_tuned("gpt2", "lora"),
        tiny_tuned("qwen2", "prompt"),
    ):
        assert isinstance(chosen(model, autocast=autocast), BookkeepingClipper)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "between",
    [
        lambda x: x[torch.arange(len(x)).flip(0)].contiguous(),  # each record's tokens in another's place
        lambda x: x + x.mean(0, keepdim=True),  # a little of all in each
        lambda x: x - x.amax(dim=(0, 1), keepdim=True),
    ],
)
def test_records_that_are_mixed_where_no_rule_sees_it(between: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The loop gives each unit alone to the model, so nothing of another gets in."""
    assert isinstance(chosen(Wrapped(between)), ReferenceClipper)
    assert "run together" in " ".join(capsys.readouterr().err.split())


def test_a_layer_that_mixes_rows_in_the_first_batch_only() -> None:
    model = Wrapped()
    model.layer.forward = lambda x: nn.functional.linear(x, model.layer.weight, model.layer.bias)  # type: ignore[method-assign]
    assert isinstance(chosen(model), ReferenceClipper)


def test_a_layer_that_is_called_otherwise_than_its_rule_knows() -> None:
    model = Wrapped()
    model.between = lambda x: model.layer(input=x)
    assert isinstance(chosen(model), ReferenceClipper)


def test_a_model_that_cannot_be_run_is_said_in_a_sentence() -> None:
    with pytest.raises(BadInput, match=r"cannot be run on token ids and a mask \(RuntimeError: shape"):
        chosen(Wrapped(lambda x: x.view(1, 1)))


def test_a_rule_that_is_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: norms of the linear layers leave out a quarter."""
    from reticent.privacy.clip.tape import Tape

    right = Tape.squares
    monkeypatch.setattr(Tape, "squares", lambda self: {p: 0.75 * one for p, one in right(self).items()})
    assert isinstance(chosen(Wrapped()), ReferenceClipper)


def test_the_model_is_as_before() -> None:
    model = tiny_model().requires_grad_(True).train()
    model.model.layers[0].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    before = torch.get_rng_state()
    make_clipper(model, clip_norm=1.0)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in model.parameters())
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_parameter_used_outside_of_its_layer_leaves_no_gradient_behind() -> None:
    model = Wrapped()
    model.between = lambda x: x + model.layer.bias
    assert isinstance(chosen(model), ReferenceClipper)
    assert all(p.grad is None for p in model.parameters())


def test_dropout_does_not_make_a_difference() -> None:
    model = Wrapped(nn.Dropout(0.5)).train()
    assert isinstance(chosen(model), BookkeepingClipper)


def test_a_model_that_trains_nothing_is_refused() -> None:
    model = Wrapped()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(BadInput, match="nothing that is trained"):
        chosen(model)


def test_no_layout_passes_for_another() -> None:
    assert len({len(LENGTHS), max(LENGTHS), *LENGTHS}) == len(LENGTHS) + 1
