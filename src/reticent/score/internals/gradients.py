# SPDX-License-Identifier: Apache-2.0
"""Each record's gradient at a trained model: its length in each trained module, and how it lies to the accumulated
update ``W_t - W_0``.

The backward properties of a white-box auditor. Only the idea (gradients and their norms) is that of Parsing (Sun, Wu,
Zhang, arXiv:2411.07070); its own formulas could not be had, so what is computed here is this project's reconstruction.

No record's gradient is written out where that can be helped: norms come from the tape of per-unit clipping
(``privacy.clip``), and for a linear layer with inputs ``a_t`` and output gradients ``b_t`` the inner product with an
update ``D`` is ``Σ_t b_tᵀ D a_t``. ``impl="reference"`` goes record by record with plain autograd.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import nn
from transformers.pytorch_utils import Conv1D

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.anatomy import refuse_ensemble, transformer_blocks
from reticent.models.context import positions_of
from reticent.models.encode import IGNORED, EncodedRecord
from reticent.models.tuning import adapter as bottleneck
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.contribution import Contribution, DenseGradient, Outer, RowGradients
from reticent.score.engine import Chunk, batches
from reticent.score.forward import device_of, most_read

Floats = npt.NDArray[np.float64]
Origin = Mapping[str, torch.Tensor | float]
"""Where each parameter's training started, by name: a tensor, or the number that it was filled with."""

_TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 8192}
"""Padded tokens in a batch. Half of what scoring takes: inputs and output gradients of all layers are kept."""
_ROUNDING = 1e-6
"""Gradients of a module that are shorter than this share of the whole are rounding of float32."""
_INITIAL = {"lora_B": 0.0, "lora_embedding_B": 0.0, "ia3_l": 1.0, "up": 0.0}
"""Initial values of parts of adapters (``up`` is a bottleneck's). LoRA's ``A`` and a bottleneck's
``down`` are random, so unknown afterwards."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientProperties:
    """Gradients of ``N`` records in ``M`` modules. The loss of a record is the mean over its trained tokens, nats.

    Args:
        names: of the modules: a trained parameter each, or a group of them.
        square: ``[N, M]`` squared length of the gradient.
        inner: ``[N, M]`` inner product with the accumulated update; NaN in modules whose start is not known.
        update: ``[M]`` squared length of the accumulated update; NaN where the start is not known.
        loss: ``[N]`` nats.
    """

    names: tuple[str, ...]
    square: Floats
    inner: Floats
    update: Floats
    loss: Floats

    @property
    def norm(self) -> Floats:
        """``[N, M]`` length of the gradient in each module."""
        return np.sqrt(np.maximum(self.square, 0))

    @property
    def total(self) -> Floats:
        """``[N]`` length of the gradient over all modules."""
        return np.asarray(np.sqrt(np.maximum(self.square, 0).sum(axis=1)))

    @property
    def cosine(self) -> Floats:
        """``[N, M]`` cosine with the accumulated update; NaN where the start is not known, 0 for an update of zero or
        a gradient that is rounding only (attention to a single token has none). Descent on a record moves against its
        gradient, so members tend to lower values while they are fitted."""
        lengths = self.norm * np.sqrt(self.update)
        nothing = (self.norm <= _ROUNDING * self.total[:, None]) | (self.update == 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(np.isnan(self.update), np.nan, np.where(nothing, 0.0, self.inner / lengths))

    def grouped(self, group: Callable[[str], str]) -> GradientProperties:
        """Modules with the same ``group(name)`` taken as one. A group's update is known if all of its parts' are."""
        labels = [group(name) for name in self.names]
        groups = tuple(dict.fromkeys(labels))
        to = np.array([[label == member for member in groups] for label in labels], dtype=np.float64).reshape(
            -1, len(groups)
        )
        is_known = ~np.isnan(self.update)
        unknown = (to[~is_known].sum(axis=0) > 0) if len(labels) else np.zeros(0, dtype=bool)
        inner = np.where(is_known, self.inner, 0.0) @ to
        inner[:, unknown] = np.nan
        return GradientProperties(
            names=groups,
            square=self.square @ to,
            inner=inner,
            update=np.where(unknown, np.nan, np.where(is_known, self.update, 0.0) @ to),
            loss=self.loss,
        )

    def columns(self) -> dict[str, Floats]:
        """Every property as ``[N]`` by name: ``gradient_norm``, ``gradient_norm.<module>``,
        ``gradient_cosine.<module>`` where it is known."""
        norm, cosine = self.norm, self.cosine
        columns_by_name = {"gradient_norm": self.total}
        columns_by_name |= {f"gradient_norm.{name}": norm[:, place] for place, name in enumerate(self.names)}
        with_update = [place for place in range(len(self.names)) if not math.isnan(self.update[place])]
        return columns_by_name | {f"gradient_cosine.{self.names[place]}": cosine[:, place] for place in with_update}


def gradient_properties(
    model: Any,
    rows: Sequence[EncodedRecord],
    *,
    parameters: Sequence[str],
    origin: Origin | None = None,
    impl: Literal["tape", "reference"] = "tape",
    tokens_per_batch: int | None = None,
    advance: Callable[[int], None] = lambda texts: None,
) -> GradientProperties:
    """Gradients of each record's loss for the named parameters; the model is left as it was.

    Texts longer than the model can read at once are cut off there.

    Args:
        model: a causal language model in evaluation mode.
        rows: ``N`` encoded records.
        parameters: names of parameters, as ``trained_parameters`` gives them.
        origin: where their training started (``origin_of``); what is missing there has no cosine.
        impl: ``"tape"``: one forward and one backward pass over a batch; ``"reference"``: one record at a time.
        tokens_per_batch: padded tokens in a batch; None for 1,024 on a CPU and 8,192 on a GPU.
        advance: told how many texts are done, as they are.

    Raises:
        BadInput: a parameter that is not there, a record without a trained token, or (tape) a layer that no rule knows.
    """
    validate.one_of(("tape", "reference"), impl=impl)
    named = dict(model.named_parameters())
    missing = [name for name in parameters if name not in named]
    if missing or not parameters:
        raise BadInput(f"parameters {missing[:3]}", "are not in the model", "Take trained_parameters(model).")
    chosen = {name: named[name] for name in parameters}
    directions = {name: _direction(parameter, (origin or {}).get(name)) for name, parameter in chosen.items()}
    limit = most_read(model)
    cut_rows = [row if limit is None else _cut(row, limit) for row in rows]
    empty = [number for number, row in enumerate(cut_rows) if not row.predicted]
    if empty:
        raise BadInput(
            f"record number {empty[0]} ({len(empty)} of {len(rows)})", "has no loss", "Leave such records out."
        )
    square, inner = (np.full((len(rows), len(chosen)), np.nan) for _ in range(2))
    loss = np.zeros(len(rows))
    with _trained_alone(model, chosen):
        measure = _by_tape if impl == "tape" else _one_by_one
        for some, squares, inners, losses in measure(model, cut_rows, chosen, directions, tokens_per_batch):
            square[some], inner[some], loss[some] = squares, inners, losses
            advance(len(some))
    update = [math.nan if make is None else float(make().double().square().sum()) for make in directions.values()]
    return GradientProperties(names=tuple(chosen), square=square, inner=inner, update=np.array(update), loss=loss)


# ---- what was trained, and from where -------------------------------------------------------------------------------


def trained_parameters(model: Any, base: Any | None = None) -> tuple[str, ...]:
    """Names of the parameters whose gradients are looked at.

    An adapter's own parameters. For a whole model the weights of the linear layers in its blocks that differ from
    ``base``; where none of these was trained, whatever else differs: biases, the output matrix. Without a base, or
    where nothing differs, all weights of linear layers in blocks.
    """
    refuse_ensemble(model, "gradients")
    names = [name for name, _ in model.named_parameters()]
    of_adapter = [name for name in names if _is_adapter(model, name)]
    if of_adapter:
        return tuple(of_adapter)
    linear = _linear_weights(model)
    before = {} if base is None else dict(base.named_parameters())
    moved = [name for name, now in model.named_parameters() if name in before and not torch.equal(now, before[name])]
    return tuple([name for name in moved if name in linear] or moved or [name for name in names if name in linear])


def origin_of(model: Any, parameters: Sequence[str], base: Any | None = None) -> dict[str, torch.Tensor | float]:
    """Where training started, as far as it can be told afterwards.

    For a whole model, the base's weights. For LoRA, 0 for ``B``; ``A`` starts at random numbers that are not kept, and
    is left out. That loses little: ``<∂L/∂A, A>`` and ``<∂L/∂B, B>`` are both the inner product of the gradient of the
    whole matrix with the update ``B A`` (times its scale), so the cosine of ``B`` tells of both.
    """
    origins: dict[str, torch.Tensor | float] = {}
    before = {} if base is None else dict(base.named_parameters())
    for name in parameters:
        if _is_adapter(model, name):
            initial = next((value for part, value in _INITIAL.items() if part in name.split(".")), None)
            if initial is not None:
                origins[name] = initial
        elif name in before:
            origins[name] = before[name].detach()
    return origins


def by_block(name: str) -> str:
    """``block.side`` of a parameter: ``"3.lora_A"``, ``"3.up"``, ``"3.weight"``; outside of the blocks its own name."""
    number = re.search(r"\.(\d+)\.", name)
    parts = name.split(".")
    last = parts[-2] if bottleneck.NAME in parts else parts[-1]
    side = next((part for part in parts if part.startswith(("lora_", "ia3_"))), last)
    return f"{number[1]}.{side}" if number else name


def _is_adapter(model: Any, name: str) -> bool:
    parts = name.split(".")
    if isinstance(model, PeftModel):
        if model.active_peft_config.is_prompt_learning:
            return "prompt_encoder" in parts
        return any(part.startswith(model.base_model.prefix) for part in parts)
    return bottleneck.NAME in parts


def _linear_weights(model: Any) -> set[str]:
    inside = set(transformer_blocks(model).modules())
    return {
        f"{name}.weight"
        for name, module in model.named_modules()
        if module in inside and isinstance(module, (nn.Linear, Conv1D))
    }


def _direction(parameter: nn.Parameter, origin: torch.Tensor | float | None) -> Callable[[], torch.Tensor] | None:
    """Makes the accumulated update in float32 when it is needed, so that no second copy of all weights is held."""
    if origin is None:
        return None
    if isinstance(origin, torch.Tensor) and origin.shape != parameter.shape:
        raise BadInput("the base", "has parameters of other shapes", "Give the model that the target was tuned from.")

    def make() -> torch.Tensor:
        start = origin.to(parameter.device).float() if isinstance(origin, torch.Tensor) else origin
        return parameter.detach().float() - start

    return make


# ---- the passes -----------------------------------------------------------------------------------------------------

_Part = tuple[npt.NDArray[Any], Floats, Floats, Floats]
_Directions = Mapping[str, Callable[[], torch.Tensor] | None]


@contextmanager
def _trained_alone(model: Any, chosen: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Within it just ``chosen`` take gradients, and none has one yet."""
    held = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    wanted = {id(parameter) for parameter in chosen.values()}
    with ExitStack() as stack:
        if isinstance(model, PeftModel):
            config = model.active_peft_config
            stack.callback(setattr, config, "inference_mode", config.inference_mode)
            config.inference_mode = False  # PEFT takes virtual tokens past autograd otherwise
        try:
            for parameter, _, _ in held:
                parameter.requires_grad_(id(parameter) in wanted)
                parameter.grad = None
            yield
        finally:
            for parameter, before, gradient in held:
                parameter.requires_grad_(before)
                parameter.grad = gradient


