# SPDX-License-Identifier: Apache-2.0
"""The output layer of a causal language model, apart from its body: hidden states in, the model's own logits out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reticent.models.computing_device import computing_device, weights_at_hand
from reticent.models.context import text_config


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """From hidden states to logits, as the model does it.

    Args:
        module: the output layer.
        scale: what its output is multiplied by (Granite, Cohere, Falcon-H1).
        softcap: ``c`` of ``c·tanh(logits/c)`` (Gemma); None for none.
    """

    module: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    @contextmanager
    def taking(self, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield ``hidden`` where the layer computes; within this context its weights are there too, and stay there from
        one call of `logits` to the next, wherever they lie otherwise."""
        if next(self.module.parameters(), None) is None:  # of an ensemble, whose models have the weights
            yield hidden
            return
        with weights_at_hand(self.module):
            yield hidden.to(computing_device(self.module))

    def logits(self, hidden: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """``[M, V]`` for ``[M, D]``; written into ``out`` where the layer allows it."""
        weight = getattr(self.module, "weight", None)
        if type(self.module) is nn.Linear and out is not None and out.dtype == hidden.dtype == self.module.weight.dtype:
            assert weight is not None
            if self.module.bias is None:
                torch.mm(hidden, weight.T, out=out)
            else:
                torch.addmm(self.module.bias, hidden, weight.T, out=out)
            result = out
        else:
            result = self.module(hidden)
        if self.scale != 1.0:
            result = result * self.scale
        if self.softcap is not None:
            result = torch.tanh(result / self.softcap) * self.softcap
        return result


def find_head(model: Any) -> Head | None:
    """The output layer, and what the configuration says is done to its output; None where there is none. Whether the
    two are all that the model does is tried by `agrees`."""
    module = model.get_output_embeddings()
    if not isinstance(module, nn.Module):
        return None
    config = text_config(model)
    scale = 1.0
    if divisor := getattr(config, "logits_scaling", None):
        scale /= float(divisor)
    for factor in ("logit_scale", "lm_head_multiplier"):
        scale *= float(getattr(config, factor, None) or 1.0)
    softcap = getattr(config, "final_logit_softcapping", None)
    return Head(module=module, scale=scale, softcap=float(softcap) if softcap else None)


def agrees(model: Any, head: Head, text: torch.Tensor, truth: torch.Tensor) -> bool:
    """True if body and head give the model's logits, up to the rounding of its type.

    Args:
        model: in evaluation mode.
        head: as `find_head` gives it.
        text: ``[T]`` token ids on the model's device.
        truth: ``[T, V]`` its own logits of the text.
    """
    try:
        with head.taking(hidden_states(model, head.module, text[None])[0]) as hidden:
            mine = head.logits(hidden, out=hidden.new_empty(truth.shape)).to(truth.device)
    except (IndexError, RuntimeError, TypeError, ValueError):
        return False
    if mine.shape != truth.shape:
        return False
    worst = (mine.float() - truth.float()).abs().max()
    return bool(worst <= 2 * torch.finfo(hidden.dtype).eps * (1 + truth.float().abs().max()))


def hidden_states(model: Any, module: nn.Module, token_id: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """``[B, T, D]``: what the output layer ``module`` is given, for the ``T`` tokens. ``inputs`` go to the model too.

    The layer is fed none of it, so it costs nothing. Going through the whole model, and not its decoder alone, keeps
    whatever lies around it: prompts and prefixes of PEFT, scaling before the output layer.
    """
    hidden, _ = hidden_and_output(model, module, token_id, **inputs)
    return hidden


def hidden_and_output(model: Any, module: nn.Module, token_id: torch.Tensor, **inputs: Any) -> tuple[torch.Tensor, Any]:
    """As `hidden_states`, and what the model returned: its cache is in there, its logits are not."""
    caught: list[torch.Tensor] = []

    def catch(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        caught.append(args[0])
        return (args[0][:, :0], *args[1:])

    handle = module.register_forward_pre_hook(catch)
    try:
        output = model(input_ids=token_id, **{"use_cache": False, **inputs})
    finally:
        handle.remove()
    return caught[0][:, -token_id.shape[1] :], output
