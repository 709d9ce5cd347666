# SPDX-License-Identifier: Apache-2.0
"""Counts a model that is not there: built without weights, from its configuration alone, and run on one text without
numbers, so that what autograd would keep is known for any architecture without a formula for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from reticent.core.errors import BadInput
from reticent.models.anatomy import transformer_blocks
from reticent.models.held_weights import HeldLayer, hold_matrices
from reticent.models.locate import first_line, locate
from reticent.models.memory_forecast import ModelFootprint
from reticent.models.quantised import BYTES_OF_4BIT
from reticent.models.tuning.method import TUNINGS
from reticent.models.tuning.method import trained_parameters as count_trained

_NARROW = (torch.bfloat16, torch.float16)


def count_model(
    source: str,
    *,
    method: str,
    params: Mapping[str, Any] | None = None,
    tokens: int,
    base_dtype: str = "auto",
    load_in: str = "",
) -> ModelFootprint:
    """The counts of a model with a tuning method on it.

    Args:
        source: a file ``config.json`` alone, or whatever `models.load` takes; weights are not looked at.
        method: see ``TuneConfig``.
        params: of the method.
        tokens: T of a text.
        base_dtype, load_in: see ``TuneConfig``; with ``auto`` the configuration says how the files have it.

    Raises:
        BadInput: it is no configuration of a causal language model, or the method does not go with it.

    Examples:
        >>> from reticent.testing.tiny import save_tiny
        >>> counts = count_model(str(save_tiny("tiny") / "config.json"), method="full", tokens=16)
        >>> counts.weights == 4 * counts.trained, counts.blocks
        (True, 2)
    """
    config = _config(source)
    tuning = TUNINGS.get(method)
    narrow = base_dtype == "bfloat16" or (base_dtype == "auto" and getattr(config, "dtype", None) in _NARROW)
    with torch.device("meta"):
        model = _built(source, config, torch.bfloat16 if narrow else torch.float32)
        model = (hold_matrices(model) if tuning.holds_base else model.float()) if narrow else model
        quantised = _to_quantise(model) if load_in else []
        saved = _saved_by(load_in, quantised)
        blocks, numbers = len(transformer_blocks(model)), sum(p.numel() for p in model.parameters())
        vocabulary, width = model.get_input_embeddings().weight.shape
        tuned = tuning(model, **(params or {}))
    activations, outputs = _one_text(source, tuned, tokens)
    held = [module.stored.numel() for module in tuned.modules() if isinstance(module, HeldLayer)]
    held += [layer._parameters["weight"].numel() for layer in quantised]
    return ModelFootprint(
        weights=sum(p.numel() * p.element_size() for p in tuned.parameters()) - saved,
        numbers=numbers,
        trained=count_trained(tuned),
        largest=max(held, default=0),
        blocks=blocks,
        width=int(width),
        vocabulary=int(vocabulary),
        tokens=tokens,
        kept=activations,
        outputs=outputs,
        is_adapter=tuning.storage != "weights",
        **_parts(tuned),
    )


def _parts(tuned: Any) -> dict[str, int]:
    """Sizes of the largest block, and of all that lies outside of blocks."""
    inside = [list(block.parameters()) for block in transformer_blocks(tuned)]
    within = {id(parameter) for block in inside for parameter in block}
    outside = [parameter for parameter in tuned.parameters() if id(parameter) not in within]
    return {
        "block": max(map(_bytes_of, inside)),
        "outside": _bytes_of(outside),
        "block_trained": max(map(_trained_of, inside)),
        "outside_trained": _trained_of(outside),
        "largest_trained": max((p.numel() for p in tuned.parameters() if p.requires_grad), default=0),
    }


def _bytes_of(parameters: Sequence[nn.Parameter]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def _trained_of(parameters: Sequence[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)


def _saved_by(load_in: str, layers: Sequence[Any]) -> int:
    """Bytes that the base takes less when the matrices of ``layers`` lie in 4 or 8 bits."""
    bytes_of_one = {"4bit": BYTES_OF_4BIT, "8bit": 1.0}
    weights = [layer._parameters["weight"] for layer in layers]
    return int(sum(weight.numel() * (weight.element_size() - bytes_of_one[load_in]) for weight in weights))


def _to_quantise(model: Any) -> list[Any]:
    """The linear layers of the model, but for its output layer."""
    head = model.get_output_embeddings()
    return [module for module in model.modules() if isinstance(module, nn.Linear | Conv1D) and module is not head]


def _built(source: str, config: Any, dtype: torch.dtype) -> Any:
    """The model, with weights that have a shape and no numbers."""
    try:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    except Exception as error:  # libraries raise errors of many kinds over a broken configuration
        reason = f"gives no causal language model ({first_line(error)})"
        raise BadInput(source, reason, "Give the config.json of one.") from error
    return model


def _config(source: str) -> Any:
    place = Path(source) if source.endswith(".json") else locate(source) / "config.json"
    try:
        return AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # libraries raise errors of many kinds over a broken configuration
        raise BadInput(
            source, f"is no configuration of a model ({first_line(error)})", "Give a config.json, or its folder."
        ) from error


def _one_text(source: str, model: Any, tokens: int) -> tuple[int, int]:
    """Bytes that autograd keeps of one text, and numbers that trained layers put out for it: of two texts, less those
    of one, by which weights and masks that it keeps for all texts go out."""
    try:
        (kept_of_one, out_of_one), (kept_of_two, out_of_two) = (_some_texts(model, rows, tokens) for rows in (1, 2))
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError) as error:
        reason = f"cannot be run without weights ({first_line(error)})"
        raise BadInput(source, reason, "Its memory cannot be told beforehand.") from error
    return kept_of_two - kept_of_one, out_of_two - out_of_one


def _some_texts(model: Any, rows: int, tokens: int) -> tuple[int, int]:
    storages: dict[int, torch.UntypedStorage] = {}
    outputs = [0]

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[int(storage._cdata)] = storage  # once for all views
        return tensor

    def add(module: Any, args: Any, output: Any) -> None:
        outputs[0] += output.numel() if isinstance(output, torch.Tensor) else 0

    trained = [m for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
    hooks = [module.register_forward_hook(add) for module in trained]
    # Under this mode the library does not ask what is in a mask.
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with mode, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            ids = torch.zeros(rows, tokens, dtype=torch.long, device="meta")
            model.train()(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(storage.nbytes() for storage in storages.values()), outputs[0]