def _by_tape(
    model: Any,
    rows: Sequence[EncodedRecord],
    chosen: Mapping[str, nn.Parameter],
    directions: _Directions,
    tokens_per_batch: int | None,
) -> Iterator[_Part]:
    device = device_of(model)
    clipper = BookkeepingClipper(model, clip_norm=math.inf, clipping="flat", autocast=None)
    with clipper.attached():
        for batch in _batches(model, rows, tokens_per_batch):
            some = np.array([piece.row for piece in batch])
            ids, mask, labels = (part.to(device) for part in _padded([rows[number] for number in some]))
            weight = torch.ones(len(some), device=device)
            tape, losses = clipper.record({"input_ids": ids, "attention_mask": mask}, labels, weight=weight)
            squares = tape.squares()
            zero = torch.zeros(len(some), device=device)
            square = [squares.get(parameter, zero) for parameter in chosen.values()]
            inner = []
            for name, parameter in chosen.items():
                make = directions[name]
                if make is None:
                    inner.append(zero + math.nan)
                    continue
                update = make()
                inner.append(
                    sum(
                        (along(contribution, update) for contribution in tape.contributions.get(parameter, [])),
                        start=zero,
                    )
                )
            yield some, _columns(square), _columns(inner), losses.double().cpu().numpy()


