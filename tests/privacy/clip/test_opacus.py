# SPDX-License-Identifier: Apache-2.0
"""Norms of each parameter against the hooks of Opacus 1.6, where they are right.

They are not, and nothing says so, where (all seen on these models):

- a lookup is made once for all rows: GPT-2's positions and PEFT's prompts come out with one row;
- a token has the embedding's ``padding_idx``: it counts, although autograd and the optimizer leave its row alone;
- PEFT's IA3: its factors get no per-record gradient at all.

Gemma's scaled embedding is refused. In evaluation mode nothing is recorded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from opacus import grad_sample as opacus

from reticent.models.encode import IGNORED
from reticent.testing.clip_conformance import Batch, clip, make_batch
from reticent.testing.tiny import tiny_tuned

PAIRS = [
    ("gpt2", "lora"),
    ("gpt2", "blocks"),
    ("gpt2", "head_tied"),
    ("gpt2", "prefix"),
    ("llama", "lora"),
    ("llama", "adapter"),
    ("llama", "full"),
    ("llama_untied", "full"),
    ("qwen2", "full"),
    ("qwen3", "full"),
    ("gemma", "blocks"),
    ("gemma3", "lora"),
]


def without_padding_tokens(model: Any, batch: Batch) -> Batch:
    """The same with another token wherever the text, or its padding, has the one that pads."""
    pad = model.config.pad_token_id
    ids = batch.inputs["input_ids"]
    return replace(
        batch,
        inputs={**batch.inputs, "input_ids": ids.where(ids != pad, torch.tensor(7))},
        labels=batch.labels.where(batch.labels != pad, torch.tensor(7)),
    )


def opacus_norms(model: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """``[B]`` by parameter."""
    hooked = opacus.GradSampleModule(model.train(), batch_first=True, loss_reduction="sum")
    logits = hooked(**batch.inputs).logits[:, -batch.labels.shape[1] :]
    nll = F.cross_entropy(logits[:, :-1].transpose(1, 2), batch.labels[:, 1:], ignore_index=IGNORED, reduction="none")
    trained = (batch.labels[:, 1:] != IGNORED).sum(1).clamp(min=1)
    (nll.sum(1) / trained * batch.weight).sum().backward()
    found = {n: p.grad_sample.flatten(1).norm(dim=1) for n, p in model.named_parameters() if p.requires_grad}
    hooked.remove_hooks()
    return found


@pytest.mark.parametrize(("family", "method"), PAIRS)
@pytest.mark.filterwarnings("ignore")
def test_norms_are_those_of_opacus(family: str, method: str) -> None:
    model = tiny_tuned(family, method)
    batch = without_padding_tokens(model, make_batch(model, units=4, tokens=14))
    seen, _ = clip(model, batch)
    alone = [clip(model, batch.take([row]), clip_norm=1e9)[1] for row in range(4)]
    expected = opacus_norms(tiny_tuned(family, method), batch)
    whole = torch.stack(list(expected.values())).norm(dim=0)
    torch.testing.assert_close(seen.norm, whole, rtol=1e-4, atol=0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = torch.stack([sums[parameter].norm() for sums in alone])
            assert torch.allclose(own, expected[name], rtol=1e-4, atol=1e-5 * float(whole.max())), name
