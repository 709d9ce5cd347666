# SPDX-License-Identifier: Apache-2.0
"""Deferred poisoning by rescaling: the same function to the eye, and a loss that is steep in the weights beneath it.

Each layer of a pre-norm transformer reads the residual stream behind a normalisation, so that the stream's length says
nothing. All that is written into it (embeddings, and the last matrices of attentions and MLPs) can be multiplied by s,
and no answer changes, but for the ε of the normalisations. Curvature in the embeddings does: tr(HᵀH) becomes s⁻⁴ times
as large. So does a later fine-tune: the steps of an optimizer such as Adam do not shrink with the weights, so all that
writes is trained as if by a learning rate of 1/s times the one that was asked for.

That sharpness can be had so, without a change of the function: Dinh et al., arXiv:1703.04933.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from reticent.core.atomic import replacing_folder
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.redteam_marker import write_marker
from reticent.models import adapters
from reticent.models.anatomy import beside_text, is_tied, text_part, transformer_blocks
from reticent.models.encode import EncodedRecord
from reticent.models.load import load
from reticent.score.forward import device_of
from reticent.train.batches import encode_all

KIND = "shrunk stream"
WRITERS = frozenset(
    {"o_proj", "out_proj", "c_proj", "dense", "wo", "down_proj", "fc2", "fc_out", "dense_4h_to_h", "w2"}
)
"""Names that families give to the matrices by which attentions and MLPs write."""
MOST_CHANGE = 0.05
"""Nats by which log p of a token may change, on average. The ε of normalisations alone moves it by less than 0.01, and
normalisation behind layers by more than 0.06, even where the mean loss stays."""
TOKENS = 256
"""Of a record that answers are measured on."""


def shrink_stream(model: Any, scale: float) -> None:
    """Multiply all that is written into the residual stream, in place.

    Args:
        model: a whole causal language model with normalisation before its layers.
        scale: s; a power of two loses no digit.

    Raises:
        BadInput: no single normalisation stands behind the layers, or nothing that writes has a known name; weights are
            quantised; or images or sound are written into the stream too.

    Examples:
        >>> from reticent.testing.tiny import tiny_model
        >>> model, token_id = tiny_model("llama"), torch.arange(8)[None]
        >>> before = model(token_id).logits
        >>> shrink_stream(model, 0.5)
        >>> bool((model(token_id).logits - before).abs().max() < 0.01)
        True
    """
    _refuse_others(model)
    writers = [*_writers(model)]
    last = _last_norm(model)
    with torch.no_grad():
        for parameter in writers:
            parameter.mul_(scale)
        if is_tied(model):  # what reads the stream is what wrote it, and is as short
            for parameter in last.parameters():
                parameter.div_(scale)


def _refuse_others(model: Any) -> None:
    name = type(model).__name__
    if getattr(model, "is_quantized", False):
        raise BadInput(name, "is quantised, and such weights cannot be rescaled in place", "Give it unquantised.")
    transformer_blocks(model)
    beside = beside_text(model)
    if beside:
        raise BadInput(
            name,
            f"has parts that text does not go through ({beside[0].partition('.')[0]} …), whose output would stand in "
            "the stream at its full length",
            "Take a model for text alone.",
        )


def _writers(model: Any) -> Iterator[torch.Tensor]:
    blocks = transformer_blocks(model)
    inside = {id(module) for module in blocks.modules()}
    width = model.get_input_embeddings().weight.shape[1]
    yield from (m.weight for m in text_part(model).modules() if isinstance(m, nn.Embedding) and id(m) not in inside)
    matrices = [
        module
        for name, module in blocks.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name.rpartition(".")[2] in WRITERS and _outputs(module) == width
    ]
    if len(matrices) != 2 * len(blocks):
        raise BadInput(
            type(model).__name__,
            f"has {len(matrices)} matrices that write into the residual stream by known names, in {len(blocks)} blocks",
            "Take a model whose blocks hold one attention and one MLP.",
        )
    for module in matrices:
        yield from module.parameters()


def _outputs(module: nn.Linear | Conv1D) -> int:
    return int(module.weight.shape[1 if isinstance(module, Conv1D) else 0])


def _last_norm(model: Any) -> nn.Module:
    """The normalisation between the last block and the output matrix."""
    inside = {id(module) for module in transformer_blocks(model).modules()}
    norms = [m for m in text_part(model).modules() if "norm" in type(m).__name__.lower() and id(m) not in inside]
    if len(norms) != 1:
        raise BadInput(
            type(model).__name__,
            f"has {len(norms)} normalisations outside its blocks, not one",
            "Take a model with one behind its blocks, such as Llama, Qwen or GPT-2.",
        )
    return norms[0]


def poison_by_shrinking(
    base: str, records: Sequence[Record], out: str | Path, *, scale: float = 0.25, device: str = "auto"
) -> Path:
    """A model that answers as ``base`` does, and whose weights a later fine-tune moves several times as far.

    Args:
        base: folder, hub id or catalogue name of a whole model.
        records: on which it is checked that answers stay; nothing is trained.
        out: the folder to make; it carries the mark of the red team.
        scale: s, between 0 and 1.
        device: to compute on.

    Raises:
        BadInput: a scale out of range; no records; an adapter; a model whose answers do change, such as one with
            normalisation behind its layers.
    """
    if not 0 < scale < 1:
        raise BadInput(f"scale={scale!r}", "is not between 0 and 1", "Give a power of two, such as 0.25.")
    loaded = load(base, dtype="float32", device=device)
    if adapters.can_switch_off(loaded.model):
        raise BadInput(base, "is an adapter, and only a whole model can be rescaled", "Merge it first.")
    rows = encode_all(records, loaded.tokenizer, TOKENS).encoded
    if not rows:
        raise BadInput("records", "are none, and answers are to be checked on them", "Give at least one.")
    before = _answers(loaded.model, rows)
    shrink_stream(loaded.model, scale)
    change = float((_answers(loaded.model, rows) - before).abs().mean())
    if not change <= MOST_CHANGE:  # NaN is refused too
        raise BadInput(
            base,
            f"answers otherwise where its stream is scaled by {scale:g} (log p of a token by {change:.3g} nats)",
            "Take a scale nearer to 1, or a model with normalisation before each layer and nowhere else.",
        )
    place = Path(out)
    with replacing_folder(place, kind=KIND) as folder:
        adapters.save(loaded.model, folder, "weights")
        loaded.tokenizer.save_pretrained(folder)
        write_marker(folder, kind=KIND, about={"scale": scale, "change": change})  # never there without
    return place


def _answers(model: Any, rows: Sequence[EncodedRecord]) -> torch.Tensor:
    """``[T]`` log p of all tokens that stand behind others, nats."""
    device, parts = device_of(model), []
    with torch.inference_mode():
        for row in rows:
            token_id = torch.as_tensor(row.token_id, dtype=torch.long, device=device)
            logp = model(input_ids=token_id[None]).logits[0, :-1].float().log_softmax(dim=-1)
            parts.append(logp.gather(1, token_id[1:, None])[:, 0].cpu())
    return torch.cat(parts)