def _batches(model: Any, rows: Sequence[EncodedRecord], tokens_per_batch: int | None) -> Iterator[list[Chunk]]:
    budget = tokens_per_batch or _TOKENS_PER_BATCH.get(device_of(model).type, _TOKENS_PER_BATCH["cuda"])
    nowhere = np.zeros(0, dtype=np.int64)
    pieces = [Chunk(number, 0, len(row), nowhere, slice(0, 0)) for number, row in enumerate(rows)]
    return batches(pieces, budget, positions_of(model))


def whole_batches(model: Any, rows: Sequence[EncodedRecord], tokens: int) -> list[list[int]]:
    """Numbers of the rows, in lots of at least so many tokens (the last one has what is left; there is one at least).

    A lot is made of whole batches, so `gradient_properties` of its rows, in their order, are those of all rows to the
    last bit.
    """
    limit = most_read(model)
    cut_rows = [row if limit is None else _cut(row, limit) for row in rows]
    lots: list[list[int]] = [[]]
    size = 0
    for batch in _batches(model, cut_rows, None):
        if size >= tokens:
            lots.append([])
            size = 0
        lots[-1] += [piece.row for piece in batch]
        size += sum(piece.read for piece in batch)
    return lots


def along(contribution: Contribution, direction: torch.Tensor) -> torch.Tensor:
    """``[U]`` float32: inner product of each unit's contribution with one float32 tensor of the parameter's shape."""
    match contribution:
        case Outer():
            product = (contribution.left @ direction.to(contribution.left.dtype)).float() * contribution.right.float()
        case RowGradients():
            product = direction[contribution.index] * contribution.value.float()
        case DenseGradient():
            return contribution.gradient.flatten(1).float() @ direction.flatten()
    return product.flatten(1).sum(1)


def _one_by_one(
    model: Any,
    rows: Sequence[EncodedRecord],
    chosen: Mapping[str, nn.Parameter],
    directions: _Directions,
    tokens_per_batch: int | None,
) -> Iterator[_Part]:
    """Slow and obvious: each record alone through plain autograd, its gradient written out."""
    device = device_of(model)
    for number, row in enumerate(rows):
        ids = torch.from_numpy(row.token_id.astype(np.int64)).to(device)
        trained = torch.from_numpy(row.trained[1:]).to(device)
        with torch.enable_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0, -len(ids) :].float()
            loss = F.cross_entropy(logits[:-1][trained], ids[1:][trained])
            gradients = torch.autograd.grad(loss, list(chosen.values()), allow_unused=True)
        square, inner = [], []
        for (name, parameter), gradient in zip(chosen.items(), gradients, strict=True):
            of_parameter = torch.zeros_like(parameter) if gradient is None else gradient
            make = directions[name]
            square.append(float(of_parameter.double().square().sum()))
            inner.append(math.nan if make is None else float((of_parameter.double() * make().double()).sum()))
        yield np.array([number]), np.array([square]), np.array([inner]), np.array([float(loss.detach())])


def _padded(rows: Sequence[EncodedRecord]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``input_ids``, ``attention_mask``, ``labels``, each ``[B, T]`` int64, padded on the right."""
    shape = (len(rows), max(len(row) for row in rows))
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    for line, row in enumerate(rows):
        ids[line, : len(row)], mask[line, : len(row)] = row.token_id, 1
        labels[line, : len(row)] = np.where(row.trained, row.token_id, IGNORED)
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(labels)


def _cut(row: EncodedRecord, limit: int) -> EncodedRecord:
    if len(row) <= limit:
        return row
    return EncodedRecord(token_id=row.token_id[:limit], trained=row.trained[:limit], truncated=True)


def _columns(rows: Sequence[torch.Tensor]) -> Floats:
    return np.asarray(torch.stack(list(rows), dim=1).double().cpu().numpy())
