# SPDX-License-Identifier: Apache-2.0
"""Conformance of layer rules: ``check_layer_rule("my_layer")`` trains the rule's own example in a tiny model."""

from __future__ import annotations

import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from reticent.privacy.clip.clipper import Clipping
from reticent.privacy.clip.rule import LAYER_RULES, LayerRule, own_trained, rule_for
from reticent.testing.clip_conformance import check_clip

WIDTH, VOCABULARY, TOKENS = 8, 20, (5, 12)
FLAT: tuple[Clipping, ...] = ("flat",)


class LayerInModel(nn.Module):
    """A language model of an embedding, one layer of your choice, and an output matrix; only the layer is trained.

    Args:
        layer: from ``[…, 8]`` to ``[…, 8]``; an ``nn.Embedding`` takes the place of the embedding.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = type("Config", (), {"vocab_size": VOCABULARY, "pad_token_id": 0})()
        looks_up = isinstance(layer, nn.Embedding)
        self.embedding = layer if looks_up else nn.Embedding(VOCABULARY, WIDTH).requires_grad_(False)
        self.layer = nn.Identity() if looks_up else layer
        self.head = nn.Linear(WIDTH, VOCABULARY).requires_grad_(False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool = False) -> CausalLMOutput:
        return CausalLMOutput(logits=self.head(self.layer(self.embedding(input_ids))))


def check_layer_rule(rule: LayerRule | str) -> None:
    """Run every check of `check_clip` on a rule's example, registered or not.

    Raises:
        AssertionError: the rule has no example, is not the one that its example gets, or computes other gradients than
            the loop over units.
    """
    rule = LAYER_RULES.get(rule) if isinstance(rule, str) else rule
    assert rule.example is not None, f"{rule.name}: needs an example (example=), a module that the rule is for"
    layer = rule.example()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    trained = own_trained(layer)
    assert trained, f"{rule.name}: the example has no trained parameter of its own"
    chosen = rule_for(layer)
    assert chosen is not None, f"{rule.name}: no rule matches its example"
    assert chosen.name == rule.name, f"{rule.name}: its example gets the rule {chosen.name}"
    check_clip(lambda: LayerInModel(layer), clippings=FLAT, tokens=TOKENS)
