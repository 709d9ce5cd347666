# SPDX-License-Identifier: Apache-2.0
"""Makes the clipper that a training asks for."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.choose import choose
from reticent.privacy.clip.clipper import CLIPPINGS, Clipper, Clipping
from reticent.privacy.clip.reference import ReferenceClipper

Impl = Literal["auto", "bookkeeping", "reference"]
IMPLS = ("auto", "bookkeeping", "reference")


def make_clipper(
    model: Any,
    *,
    clip_norm: float,
    clipping: Clipping = "flat",
    impl: Impl = "auto",
    autocast: torch.dtype | None = None,
) -> Clipper:
    """A clipper for the parameters of ``model`` that have ``requires_grad``.

    Args:
        model: a Hugging Face causal language model, PEFT models included.
        clip_norm: bound on a unit's contribution, over all trained parameters together.
        clipping: ``flat``: ``min(1, C/‖g‖)``; ``per_layer``: each of L parameters by ``C/√L``; ``automatic``:
            ``C/(‖g‖ + 0.01)``.
        impl: ``bookkeeping`` needs one backward pass; ``reference`` goes through units one by one, slowly; ``auto``
            takes bookkeeping where it is found to be right for the model, else the loop, and says so (``choose.py``).
        autocast: dtype of the activations; None leaves the model's own.

    Raises:
        BadInput: a bound that bounds nothing, or a trained parameter in a module that no rule knows (bookkeeping).
    """
    validate.one_of(CLIPPINGS, clipping=clipping)
    validate.one_of(IMPLS, impl=impl)
    if not clip_norm > 0 or (clipping == "automatic" and math.isinf(clip_norm)):
        raise BadInput(
            f"clip_norm={clip_norm!r} with clipping={clipping!r}",
            "must be greater than 0, and finite with automatic clipping, which scales every gradient to it",
            "Give a positive number (1 is usual).",
        )
    if impl == "reference":
        return ReferenceClipper(model, clip_norm=clip_norm, clipping=clipping, autocast=autocast)
    if impl == "auto":
        return choose(model, clip_norm=clip_norm, clipping=clipping, autocast=autocast)
    return BookkeepingClipper(model, clip_norm=clip_norm, clipping=clipping, autocast=autocast)
