# SPDX-License-Identifier: Apache-2.0
"""Training in several processes of which each holds its part of the weights, gradients and moments (FSDP2).

Zhao et al., "PyTorch FSDP", VLDB 2023; here ``fully_shard`` of PyTorch. A block of the model is made whole when it
runs, in all processes, and let go of afterwards; its gradients are summed and each process keeps the sum of its own
rows. So all processes take part in every pass, also one that has no row of the batch. What a step does is what
`TuneTrainer` does in one process, up to rounding, and checkpoints and the saved folder are those of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from reticent.core.errors import BadInput
from reticent.models.adapters import can_switch_off
from reticent.models.anatomy import transformer_blocks
from reticent.train.gathered import gather, part_like
from reticent.train.held_out import base_loss, known_base_loss
from reticent.train.loop import TuneTrainer
from reticent.train.ranks import Ranks

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_SKIPS = ("layerdrop", "decoder_layerdrop")
_TINY = 1e-6
"""As in ``torch.nn.utils.clip_grad_norm_``."""


def shared_out(make: Callable[..., TuneTrainer]) -> Callable[..., TuneTrainer]:
    """A maker of the same trainer, in which each process holds a part of the model.

    Args:
        make: a class that derives from ``TuneTrainer``, or a ``partial`` of one.
    """
    if isinstance(make, partial):
        return partial(shared_out(make.func), *make.args, **make.keywords)
    assert isinstance(make, type)
    return type(f"Sharded{make.__name__}", (ShardedTrainerMixin, make), {})


class ShardedTrainerMixin:
    """Put before a ``TuneTrainer``; see the module. Methods are those of `TuneTrainer` where nothing else is said."""

    model: Any
    args: Any
    optimizer: Any
    lr_scheduler: Any
    eval_dataset: Any
    ranks: Ranks
    _fills = False
    """This process has no row of the batch, and computes one of another's without any weight."""
    _is_shared_out = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        parts_of(self.model)  # what cannot be shared out is refused before a step

    # ---- the model in parts ----------------------------------------------------------------------------------------

    def share_out(self) -> None:
        """Keep this process's part of the model, once."""
        if not self._is_shared_out:
            self.ranks.equalise([parameter for parameter in self.model.parameters() if parameter.requires_grad])
            keep_part(self.model, self.args.device.type, self.ranks.size)
            self._is_shared_out = True

    def create_optimizer(self, model: Any = None) -> Any:
        """Of this process's part."""
        self.share_out()
        return super().create_optimizer(model)  # type: ignore[misc]

    def _move_model_to_device(self, model: Any, device: Any) -> None:
        """Not as a whole: each block goes there when it is shared out."""

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        """The model itself, which Accelerate takes for prepared and leaves alone."""
        model._is_accelerate_prepared = True
        return model

    # ---- a step ----------------------------------------------------------------------------------------------------

    def share_of(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """There is always a row, as all processes have to take part."""
        mine = self.ranks.share(inputs)
        self._fills = not len(mine["labels"])
        return {name: tensor[:1] for name, tensor in inputs.items()} if self._fills else mine

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Zero, with gradients of zero, for a row that is another's."""
        loss = super().compute_loss(*args, **kwargs)  # type: ignore[misc]
        return loss * 0 if self._fills else loss

    def summed(self, loss: torch.Tensor) -> torch.Tensor:
        """Gradients were summed by the backward pass."""
        total = loss.detach().float().reshape(1).clone()
        self.ranks.sum([total])
        return total[0]

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        norm = self._norm()
        factor = (self.args.max_grad_norm / (norm + _TINY)).clamp(max=1.0)
        for gradient in self._gradients():
            gradient.mul_(factor)
        return norm

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        return self._norm() if grad_norm is None else grad_norm

    def _norm(self) -> torch.Tensor:
        """Of the whole gradient, from the parts of all processes."""
        squares = [torch.linalg.vector_norm(gradient).double().square() for gradient in self._gradients()]
        total = torch.stack(squares).sum().reshape(1)
        self.ranks.sum([total])
        return total[0].sqrt().float()

    def _gradients(self) -> list[torch.Tensor]:
        return [parameter.grad.to_local() for parameter in self.model.parameters() if parameter.grad is not None]

    # ---- held-out texts --------------------------------------------------------------------------------------------

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """All processes compute it, and the leader tells."""
        loss = self.loss_of(self.eval_dataset if eval_dataset is None else eval_dataset)  # type: ignore[attr-defined]
        measured: Callable[..., Any] = self.measured  # type: ignore[attr-defined]
        return self.ranks.from_leader(lambda: measured(lambda: loss, metric_key_prefix))

    def measured_base(self, folder: Path, before: float | None, *, goes_on: bool) -> float | None:
        """With the method on the base: none changes what it computes before the first step."""
        loss_before = self.ranks.from_leader(lambda: known_base_loss(folder))
        if loss_before is not None or not self.eval_dataset or goes_on:
            return loss_before
        self.share_out()
        loss: float = self.loss_of(self.eval_dataset)  # type: ignore[attr-defined]
        return base_loss(folder, lambda: loss) if self.ranks.leads else loss

    # ---- what is written -------------------------------------------------------------------------------------------

    @contextmanager
    def whole(self, model: Any) -> Iterator[Mapping[str, torch.Tensor] | None]:
        """Of an adapter what it adds; it lies in files of the disk that holds the checkpoints."""
        state = model.state_dict(keep_vars=True)
        if can_switch_off(model):
            state = {name: tensor for name, tensor in state.items() if tensor.requires_grad}
        yield gather(state, self.ranks, Path(self.args.output_dir))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in one process; all give their parts, and the leader writes."""
        with self.whole(self.model) as state:
            if self.ranks.leads:
                self._save(output_dir or self.args.output_dir, state_dict=state)  # type: ignore[attr-defined]

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        saved = self.optimizer.state_dict()
        parts = {f"{index} {name}": value for index, of in saved["state"].items() for name, value in of.items()}
        whole = gather(parts, self.ranks, Path(self.args.output_dir))
        if self.ranks.leads:
            state = {index: {name: whole[f"{index} {name}"] for name in of} for index, of in saved["state"].items()}
            torch.save(saved | {"state": state}, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        saved = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True, mmap=True)
        parameters = list(chain.from_iterable(group["params"] for group in self.optimizer.param_groups))
        state = {
            index: {name: part_like(value, parameters[index], self.ranks) for name, value in of.items()}
            for index, of in saved["state"].items()
        }
        self.optimizer.load_state_dict(saved | {"state": state})
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))


def keep_part(model: Any, device: str, size: int) -> None:
    """Have each of the processes keep its rows of every parameter, on its device; blocks are whole while they run.

    Args:
        model: changed in place, and the same in all processes.
        device: kind of the devices.
        size: how many processes there are.

    Raises:
        BadInput: see `parts_of`.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    blocks = parts_of(model)
    mesh = init_device_mesh(device, (size,))
    for part in (*blocks, model):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # losses are weighed already: sums, not means
            module.set_force_sum_reduction_for_comms(True)


def parts_of(model: Any) -> list[nn.Module]:
    """The blocks of a model that can be made whole one at a time.

    Raises:
        BadInput: they cannot be found, share weights with each other, or are not all needed for each text.
    """
    config: Any = getattr(model, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    experts = next((name for name in _EXPERTS if getattr(text, name, None)), None)
    if experts is not None:
        raise BadInput(
            f"strategy='fsdp' with {getattr(text, experts)} experts",
            "which of them a process needs is not known before, and others would wait for it",
            "Give --strategy ddp.",
        )
    skipping = next((name for name in _SKIPS if getattr(text, name, 0)), None)
    if skipping is not None:
        raise BadInput(
            f"strategy='fsdp' with {skipping}={getattr(text, skipping)}",
            "each process would leave out other blocks in training, and others would wait for it",
            f"Set {skipping} to 0 in config.json, or give --strategy ddp.",
        )
    try:
        blocks = list(transformer_blocks(model))
    except BadInput as error:
        raise BadInput(
            "strategy='fsdp'", f"needs the blocks of a model: {error.why}", "Give --strategy ddp."
        ) from error
    _refuse_shared(model, blocks)
    return blocks


def _refuse_shared(model: Any, blocks: list[nn.Module]) -> None:
    """Refuse weights that two blocks share, or a block and what lies outside of them: each part is made whole alone."""
    inside = [key for block in blocks for key in {id(parameter) for parameter in block.parameters()}]
    within = {module for block in blocks for module in block.modules()}
    beside = {id(p) for module in model.modules() if module not in within for p in module.parameters(recurse=False)}
    if len(set(inside)) < len(inside) or beside & set(inside):
        raise BadInput(
            "strategy='fsdp'",
            "makes one block whole at a time, and blocks of this model share weights with what is elsewhere in it",
            "Give --strategy ddp.",
        )
