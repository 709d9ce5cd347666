# SPDX-License-Identifier: Apache-2.0
"""Two models where the memory holds one: whichever is asked something has its weights there, and the other has not.

The models themselves stay, with all that hangs on them, and so does whoever holds one: weights leave a model, and are
read from its files again when it is next called. Most of an audit asks one model for a whole table, so there are few
such turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from reticent.core.errors import BadInput
from reticent.models.load import LoadedModel


class Turns:
    """Models of which one has its weights in memory.

    Examples:
        >>> from reticent.models.load import load
        >>> from reticent.testing.tiny import save_tiny
        >>> folder, turns = str(save_tiny("tiny")), Turns()
        >>> first, second = (turns.opened(lambda: load(folder)) for _ in range(2))
        >>> memory_of(first.model) < 100 < memory_of(second.model)
        True
        >>> text = torch.tensor([[1, 2, 3]])
        >>> torch.equal(first.model(text).logits, second.model(text).logits)
        True
    """

    def __init__(self) -> None:
        self._present: nn.Module | None = None

    def opened(self, read: Callable[[], LoadedModel]) -> LoadedModel:
        """The model that ``read`` gives. Its weights leave the memory whenever another of these models is called.

        Args:
            read: reads the model from its files, the same each time. No other has its weights in memory meanwhile.
        """
        self._leave()
        loaded = read()
        self._present = loaded.model

        def take(*_: Any) -> None:
            if self._present is not loaded.model:
                self._leave()
                _fill(loaded, read)
                self._present = loaded.model

        # The embedding too: an adapter of PEFT's, and who goes on from what was read, may call what lies below.
        for module in (loaded.model, loaded.model.get_input_embeddings()):
            module.register_forward_pre_hook(take)
        return loaded

    def _leave(self) -> None:
        if self._present is not None:
            _empty(self._present)
        self._present = None


def memory_of(model: nn.Module) -> int:
    """Bytes that the parameters of ``model`` take in memory, each storage once."""
    storages = {weight.untyped_storage().data_ptr(): weight.untyped_storage() for weight in model.parameters()}
    return sum(storage.nbytes() for storage in storages.values())


def _empty(model: nn.Module) -> None:
    """Let go of all weights. Shapes, types and devices stay; whoever reads the numbers finds none."""
    with torch.inference_mode(False):
        nothing: dict[tuple[torch.dtype, torch.device], torch.Tensor] = {}
        for weight in model.parameters():
            kind = weight.dtype, weight.device
            if kind not in nothing:
                value = float("nan") if weight.is_floating_point() else 0
                nothing[kind] = torch.full((), value, dtype=weight.dtype, device=weight.device)
            weight.data = nothing[kind].expand(weight.shape)


def _fill(loaded: LoadedModel, read: Callable[[], LoadedModel]) -> None:
    with torch.inference_mode(False):
        again = read()
        if again.fingerprint != loaded.fingerprint:
            raise BadInput(
                loaded.source,
                "is another model than a moment ago: its files were changed while it was audited",
                "Leave them as they are, and start again.",
            )
        for weight, fresh in zip(loaded.model.parameters(), again.model.parameters(), strict=True):
            weight.data = fresh.data
