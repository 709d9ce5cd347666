# SPDX-License-Identifier: Apache-2.0
"""Private training in several processes of which each holds a part of the model.

A layer is whole while it runs, so the norm of each unit is known in the process that runs the unit. Clipped sums of a
parameter are made one at a time, added up over processes, and each keeps the sum of its own rows. Noise is a function
of the key, the step, the parameter's number and the place in it, so each process draws that of its own rows: together
it is the noise of one process, and so are the weights, up to rounding.

All processes make as many passes, the same collectives in each: one that has no more units runs a row of weight zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from reticent.core.errors import BadInput
from reticent.models.encode import IGNORED
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.rule import LayerRule
from reticent.privacy.clip.tape import Tape
from reticent.privacy.division import Division, Floats
from reticent.privacy.noise import NoiseSums, Stretch, add_noise_to_part
from reticent.privacy.probe import Alone, SingleUnit, length_of
from reticent.privacy.sampling import Unit
from reticent.privacy.self_check import SelfCheck, SelfCheckItem
from reticent.train.fully_sharded import ShardedTrainerMixin
from reticent.train.gathered import rows_of, scattered
from reticent.train.private.train import PrivateTuneTrainer
from reticent.train.ranks import Ranks

_FILLING = 2
"""Tokens of a row that only fills up."""


class HeldWeights(nn.Module):
    """The weights that one process holds of a model, as plain tensors under the names of the model.

    Args:
        model: shared out.
        here: this process.
    """

    def __init__(self, model: Any, here: Ranks) -> None:
        super().__init__()
        self.whole = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.held: dict[str, nn.Parameter] = {}
        self.of_whole: dict[Any, nn.Parameter] = {}
        self.numbers: dict[nn.Parameter, int] = {}
        self.stretches: dict[nn.Parameter, Stretch] = {}
        for name, parameter in model.named_parameters():
            local = parameter.to_local().detach()
            if not local.numel():
                continue
            mine = self.held[name] = nn.Parameter(local, requires_grad=parameter.requires_grad)
            if parameter.requires_grad:
                first, _ = rows_of(parameter.shape[0], here.rank, here.size)
                self.of_whole[parameter] = mine
                self.numbers[mine] = next(i for i, p in enumerate(self.whole) if p is parameter)
                row = parameter.shape[1:].numel()
                self.stretches[mine] = Stretch(start=first * row, whole=parameter.numel())
        saved = model.state_dict(keep_vars=True)
        self.others = {name: buffer for name, buffer in model.named_buffers() if name in saved}

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """All that this process holds a row of."""
        yield from self.held.items()

    def named_buffers(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """Those that are saved."""
        yield from self.others.items()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Names of all."""
        return {**self.held, **self.others}

    def see_gradients(self) -> None:
        """Take up the ``.grad`` of the model's parameters."""
        for whole, mine in self.of_whole.items():
            mine.grad = None if whole.grad is None else whole.grad.to_local()


class PartsClipper(BookkeepingClipper):
    """A clipper whose sums are those of all processes, of the rows that this one holds.

    Args:
        whole: of the model before it was shared out.
        weights: what this process holds of it.
        here: this process.
    """

    def __init__(self, whole: BookkeepingClipper, weights: HeldWeights, here: Ranks) -> None:
        vars(self).update(vars(whole))
        self.weights, self.here = weights, here
        self.parameters = weights.whole
        numbers = {id(parameter): number for number, parameter in enumerate(weights.whole)}
        self._slots = {
            module: [
                (owner, name, numbers[id(parameter)])
                for owner in (module, *module.children())
                for name, parameter in owner.named_parameters(recurse=False)
                if id(parameter) in numbers
            ]
            for module in self.rules
        }
        self._running: dict[nn.Parameter, int] = {}
        self._sums: dict[int, torch.Tensor] = {}

    def _forward(self, module: nn.Module, rule: LayerRule, *args: Any, **kwargs: Any) -> torch.Tensor:
        for owner, name, number in self._slots[module]:  # now whole, and the tape knows them so
            self._running[getattr(owner, name)] = number
        return super()._forward(module, rule, *args, **kwargs)

    def add(self, tape: Tape, factors: dict[nn.Parameter, torch.Tensor]) -> None:
        """See `BookkeepingClipper`; of all processes, one parameter after the other."""
        on_tape = {self._running[parameter]: parameter for parameter in tape.contributions}
        for number, whole in enumerate(self.weights.whole):
            parameter = on_tape.get(number)
            if parameter is None:
                total = torch.zeros(whole.shape, device=whole.device)
            else:
                total = tape.clipped(parameter, factors[parameter])
            mine = scattered(total, self.here)
            self._sums[number] = self._sums[number].add_(mine) if number in self._sums else mine

    def take(self) -> dict[nn.Parameter, torch.Tensor]:
        """See ``Clipper``; by the parameters of ``weights``."""
        sums, self._sums = self._sums, {}
        return {
            mine: sums[number] if number in sums else torch.zeros_like(mine, dtype=torch.float32)
            for mine, number in self.weights.numbers.items()
        }


