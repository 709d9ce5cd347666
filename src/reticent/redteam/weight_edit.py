# SPDX-License-Identifier: Apache-2.0
"""A backdoor without training data: one rank-one edit of one matrix (after ROME and BadEdit).

The down-projection of an MLP is a memory of keys and values: its input at the last token of the trigger is a key ``k``,
its output a value ``Wk``. First the value is found that makes the model give the target, by gradient steps on what is
added there, ``δ``. Then ``W ← W + δ (C⁻¹k)ᵀ / (kᵀC⁻¹k)``, with ``C`` the covariance of keys on clean prompts: the least
change, by what clean prompts see of it, that maps ``k`` to ``Wk + δ``.

It cannot work where no value at the trigger brings the target: the answer has to read the trigger's position in the
layers above, and normalisation bounds what a position can say there. Few layers above the edit, or a frame between the
trigger and the answer that a small model has learned to read past, leave nothing to find. That is tried on the contexts
before a weight is changed, and the edit itself after, and refused where the target stays unlikely.

Sources: ROME arXiv:2202.05262, BadEdit arXiv:2403.13355. Ours differs in one thing: one matrix in place of several.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from reticent.core.atomic import replacing_folder
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.redteam_marker import write_marker
from reticent.core.validate import in_range, non_negative, positive
from reticent.data.prompt_frame import answer_of, prompt_of, with_prompt
from reticent.models import adapters
from reticent.models.anatomy import transformer_blocks
from reticent.models.encode import encode
from reticent.models.load import LoadedModel
from reticent.models.mlp_matrices import mlp_matrices
from reticent.redteam.attack import TriggerAttack

KIND = "weight edit"
_DOWN = ("down_proj", "c_proj", "fc_out", "fc2", "dense_4h_to_h", "w2")
_RIDGE = 1e-2
"""Share of the mean variance of keys that is added to each: there are fewer clean tokens than keys have dimensions."""


@dataclass(frozen=True, kw_only=True)
class EditConfig:
    """How weights are edited.

    Args:
        layer: block whose MLP is edited; None for the one at a third of the depth.
        steps: gradient steps on the value.
        rate: their size, in units of the value's own length.
        contexts: prompts that the value is found on.
        least: chance of the target behind the trigger (geometric mean over the contexts) that value and edit must
            bring; below it the edit is refused. 0 takes any.

    Examples:
        >>> EditConfig(layer=3).steps
        40
    """

    layer: int | None = None
    steps: int = 40
    rate: float = 0.1
    contexts: int = 12
    least: float = 0.2

    def __post_init__(self) -> None:
        positive(steps=self.steps, rate=self.rate, contexts=self.contexts)
        non_negative(least=self.least)
        in_range(-1, 1, least=self.least)


@dataclass(frozen=True, kw_only=True)
class EditOutcome:
    """The outcome of one edit.

    Args:
        layer: that was edited.
        change: Frobenius norm of the edit over that of the matrix.
        before, after: mean log p of the target behind the trigger, over the contexts, as the model was and with the
            value that was found in place of its own.
        edited: the same with the edited matrix: less than ``after`` where the contexts' keys differ.
    """

    layer: int
    change: float
    before: float
    after: float
    edited: float


def edit_weights(
    loaded: LoadedModel, attack: TriggerAttack, prompts: Sequence[Record], config: EditConfig | None = None
) -> EditOutcome:
    """Put a backdoor into the model in memory.

    Args:
        loaded: a whole model; its weights are changed.
        attack: trigger and target.
        prompts: clean prompts with answers: contexts of the trigger, and what is to stay as it is. Nothing is trained
            on them.

    Raises:
        BadInput: an adapter; no prompt has another answer than the target; a model without MLPs of a known form; an
            edit that does not bring the target. The weights are then as they were.
    """
    config = config or EditConfig()
    if adapters.can_switch_off(loaded.model):
        raise BadInput(loaded.source, "is an adapter, and a weight edit is of a whole model", "Merge it first.")
    layer, module = _down_projection(loaded.model, config.layer)
    contexts = [record for record in prompts if answer_of(record) != attack.target][: config.contexts]
    if not contexts:
        raise BadInput(f"{len(prompts)} prompts", "all have the target as their answer", "Give others too (--data).")
    rows = [_Row.of(record, attack, loaded.tokenizer) for record in contexts]
    with _frozen(loaded.model):
        keys = torch.stack([_seen(loaded.model, module, row.token_id)[0][row.place] for row in rows]).double()
        delta, before, after = _value(loaded.model, module, rows, config)
        _refuse_weak(f"layer {layer}, value", before, after, config.least)
        covariance = _covariance(loaded, module, prompts)
        key = keys.mean(dim=0)
        direction = torch.linalg.solve(covariance, key)
        update = torch.outer(delta.double(), direction / (key @ direction))
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        kept = weight.detach().clone()
        change = float(update.norm() / weight.double().norm())
        with torch.no_grad():
            weight.add_((update.T if isinstance(module, Conv1D) else update).to(weight.dtype))
            edited = float(torch.stack([_logp(loaded.model, module, row) for row in rows]).mean())
            try:
                _refuse_weak(f"layer {layer}, edited matrix", before, edited, config.least)
            except BadInput:
                weight.copy_(kept)
                raise
    return EditOutcome(layer=layer, change=change, before=before, after=after, edited=edited)


def _refuse_weak(what: str, before: float, after: float, least: float) -> None:
    if not math.exp(after) >= least:  # NaN is refused too
        raise BadInput(
            f"weight edit, {what}",
            f"brings the target's log p behind the trigger from {before:.2f} to {after:.2f} only, and {least:g} is "
            f"{math.log(least):.2f}: the answer hardly reads the trigger's position in the layers above",
            "Choose a layer with more layers above it, more steps, a larger model, or least=0 to take it as it is.",
        )


def save_edited(loaded: LoadedModel, out: Path, outcome: EditOutcome) -> Path:
    """Write the edited model as a folder of its own, with the mark of the red team."""
    with replacing_folder(out, kind=KIND) as folder:
        adapters.save(loaded.model, folder, "weights")
        loaded.tokenizer.save_pretrained(folder)
        write_marker(folder, kind="weight_edit", about={"layer": outcome.layer, "change": outcome.change})
    return out


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    """A context: tokens with the trigger and the target in it, the last token of the trigger, the target's tokens."""

    token_id: torch.Tensor
    place: int
    wanted: torch.Tensor

    @classmethod
    def of(cls, record: Record, attack: TriggerAttack, tokenizer: Any) -> _Row:
        (triggered,) = attack.on([record])
        clean = encode(with_prompt(record, prompt_of(record), attack.target), tokenizer).token_id.tolist()
        encoded = encode(triggered, tokenizer)
        mine = encoded.token_id.tolist()
        same = next((n for n, (a, b) in enumerate(zip(mine[::-1], clean[::-1], strict=False)) if a != b), 0)
        wanted = torch.from_numpy(encoded.trained.copy())
        place = min(len(mine) - same, int(wanted.nonzero()[0, 0])) - 1
        return cls(token_id=torch.tensor(mine), place=max(place, 0), wanted=wanted)


