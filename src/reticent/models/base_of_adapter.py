# SPDX-License-Identifier: Apache-2.0
"""Tells whether switching an adapter off gives back its base. Most do, to the last bit; not those that train or
replace weights of the base itself (biases, embeddings, PiSSA, OLoRA) or its order of layers.

Found out by trying: the base is asked before the adapter is put on, so that no second copy of it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from reticent.models import adapters
from reticent.models.computing_device import computing_device
from reticent.models.grown_vocabulary import VocabularyRows, plain_name

MOST_APART = 1e-5
"""Logits of a switched off adapter that are further from its base's are those of another model."""
_TEXT = "Dear Ann,\nthe order of 12 May (no. 4711) has not come yet: could you call me back before Friday?"
_FEWEST = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """The answer of a base before an adapter is put on it.

    Args:
        token_id: ``[1, T]`` what it was asked.
        logits: ``[T, V]`` float32.
    """

    token_id: torch.Tensor
    logits: torch.Tensor

    @staticmethod
    def of(base: Any, tokenizer: Any) -> Probe:
        """Ask ``base``, in evaluation mode, to read a sentence in the words of ``tokenizer``."""
        rows = int(base.get_input_embeddings().weight.shape[0])
        ids = [token for token in tokenizer(_TEXT, verbose=False)["input_ids"] if token < rows]
        if len(ids) < _FEWEST:
            ids = torch.linspace(0, rows - 1, _FEWEST).long().tolist()
        token_id = torch.tensor([ids], device=computing_device(base.get_input_embeddings()))
        return Probe(token_id=token_id, logits=_logits(base, token_id))

    def is_answered(self, model: Any) -> bool:
        """True if ``model``, with its adapter on, answers at all, with numbers, and can be switched off after that."""
        try:
            answers = bool(_logits(model, self.token_id).isfinite().all())
            with adapters.switched_off(model):
                return answers
        except (RuntimeError, ValueError, NotImplementedError, StopIteration):
            return False

    def apart(self, model: Any) -> float:
        """The largest difference of logits between ``model`` with its adapter off and the base; infinite where they
        know different numbers of tokens."""
        with adapters.switched_off(model):
            now = _logits(model, self.token_id)
        if now.shape != self.logits.shape:
            return float("inf")
        return float((now - self.logits).abs().max())


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseWeights:
    """The parameters of a base that an adapter's file has entries for, as they were before it was put on.

    A sentence reads few rows of an embedding, so asking alone does not find all that a file replaces.
    """

    before: tuple[tuple[torch.nn.Parameter, torch.Tensor], ...]

    @staticmethod
    def of(base: Any, adapter: Path, rows: VocabularyRows) -> BaseWeights:
        """Remember them.

        Args:
            base: the model.
            adapter: the file of weights.
            rows: of the vocabulary; those that the base's own file does not have are free to change.
        """
        modules = [
            module for module in (base.get_input_embeddings(), base.get_output_embeddings()) if module is not None
        ]
        vocabulary = {id(weight) for module in modules for weight in module.parameters()}
        with safe_open(adapter, framework="pt") as file:
            keys = {plain_name(key) for key in file.keys()}  # noqa: SIM118
        return BaseWeights(
            before=tuple(
                (weight, (weight.detach()[: rows.before] if id(weight) in vocabulary else weight.detach()).clone())
                for name, weight in base.named_parameters()
                if name in keys
            )
        )

    @property
    def kept(self) -> bool:
        """True if none has other values than before."""
        return all(
            torch.equal(weight[: len(before)] if weight.ndim else weight, before) for weight, before in self.before
        )


def _logits(model: Any, token_id: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=token_id).logits[0].float().cpu()
    return logits