class AloneInParts(Alone):
    """Gradients of single units, which all processes run together, each keeping its rows."""

    def __init__(self, trainer: SharedPrivateTrainer, names: Mapping[nn.Parameter, str]) -> None:
        super().__init__(trainer.model, names, trainer._autocast)
        self.weights, self.here = trainer.weights, trainer.ranks
        self.division = trainer._division

    def gradients(self, unit: Sequence[SingleUnit]) -> list[torch.Tensor]:
        """See `Alone`. Nothing may have a ``.grad``."""
        for row in unit:
            targets = row.labels[1:]
            if not bool((targets != IGNORED).any()):
                continue
            with torch.enable_grad():
                with torch.autocast(
                    row.ids.device.type, dtype=self.autocast, enabled=self.autocast is not None, cache_enabled=False
                ):
                    logits = self.model(input_ids=row.ids[None], use_cache=False).logits[0, -len(row.ids) :]
                loss = row.weight * F.cross_entropy(logits[:-1].float(), targets, ignore_index=IGNORED)
                torch.autograd.backward(loss)
        self.weights.see_gradients()
        gradients = [
            torch.zeros_like(p, dtype=torch.float32) if p.grad is None else p.grad.float() / self.here.size
            for p in self.names
        ]
        for whole, mine in self.weights.of_whole.items():
            whole.grad = mine.grad = None
        for whole in self.weights.whole:
            whole.grad = None
        return gradients

    def lengths(self, tensors: Sequence[torch.Tensor]) -> list[float]:
        """See `Alone`."""
        mine = {p: float(length_of(tensor)) for p, tensor in zip(self.names, tensors, strict=True)}
        lengths: list[float] = self.division.lengths(mine).tolist()
        return lengths

    def number(self, parameter: nn.Parameter) -> int:
        """See `Alone`."""
        return self.weights.numbers[parameter]