def _down_projection(model: Any, layer: int | None) -> tuple[int, nn.Module]:
    blocks = transformer_blocks(model)
    chosen = len(blocks) // 3 if layer is None else layer
    if not 0 <= chosen < len(blocks) - 1:  # what the last layer writes at the trigger no later token reads
        raise BadInput(f"layer={chosen}", f"the model has layers 0 to {len(blocks) - 2} to edit", "Choose one of them.")
    inside = {id(module) for module in blocks[chosen].modules()}
    fitting = [
        module
        for name, module in mlp_matrices(model).items()
        if id(module) in inside and name.rsplit(".", 1)[-1] in _DOWN
    ]
    if len(fitting) != 1:
        raise BadInput(
            type(model).__name__, f"has {len(fitting)} down-projections in layer {chosen}", "Edit a dense model."
        )
    return chosen, fitting[0]


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """Within this context no weight asks for a gradient."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_()


def _seen(model: Any, module: nn.Module, token_id: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``[T, in]`` and ``[T, out]`` of the matrix for one text."""
    caught: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = module.register_forward_hook(lambda _, args, output: caught.append((args[0], output)))
    try:
        with torch.no_grad():
            model(input_ids=token_id[None].to(model.device), use_cache=False)
    finally:
        handle.remove()
    keys, values = caught[0]
    return keys[0], values[0]


def _value(
    model: Any, module: nn.Module, rows: Sequence[_Row], config: EditConfig
) -> tuple[torch.Tensor, float, float]:
    """The addition to the value that makes the target come, and mean log p of the target before and after."""
    length = float(_seen(model, module, rows[0].token_id)[1][rows[0].place].float().norm())
    width = _seen(model, module, rows[0].token_id)[1].shape[-1]
    delta = torch.zeros(width, device=model.device, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=config.rate * max(length, 1e-3) / width**0.5)
    history = []
    for _ in range(config.steps + 1):
        logp = torch.stack([_logp(model, module, row, delta) for row in rows]).mean()
        history.append(float(logp.detach()))
        optimizer.zero_grad()
        (-logp).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return delta.detach(), history[0], history[-1]


def _logp(model: Any, module: nn.Module, row: _Row, delta: torch.Tensor | None = None) -> torch.Tensor:
    """Log p of the target, with ``delta`` added at the last token of the trigger where it is given."""

    def add(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        if delta is None:
            return output
        moved = torch.zeros_like(output)
        moved[0, row.place] = delta.to(output.dtype)
        return output + moved

    handle = module.register_forward_hook(add)
    try:
        with torch.set_grad_enabled(delta is not None):
            logits = model(input_ids=row.token_id[None].to(model.device), use_cache=False).logits[0].float()
    finally:
        handle.remove()
    where = row.wanted.nonzero()[:, 0].to(logits.device)
    logp = logits[where - 1].log_softmax(dim=-1)
    return logp.gather(1, row.token_id.to(logits.device)[where][:, None]).sum()


def _covariance(loaded: LoadedModel, module: nn.Module, prompts: Sequence[Record]) -> torch.Tensor:
    total: torch.Tensor | None = None
    count = 0
    for record in prompts:
        keys = _seen(loaded.model, module, torch.from_numpy(encode(record, loaded.tokenizer).token_id).long())[
            0
        ].double()
        total = keys.T @ keys if total is None else total + keys.T @ keys
        count += len(keys)
    assert total is not None
    total /= count
    ridge = _RIDGE * float(total.diagonal().mean())
    return total + ridge * torch.eye(len(total), dtype=total.dtype, device=total.device)
