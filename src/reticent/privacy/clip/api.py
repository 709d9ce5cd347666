# SPDX-License-Identifier: Apache-2.0
"""What a clipper is: it turns batches into sums of per-unit gradients, each unit's shrunk to at most ``clip_norm``.

Guarantee: whatever the data, adding or removing one unit changes the sum of ``take`` by a vector whose L2 norm over
all trained parameters is at most ``clip_norm``, up to the rounding of the arithmetic.

========================  ==============================================
a unit whose gradient is  contributes
========================  ==============================================
shorter than clip_norm    its gradient ("automatic": scaled up towards it)
longer                    its direction, with length clip_norm
zero                      zero
not finite, or so long    zero: were it an error, one record could decide
that its square is not    whether there is a model at all
========================  ==============================================

With ``clip_norm=math.inf`` nothing is clipped, and the sum is the ordinary gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import nn

from reticent.core import validate
from reticent.core.errors import BadInput

Clipping = Literal["flat", "per_layer", "automatic"]
CLIPPINGS = ("flat", "per_layer", "automatic")
Impl = Literal["auto", "bookkeeping", "reference"]
IMPLS = ("auto", "bookkeeping", "reference")
STABILITY = 0.01
"""γ of automatic clipping, ``C / (‖g‖ + γ)`` (Bu et al., "Automatic Clipping", 2023, equation 4.1)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClippedSum:
    """What one call of ``accumulate`` saw; not covered by any guarantee, so not to be released.

    Args:
        norm: ``[U]`` float32, L2 norm of each unit's gradient before clipping, over all layers also with ``per_layer``;
            0 where it is not finite.
        loss: ``[U]`` float32, each unit's weighted sum of its rows' mean losses (nats a token).
        finite: ``[U]`` bool, whether the unit's gradient is; where it is not, the unit contributed zero.
    """

    norm: torch.Tensor
    loss: torch.Tensor
    finite: torch.Tensor


class Clipper(Protocol):
    """Accumulates clipped gradients. Made by ``make_clipper``."""

    def attached(self) -> AbstractContextManager[None]:
        """Within it the model runs so that per-unit gradients can be had; after it the model is as before."""

    def accumulate(
        self, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, *, weight: torch.Tensor, rows_per_unit: int = 1
    ) -> ClippedSum:
        """One forward and one backward pass over ``B = U * rows_per_unit`` rows; adds U clipped gradients to the sums.

        Args:
            inputs: what the model is called with (``input_ids``, ``attention_mask``: ``[B, T]``), without labels.
            labels: ``[B, T]``, -100 where a token is not trained on; shifted here.
            weight: ``[B]``, factor of each row's mean loss over its trained tokens; 0 for rows that only fill up.
            rows_per_unit: rows of a unit are adjacent.
        """

    def take(self) -> dict[nn.Parameter, torch.Tensor]:
        """The sums since the last call, float32, for every trained parameter; they are forgotten here."""


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
        from reticent.privacy.clip.reference import ReferenceClipper

        return ReferenceClipper(model, clip_norm=clip_norm, clipping=clipping, autocast=autocast)
    if impl == "auto":
        from reticent.privacy.clip.choose import choose

        return choose(model, clip_norm=clip_norm, clipping=clipping, autocast=autocast)
    from reticent.privacy.clip.bookkeeping import BookkeepingClipper

    return BookkeepingClipper(model, clip_norm=clip_norm, clipping=clipping, autocast=autocast)