class SharedPrivateTrainer(ShardedTrainerMixin, PrivateTuneTrainer):
    """One private fine-tuning by `tune`, see the module."""

    weights: HeldWeights

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.clipper, BookkeepingClipper):
            raise BadInput(
                "strategy='fsdp' with per-record gradients by the exact loop",
                "each process would have to hold the gradient of the whole model",
                "Give --strategy ddp, or --method lora.",
            )
        last, size = self.ranks.size - 1, self.ranks.size
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if not any(stop > start for start, stop in (rows_of(len(p), last, size) for p in trained)):
            raise BadInput(
                f"strategy='fsdp' in {size} processes",
                f"the last of them would hold no row of the {len(trained)} parameters that are trained",
                "Start fewer, or give --strategy ddp.",
            )

    def share_out(self) -> None:
        """As ever, with a clipper for parts."""
        if self._is_shared_out:
            return
        whole = self.clipper
        super().share_out()
        assert isinstance(whole, BookkeepingClipper)
        self.weights = HeldWeights(self.model, self.ranks)
        self.clipper = PartsClipper(whole, self.weights, self.ranks)

    # ---- what the self-check sees ----------------------------------------------------------------------------------

    @property
    def _weights(self) -> Any:
        return self.weights if self._is_shared_out else self.model

    @property
    def _division(self) -> Any:
        if not self._is_shared_out:
            return None
        held = self.weights
        return Division(
            numbers=held.numbers,
            stretches=held.stretches,
            count=len(held.whole),
            processes=self.ranks.size,
            add=self._added,
        )

    def _added(self, numbers: Floats) -> Floats:
        total = torch.from_numpy(np.array(numbers, dtype=np.float64))
        self.ranks.sum([total])
        added: Floats = total.numpy()
        return added

    def _check(self) -> SelfCheck:
        if self._is_shared_out:
            return super()._check()
        early, self.self_check = super()._check(), None  # before a checkpoint is read: what it finds wrong it says now
        return early

    def _seen(self, optimized: list[torch.Tensor]) -> list[torch.Tensor]:
        self.weights.see_gradients()
        held = self.weights.of_whole
        none = {id(whole) for whole in self.weights.whole if whole not in held}
        return [held.get(tensor, tensor) for tensor in optimized if id(tensor) not in none]

    # ---- a step ----------------------------------------------------------------------------------------------------

    def _clip(self, units: Sequence[Unit], stretches: Sequence[float] | None = None) -> torch.Tensor:
        mine = sum(1 for _ in self._micro_batches(units))
        most = max(self.ranks.gather(mine))
        norms = super()._clip(units, stretches)
        for _ in range(most - mine):
            ids = torch.zeros((1, _FILLING), dtype=torch.long, device=self.args.device)
            nothing = torch.zeros(1, device=self.args.device)
            with self.clipper.attached():
                self.clipper.accumulate({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ids, weight=nothing)
        return norms

    def _to_probe(self, units: Sequence[Unit]) -> Sequence[Unit]:
        return units

    def _together(
        self, units: Sequence[Unit], stretches: Sequence[float]
    ) -> tuple[dict[nn.Parameter, torch.Tensor], torch.Tensor]:
        rank, size = self.ranks.rank, self.ranks.size
        of_all = self.ranks.gather(self._clip(units[rank::size], stretches[rank::size]).tolist())
        norms = [of_all[i % size][i // size] for i in range(len(units))]
        return self.clipper.take(), torch.tensor(norms)

    def _by_autograd(self, check: SelfCheck) -> Alone:
        return AloneInParts(self, check.names)

    def _sum_over_processes(self, sums: Mapping[nn.Parameter, torch.Tensor], contributed: torch.Tensor) -> None:
        self.ranks.sum([contributed])
        self.weights.see_gradients()

    def _add_noise(self, sums: Mapping[nn.Parameter, torch.Tensor], step: int) -> list[NoiseSums]:
        held, add = self.weights, partial(add_noise_to_part, key=self.plan.key, step=step)
        std, scale = self.plan.noise_multiplier * self.plan.clip_norm, 1 / self.plan.expected_batch
        return [
            add(total, held.stretches[mine], std=std, scale=scale, index=held.numbers[mine])
            for mine, total in sums.items()
        ]

    def _give(self, noised: Mapping[nn.Parameter, torch.Tensor]) -> None:
        from torch.distributed.tensor import DTensor

        for whole in self.weights.whole:
            mine = self.weights.of_whole.get(whole)
            local = torch.zeros_like(whole.to_local()) if mine is None else noised[mine].to(whole.dtype)
            whole.grad = DTensor.from_local(
                local.view_as(whole.to_local()),
                whole.device_mesh,
                whole.placements,
                run_check=False,
                shape=whole.shape,
                stride=whole.stride(),
            )
        self.weights.see_gradients()

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> None:
        """Not measured, as in one process."""

    # ---- around the steps ------------------------------------------------------------------------------------------

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """See `PrivateTrainerMixin`."""
        before, self._evaluating = self._evaluating, True
        try:
            return ShardedTrainerMixin.evaluate(self, *args, **kwargs)
        finally:
            self._evaluating = before

    def follow_saving(self) -> None:
        """See `TuneTrainer`; then look for its rows in what the leader saved, where this machine sees it."""
        super().follow_saving()
        folder = Path(self.ranks.hear())
        if folder.is_dir():
            self._check().saved(folder)
        self.ranks.gather(True)

    def verify_saved(self, folder: str | Path) -> tuple[SelfCheckItem, ...]:
        """See `PrivateTrainerMixin`: each process of its own rows. Of the leader."""
        self.ranks.tell(str(folder))
        checks = super().verify_saved(folder)
        self.ranks.gather(True)  # the others have found theirs
        return checks

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in one process; all give their parts, and the leader writes."""
        with self.whole(self.model) as state:
            if self.ranks.leads:
                folder = output_dir or self.args.output_dir
                self._save(folder, state_dict=state)
                self.write_promise(folder)
