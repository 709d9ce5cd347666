# SPDX-License-Identifier: Apache-2.0
"""An adapter that starts as the part of the weights that the forget rows need (FILA), put on a whole model.

The Fisher sums that decide on that part are computed batch by batch: beside them there is never more than the gradient
of one matrix in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from transformers import TrainingArguments

from reticent.models.encode import EncodedRecord
from reticent.models.in_memory import evaluating
from reticent.models.tuning.method import TUNINGS
from reticent.train.batches import IGNORED, collate
from reticent.train.unlearning.forget_row import drawn
from reticent.train.unlearning.methods.loku import FisherSum, fisher_start
from reticent.train.unlearning.parts import FisherLora

Batch = Mapping[str, torch.Tensor]


def put_on(
    model: torch.nn.Module,
    start: FisherLora,
    *,
    forget: Sequence[EncodedRecord],
    retain: Sequence[EncodedRecord],
    args: TrainingArguments,
    pad: int,
    autocast: bool,
) -> Any:
    """The model with the adapter on it; together they answer as the model did.

    Args:
        model: a whole model, which is changed in place: its linear weights become what the adapter leaves of them.
        start: rank, scale and dropout.
        forget, retain: rows; of the latter as many are drawn as there are of the former.
        args: of the training: size of a batch, device, and seed of what is drawn and of decompositions.
        pad: token id that fills up rows.
        autocast: passes are computed in bfloat16.

    Returns:
        a PEFT model of which the adapter alone is marked for training.

    Raises:
        BadInput: no adapter can be put on this model, or no row has a token to predict.
    """
    adapted = TUNINGS.get("lora")(model, r=start.rank, alpha=start.alpha, dropout=start.dropout)
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    layers = [module for module in adapted.modules() if isinstance(module, LoraLayer)]
    matrices = [layer.get_base_layer().weight for layer in layers]
    adapted.requires_grad_(False)
    for matrix in matrices:
        matrix.requires_grad_(True)
    sides = _batches(forget, retain, args, pad)
    with evaluating(adapted), torch.autocast(args.device.type, dtype=torch.bfloat16, enabled=autocast):
        sums = [fisher_sums(adapted, matrices, batches) for batches in sides]
    adapted.requires_grad_(False)
    for weight in trained:
        weight.requires_grad_(True)
    for place, layer in enumerate(layers):
        of_forget, of_retain = (of_rows[place] for of_rows in sums)
        _begin(layer, of_forget, of_retain, start.rank, args.seed)
        for of_rows in sums:
            of_rows[place] = FisherSum(torch.empty(0), 0)  # not needed any more, and as large as the matrix
    return adapted


def fisher_sums(model: Any, matrices: Sequence[torch.nn.Parameter], batches: Iterable[Batch]) -> list[FisherSum]:
    """For each matrix, over batches, the gradient of the mean loss squared, times the trained tokens of the batch.

    Args:
        model: in evaluation mode.
        matrices: those of its weights that have a gradient.
        batches: tokens and labels; a batch without a token to predict takes no part.
    """
    sums = [torch.zeros_like(matrix) for matrix in matrices]
    here = 0  # trained tokens of the batch

    def add(total: torch.Tensor) -> Any:
        def square(matrix: torch.nn.Parameter) -> None:
            assert matrix.grad is not None
            total.addcmul_(matrix.grad, matrix.grad, value=here)
            matrix.grad = None

        return square

    tokens = 0
    with ExitStack() as hooks, torch.enable_grad():
        for matrix, total in zip(matrices, sums, strict=True):
            hooks.callback(matrix.register_post_accumulate_grad_hook(add(total)).remove)  # type: ignore[no-untyped-call]
        for batch in batches:
            here = int((batch["labels"][:, 1:] != IGNORED).sum())
            if here:
                model(**batch).loss.backward()
                tokens += here
    return [FisherSum(total, tokens) for total in sums]


def _batches(
    forget: Sequence[EncodedRecord], retain: Sequence[EncodedRecord], args: TrainingArguments, pad: int
) -> tuple[list[Batch], list[Batch]]:
    """Batches of forget rows, and of as many retained rows, drawn by seed."""
    size = args.train_batch_size
    parts = [forget[start : start + size] for start in range(0, len(forget), size)]
    others = [drawn(retain, len(part), seed=args.seed, step=step) for step, part in enumerate(parts)]

    def placed(rows: Sequence[EncodedRecord]) -> Batch:
        return {name: value.to(args.device) for name, value in collate(rows, pad=pad).items()}

    return [placed(part) for part in parts], [placed(part) for part in others]


def _begin(layer: LoraLayer, forget: FisherSum, retain: FisherSum, rank: int, seed: int) -> None:
    """Give one layer its start. Matrices of GPT-2's kind lie the other way round."""
    (name,) = layer.active_adapters
    base, turned = layer.get_base_layer(), bool(getattr(layer, "fan_in_fan_out", False))

    def upright(matrix: torch.Tensor) -> torch.Tensor:
        return matrix.T if turned else matrix

    start = fisher_start(
        upright(base.weight.detach()),
        FisherSum(upright(forget.squares), forget.tokens),
        FisherSum(upright(retain.squares), retain.tokens),
        rank=rank,
        scaling=float(layer.scaling[name]),
        seed=seed,
    )
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    with torch.no_grad():
        base.weight.copy_(upright(start.rest))
        for place, part in ((down, start.down), (up, start.up)):
            place.zero_()  # a matrix with a side shorter than the rank has fewer directions
            place[: len(part), : part.shape[1]].copy_(part)
