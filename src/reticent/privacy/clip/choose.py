# SPDX-License-Identifier: Apache-2.0
"""Chooses the clipper of a model: bookkeeping where it gives what a loop over units gives, else that loop.

Bookkeeping needs a layer rule for every trained module, and that no record's tokens are mixed with another's on their
way. Both are found out before anything is trained: three made-up records of different lengths go through it together,
and each alone through ordinary autograd. Only if every parameter's gradient has the same length in both is it taken.

The loop asks nothing of the layers: each unit is alone in its pass, so nothing of another can get into its gradient.
It makes one pass forward and one backward for each unit of a batch instead of one for a micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.models.encode import IGNORED
from reticent.models.held_weights import computes_in_float32
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.clipper import Clipper, Clipping
from reticent.privacy.clip.reference import ReferenceClipper
from reticent.privacy.probe import length_of

LENGTHS = (7, 4, 2)
"""Tokens of the made-up records: more in the longest than there are records, so no layout passes for another."""
EXACT, ROUNDED = 1e-3, 0.05
"""How far a parameter's gradient may be off, relatively to a record's whole gradient: in float32, and else."""


def choose(model: Any, *, clip_norm: float, clipping: Clipping, autocast: torch.dtype | None) -> Clipper:
    """The fast clipper if it is right for ``model``, else the loop; why is said on the console.

    Args:
        model: a causal language model with ``requires_grad`` on what is trained. It is left as it is.
        clip_norm, clipping, autocast: see ``make_clipper``.

    Raises:
        BadInput: nothing is trained, or the model cannot be run on token ids and a mask.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise BadInput(type(model).__name__, "has nothing that is trained", "Set requires_grad on what is.")
    try:
        fast = BookkeepingClipper(model, clip_norm=clip_norm, clipping=clipping, autocast=autocast)
    except BadInput as error:
        why_not: str | None = f"{error.given} {error.why}"
    else:
        why_not = _why_not(fast)
        if why_not is None:
            return fast
    console.print(
        f"per-record gradients are taken by the exact loop, one record at a time, which is several times slower: "
        f"{why_not}",
        style="yellow",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return ReferenceClipper(model, clip_norm=clip_norm, clipping=clipping, autocast=autocast)


def _why_not(clipper: BookkeepingClipper) -> str | None:
    """Why bookkeeping is not right for its model; None where it is.

    Raises:
        BadInput: the model cannot be run.
    """
    model = clipper.model
    modes = {module: module.training for module in model.modules()}
    before = [parameter.grad for parameter in clipper.parameters]
    model.eval()
    try:
        batch = made_up(model)
        expected = _alone(clipper, batch)
        bookkept = _bookkept(clipper, batch)
    except _NotTogether as error:
        return str(error)
    finally:
        for module, mode in modes.items():
            module.training = mode
        # A parameter that is used outside of its layer got a gradient.
        for parameter, gradient in zip(clipper.parameters, before, strict=True):
            parameter.grad = gradient
    exact = clipper.autocast is None and computes_in_float32(model)
    for row, lengths in enumerate(expected):
        whole = torch.stack(list(lengths.values())).square().sum().sqrt()
        for parameter, length in lengths.items():
            off = (bookkept[parameter][row] - length).abs()
            if not off <= (EXACT if exact else ROUNDED) * whole and bool(torch.isfinite(whole)):
                name = next(name for name, p in model.named_parameters() if p is parameter)
                return f"{name} gets another gradient when records are run together, so its layers mix them"
    return None


def made_up(model: Any) -> dict[str, torch.Tensor]:
    """Three records of different lengths, padded to the right: ``input_ids``, ``attention_mask``, ``labels``.

    Raises:
        BadInput: the model does not say how many tokens it knows.
    """
    vocabulary = vocabulary_of(model)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (len(LENGTHS), max(LENGTHS)), generator=draw)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    device = next(model.parameters()).device
    batch = {"input_ids": ids, "attention_mask": mask, "labels": ids.where(mask.bool(), torch.tensor(IGNORED))}
    return {name: value.to(device) for name, value in batch.items()}


def vocabulary_of(model: Any) -> int:
    """How many tokens the model knows: as its configuration says, else its smallest embedding.

    Raises:
        BadInput: it has neither.
    """
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(text, "vocab_size", None)
    if size is None:
        size = min((m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)), default=None)
    if not isinstance(size, int) or size < 1:
        raise BadInput(type(model).__name__, "does not say how many tokens it knows", "Use a causal language model.")
    return size


class _NotTogether(Exception):
    """Records cannot be run together by rule."""


def _alone(clipper: BookkeepingClipper, batch: Mapping[str, torch.Tensor]) -> list[dict[nn.Parameter, torch.Tensor]]:
    """The lengths by ``_autograd`` for each record."""
    try:
        return [_autograd(clipper, batch, row) for row in range(len(LENGTHS))]
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            type(clipper.model).__name__,
            f"cannot be run on token ids and a mask ({type(error).__name__}: {error})",
            "Use another model, or another way to tune it.",
        ) from error


def _autograd(
    clipper: BookkeepingClipper, batch: Mapping[str, torch.Tensor], row: int
) -> dict[nn.Parameter, torch.Tensor]:
    """The length of each parameter's gradient for one record, run alone and without padding."""
    record = {name: value[row : row + 1, : LENGTHS[row]] for name, value in batch.items()}
    labels = record.pop("labels")
    with torch.enable_grad():
        with torch.autocast(labels.device.type, dtype=clipper.autocast, enabled=clipper.autocast is not None):
            logits = clipper.model(**record, use_cache=False).logits[:, -labels.shape[1] :]
        loss = F.cross_entropy(logits[0, :-1].float(), labels[0, 1:])
        if not loss.requires_grad:
            raise BadInput("this model", "used none of its trained parameters", "Check what is trained.")
        gradients = torch.autograd.grad(loss, clipper.parameters, allow_unused=True)
    zero = torch.zeros((), device=labels.device, dtype=torch.float64)
    return {
        p: zero if gradient is None else length_of(gradient)
        for p, gradient in zip(clipper.parameters, gradients, strict=True)
    }


def _bookkept(clipper: BookkeepingClipper, batch: Mapping[str, torch.Tensor]) -> dict[nn.Parameter, torch.Tensor]:
    """``[3]`` lengths by parameter, from one pass over all records."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    ones = torch.ones(len(LENGTHS), device=batch["labels"].device)
    try:
        with clipper.attached():
            tape, _ = clipper.record(inputs, batch["labels"], weight=ones)
    except BadInput as error:
        raise _NotTogether(f"{error.given} {error.why}") from error
    except Exception as error:  # a layer that is called otherwise than its rule knows
        raise _NotTogether(f"a layer rule fails ({type(error).__name__}: {error})") from error
    lengths = {p: square.clamp(min=0).sqrt() for p, square in tape.squares().items()}
    return {p: lengths.get(p, torch.zeros_like(ones)) for p in clipper.parameters}
