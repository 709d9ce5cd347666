# SPDX-License-Identifier: Apache-2.0
"""The neurons of a model's MLPs: how active each is on some texts, and how to silence or prune those that are not.

A neuron is an entry of what goes into the last matrix of an MLP, behind the activation function and, where there is
one, the gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.models.mlp_matrices import mlp_matrices
from reticent.train.batches import collate

LAST = frozenset({"down_proj", "c_proj", "fc_out", "fc2", "dense_4h_to_h", "w2"})
"""Names of the last matrix of an MLP."""

Neurons = Mapping[str, torch.Tensor]
"""Name of a last matrix → numbers of some of its neurons."""


def last_matrices(model: Any) -> dict[str, Any]:
    """The last matrix of each MLP, by its name in the model.

    Raises:
        BadInput: there is none of a known name.

    Examples:
        >>> from reticent.testing.tiny import tiny_model
        >>> sorted(name.removeprefix("transformer.") for name in last_matrices(tiny_model("gpt2")))
        ['h.0.mlp.c_proj', 'h.1.mlp.c_proj']
    """
    last = {name: module for name, module in mlp_matrices(model).items() if name.rpartition(".")[2] in LAST}
    if not last:
        raise BadInput(type(model).__name__, "has no last matrices of MLPs by known names", "Choose another repair.")
    return last


def neuron_activity(
    model: Any, rows: Sequence[EncodedRecord], *, size: int = 8, pad: int = 0
) -> dict[str, torch.Tensor]:
    """For each last matrix ``[n]`` float64: mean over all tokens of the texts of ``|activation|`` of each neuron.

    Args:
        model: in evaluation mode.
        rows: clean texts.
        size: texts in a batch.
        pad: token id that fills up texts; such places do not count.
    """
    matrices = last_matrices(model)
    totals: dict[str, torch.Tensor] = {}
    counts = dict.fromkeys(matrices, 0)
    real = torch.zeros(0, dtype=torch.bool)

    def watch(name: str) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            hidden = inputs[0]
            # Experts get single tokens, of which nothing says which are padding.
            seen = hidden[real] if hidden.dim() == 3 else hidden
            totals[name] = totals.get(name, 0) + seen.double().abs().sum(0)
            counts[name] += len(seen)

        return hook

    hooks = [matrix.register_forward_pre_hook(watch(name)) for name, matrix in matrices.items()]
    try:
        device = next(model.parameters()).device
        with torch.inference_mode():
            for start in range(0, len(rows), size):
                batch = {name: value.to(device) for name, value in collate(rows[start : start + size], pad=pad).items()}
                real = batch["attention_mask"].bool()
                model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    finally:
        for hook in hooks:
            hook.remove()
    width = {name: _width(matrix) for name, matrix in matrices.items()}
    silent = {name: torch.zeros(width[name], dtype=torch.float64) for name in matrices}
    return {name: (totals.get(name, silent[name]) / max(counts[name], 1)).cpu() for name in matrices}


def quietest(activity: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """The neurons that are least active, the same share of each MLP (rounded down).

    Examples:
        >>> quietest({"mlp": torch.tensor([3.0, 0.0, 2.0, 1.0])}, 0.5)
        {'mlp': tensor([1, 3])}
    """
    return {
        name: torch.argsort(values, stable=True)[: int(share * len(values) + 1e-9)] for name, values in activity.items()
    }


@contextmanager
def silenced(model: Any, neurons: Neurons) -> Iterator[None]:
    """Within this context these neurons give zero; no weight is changed."""
    matrices = last_matrices(model)

    def silence(name: str, chosen: torch.Tensor) -> Any:
        scale = torch.ones(_width(matrices[name]))
        scale[chosen] = 0
        return lambda _, inputs: (inputs[0] * scale.to(inputs[0]),)

    hooks = [matrices[name].register_forward_pre_hook(silence(name, chosen)) for name, chosen in neurons.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def prune(model: Any, neurons: Neurons) -> int:
    """Set all weights into and out of these neurons to zero, in place; returns how many neurons that are.

    A neuron without weights on both sides gets no gradient either, so that training does not bring it back.

    Args:
        model: a causal language model.
        neurons: by last matrix.

    Raises:
        BadInput: the matrices before a last one do not fit it.
    """
    matrices = mlp_matrices(model)
    with torch.no_grad():
        for name, chosen in neurons.items():
            width, above = _width(matrices[name]), name.rpartition(".")[0]
            _side(matrices[name], inputs=True).index_fill_(0, chosen.to(matrices[name].weight.device), 0)
            for other, matrix in matrices.items():
                if other.rpartition(".")[0] == above and other.rpartition(".")[2] not in LAST:
                    _prune_before(matrix, chosen.to(matrix.weight.device), width, other)
    return sum(len(chosen) for chosen in neurons.values())


def _prune_before(matrix: Any, chosen: torch.Tensor, width: int, name: str) -> None:
    outputs = _side(matrix, inputs=False)
    if len(outputs) not in (width, 2 * width):
        raise BadInput(name, f"has {len(outputs)} outputs for {width} neurons", "Choose another repair.")
    places = chosen if len(outputs) == width else torch.cat([chosen, chosen + width])  # gate and input in one matrix
    outputs.index_fill_(0, places, 0)
    if matrix.bias is not None:
        matrix.bias.index_fill_(0, places, 0)


def _side(matrix: Any, *, inputs: bool) -> torch.Tensor:
    """The weight of a matrix with its inputs, or its outputs, along the first dimension; a view."""
    return matrix.weight if isinstance(matrix, Conv1D) == inputs else matrix.weight.T


def _width(matrix: Any) -> int:
    """Neurons before a last matrix."""
    return int(_side(matrix, inputs=True).shape[0])
