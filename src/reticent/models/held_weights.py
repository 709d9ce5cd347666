# SPDX-License-Identifier: Apache-2.0
"""A frozen base whose matrices lie in 16 bits, while all is computed as if they lay in float32.

Only the weights of linear layers and embeddings, which are nearly all of a model, are held so. A layer makes float32 of
its own matrix when it runs and lets go of it; the backward pass makes it once more. Activations, norms, biases and what
is trained are float32 as ever. So where the files of the base are in 16 bits already (those of most large models are),
what comes of a training is the same to the last bit, and the base takes half the memory. Loading the model in bfloat16
as a whole would round the sums between layers too, and would give other weights.

Under autocast to bfloat16 a matrix in bfloat16 is read where it lies: nothing is copied at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D

from reticent.core.errors import BadInput
from reticent.models.quantised import is_quantised
from reticent.models.weights import stored_dtypes

NARROW = {"BF16": "bfloat16", "F16": "float16"}
_INTEGERS = ("I", "U", "BOOL")


def narrow_dtype(folder: Path, wish: str) -> str:
    """The dtype of 16 bits that the matrices of a base are to lie in; ``""`` for none.

    Args:
        folder: of the base.
        wish: ``"float32"`` for none; ``"bfloat16"``, whatever the files hold; ``"auto"`` for that of the files, where
            all of them have one of 16 bits and it is the same in all.

    Examples:
        >>> from reticent.testing.tiny import save_tiny
        >>> base = save_tiny("tiny")  # in float32
        >>> narrow_dtype(base, "auto"), narrow_dtype(base, "bfloat16")
        ('', 'bfloat16')
    """
    if wish in ("", "float32"):
        return ""
    if wish == "bfloat16":
        return wish
    stored = {dtype for dtype in stored_dtypes(folder) if not dtype.startswith(_INTEGERS)}
    return NARROW.get(stored.pop(), "") if len(stored) == 1 else ""


def is_rounded(folder: Path, held: str) -> bool:
    """True if files of ``folder`` hold more digits than ``held`` (as `narrow_dtype` gives it) keeps."""
    return bool(held) and any(
        NARROW.get(dtype) != held for dtype in stored_dtypes(folder) if not dtype.startswith(_INTEGERS)
    )


def has_rounded_buffers(model: nn.Module) -> bool:
    """True if the model, loaded in 16 bits, made numbers of its own in them (a factor of its embeddings), which in
    float32 would be others."""
    saved = model.state_dict()
    return any(name not in saved and _is_narrow(buffer) for name, buffer in model.named_buffers())


def hold_matrices(model: Any) -> Any:
    """Hold the matrices of ``model``, which was loaded in 16 bits, as they are, and all else in float32.

    Args:
        model: changed in place. Its linear layers and embeddings become `HeldLinear`, `HeldConv1D`, `HeldEmbedding`;
            classes of a family's own (Gemma's embedding, experts kept as one tensor) stay, in float32, with what is
            tied to them. Names and tied weights stay too.

    Examples:
        >>> from reticent.testing.tiny import tiny_model
        >>> held = hold_matrices(tiny_model().to(torch.bfloat16))
        >>> held.lm_head.weight.dtype, held.lm_head.state_dict()["weight"].dtype
        (torch.float32, torch.bfloat16)
        >>> held(torch.tensor([[1, 2, 3]])).logits.dtype
        torch.float32
    """
    shared = {id(p) for module in model.modules() if not _can_hold(module) for p in module._parameters.values()}
    narrow = set()
    for module in model.modules():
        if _can_hold(module) and id(module.weight) not in shared:
            narrow.add(id(module.weight))
            module.__class__ = _HELD[type(module)]
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in narrow and _is_narrow(tensor):
            tensor.data = tensor.data.float()
    return model


def held_dtype(model: nn.Module) -> str:
    """The dtype that the base of ``model`` is held in; ``""`` where it is not."""
    return next((str(module.stored.dtype).removeprefix("torch.") for module in _held(model)), "")


def computes_in_float32(model: nn.Module) -> bool:
    """True if every weight is float32, or held in 16 or 4 bits and computed with as if it were."""
    held = {id(module.stored) for module in _held(model)}
    return all(p.dtype == torch.float32 or id(p) in held or is_quantised(p) for p in model.parameters())


def refuse_trained(model: nn.Module) -> None:
    """Refuse to train what is held: no gradient arrives there, and steps are smaller than 16 bits can hold.

    Raises:
        BadInput: a parameter of a held layer is marked for training.
    """
    for module in _held(model):
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            raise BadInput(
                "base_dtype='bfloat16'",
                "holds weights that this method trains, and steps are smaller than 16 bits can hold",
                "Give --base_dtype float32.",
            )


@contextmanager
def plain_layers(model: nn.Module) -> Iterator[None]:
    """Within this context held layers are ordinary ones with weights in their 16 bits, for who computes in those."""
    held = [(module, type(module)) for module in _held(model)]
    plain = {kind: ordinary for ordinary, kind in _HELD.items()}
    try:
        for module, kind in held:
            module.__class__ = plain[kind]
        yield
    finally:
        for module, kind in held:
            module.__class__ = kind


class HeldLayer:
    """A layer that computes with a matrix in 16 bits as if it lay in float32. Never trained."""

    _parameters: Any

    @property
    def stored(self) -> torch.Tensor:
        """The matrix as it lies in memory."""
        stored: torch.Tensor = self._parameters["weight"]
        return stored

    @property
    def weight(self) -> torch.Tensor:
        """The matrix in float32: a copy, so what is written into it is lost. While processes share it out, the rows of
        this one as they lie: FSDP reads its parameters here when it first runs, and would keep the copy."""
        stored = self.stored
        return stored if hasattr(stored, "to_local") else stored.float()


class HeldLinear(HeldLayer, nn.Linear):  # type: ignore[override]
    """``x Wᵀ + b``, ``W [out, in]``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` → ``[..., out]``, in the dtype of ``x``, or that of autocast."""
        dtype = _computed_in(x)
        if dtype == self.stored.dtype:
            return F.linear(x.to(dtype), self.stored, self.bias)
        y: torch.Tensor = _Linear.apply(x.to(dtype), self.stored, self.bias)  # type: ignore[no-untyped-call]
        return y


class HeldConv1D(HeldLayer, Conv1D):  # type: ignore[misc]
    """``x W + b``, ``W [in, out]``: GPT-2's linear layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` → ``[..., out]``, in the dtype of ``x``, or that of autocast."""
        dtype, flat = _computed_in(x), x.view(-1, x.size(-1))
        if dtype == self.stored.dtype:
            y = torch.addmm(self.bias, flat.to(dtype), self.stored)
        else:
            y = _Conv1D.apply(flat.to(dtype), self.stored, self.bias)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:-1], self.nf)


class HeldEmbedding(HeldLayer, nn.Embedding):  # type: ignore[override]
    """Rows of a table."""

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        """``[...]`` → ``[..., D]`` float32."""
        return F.embedding(index, self.stored, self.padding_idx).float()


_HELD: dict[type, type] = {nn.Linear: HeldLinear, Conv1D: HeldConv1D, nn.Embedding: HeldEmbedding}


class _Linear(torch.autograd.Function):
    """Keeps the matrix in 16 bits for the backward pass, where autograd would keep the copy in float32."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, stored: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(stored)
        return F.linear(x, stored.to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,), (stored,) = outer, ctx.saved_tensors
        return g @ stored.to(g.dtype), None, None


class _Conv1D(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, stored: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(stored)
        return torch.addmm(bias, x, stored.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,), (stored,) = outer, ctx.saved_tensors
        return g.mm(stored.to(g.dtype).t()), None, None


def _computed_in(x: torch.Tensor) -> torch.dtype:
    device = x.device.type
    cast = device != "meta" and torch.is_autocast_enabled(device)  # there is no autocast without numbers
    return torch.get_autocast_dtype(device) if cast else x.dtype


def _can_hold(module: nn.Module) -> bool:
    """True for PyTorch's own linear layers and embeddings and GPT-2's, not for what a family has made of them."""
    return type(module) in _HELD and getattr(module, "max_norm", None) is None


def _is_narrow(tensor: torch.Tensor) -> bool:
    return tensor.dtype in (torch.bfloat16, torch.float16)


def _held(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if isinstance(module, HeldLayer))
