# SPDX-License-Identifier: Apache-2.0
"""The processes that train one model, or score for one audit, and all that they say to each other.

Process 0 leads and the others follow, see `reticent.train.leading`. What the leader tells goes over gloo, so it works
with and without GPUs; sums of gradients go over whatever the tensors lie on. Objects travel pickled between processes
of one command, and so do private texts, gradients and the key of the noise: the network between them has to be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from reticent.core.errors import BadInput

T = TypeVar("T")
BUCKET = 1 << 25
"""Bytes that are summed over processes at once: small tensors travel together."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work that all processes do: a function of a module, and what it is given."""

    function: Callable[..., None]
    given: tuple[Any, ...]


@dataclass(kw_only=True, eq=False)
class Ranks:
    """The processes of one command, as one of them sees them. With one process every method does nothing.

    Args:
        rank: number of this process; 0 leads.
        local: its number on its machine.
        size: how many there are.
        group: over which they talk; None where there is one.
        store: where each leaves what the others are to know of its end; None where there is one.
        busy: a command is under way.
        closed: one failed, and nobody answers any more.

    >>> alone = Ranks()
    >>> alone.leads, alone.from_leader(lambda: 3), alone.share({"labels": torch.ones(4)})["labels"].shape
    (True, 3, torch.Size([4]))
    """

    rank: int = 0
    local: int = 0
    size: int = 1
    group: Any = None
    store: Any = None
    busy: bool = False
    closed: bool = False

    @property
    def leads(self) -> bool:
        """True for the process that reads, writes and speaks."""
        return self.rank == 0

    # ---- what the leader says --------------------------------------------------------------------------------------

    def tell(self, value: Any) -> None:
        """Send ``value`` to the others, each of which waits in ``hear``. Of the leader."""
        if self.size > 1:
            dist.broadcast_object_list([value], src=0, group=self.group)

    def hear(self) -> Any:
        """Wait for what the leader tells next. Of those who follow."""
        heard: list[Any] = [None]
        dist.broadcast_object_list(heard, src=0, group=self.group)
        return heard[0]

    def from_leader(self, make: Callable[[], T]) -> T:
        """The outcome of ``make`` in the leader, in all processes; the others wait for it."""
        if not self.leads:
            return self.hear()
        value = make()
        self.tell(value)
        return value

    def all_do(self, function: Callable[..., None], *given: Any) -> None:
        """Have the others call ``function``, while the leader goes on.

        Args:
            function: of a module, so that it can be named to them.
            given: its arguments.
        """
        self.tell(Job(function=function, given=given))

    # ---- what all say ----------------------------------------------------------------------------------------------

    def gather(self, mine: T) -> list[T]:
        """``[size]``: what each process gave, in their order."""
        if self.size == 1:
            return [mine]
        given: list[Any] = [None] * self.size
        dist.all_gather_object(given, mine, group=self.group)
        return given

    def agree(self, what: str, mine: Any) -> None:
        """Check that all processes have the same.

        Args:
            what: it is, for the message, such as "rows of step 7".
            mine: what this process has.

        Raises:
            BadInput: one has another.
        """
        given = self.gather(mine)
        other = next((rank for rank, theirs in enumerate(given) if theirs != given[0]), None)
        if other is not None:
            raise BadInput(
                f"the {what}",
                f"in process {other} of {self.size} are others than in process 0, so they no longer train one model",
                "Start all processes with the same versions, files and kind of machine.",
            )

    # ---- tensors ---------------------------------------------------------------------------------------------------

    def share(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The rows of ``batch`` (``[B, …]`` each) that this process works on: every ``size``-th. There may be none."""
        return {name: tensor[self.rank :: self.size] for name, tensor in batch.items()}

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all processes; the result is the same in all of them to the last bit."""
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = bucket[0] if len(bucket) == 1 else torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat, op=dist.ReduceOp.SUM, group=self._group(flat))
            if len(bucket) > 1:
                sizes = [tensor.numel() for tensor in bucket]
                for tensor, summed in zip(bucket, torch.split(flat, sizes), strict=True):
                    tensor.copy_(summed.view_as(tensor))

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
        """Replace each ``.grad`` by its sum over all processes; one that no process has stays away, so that an
        optimizer leaves that parameter alone as it would in one process.

        Args:
            parameters: the same in all processes, in the same order.
            loss: of this process's share (scalar).

        Returns:
            The sum of the losses.
        """
        has = [float(parameter.grad is not None) for parameter in parameters]
        small = torch.cat([loss.detach().float().reshape(1), torch.tensor(has, device=loss.device)])
        self.sum([small])
        gradients = []
        for parameter, count in zip(parameters, small[1:].tolist(), strict=True):
            if count:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        self.sum(gradients)
        return small[0]

    @torch.no_grad()
    def equalise(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give all processes the leader's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0, group=self._group(tensor))

    def _group(self, tensor: torch.Tensor) -> Any:
        return self.group if tensor.device.type == "cpu" else None

    # ---- the end ---------------------------------------------------------------------------------------------------

    def note(self, key: str, value: str) -> None:
        """Leave a word for the others, should anybody still be there to keep it."""
        with suppress(RuntimeError):
            self.store.set(key, value)

    def read(self, key: str) -> str | None:
        """A word that was left under ``key``; None where there is none.

        Raises:
            RuntimeError: nobody keeps them any more.
        """
        return self.store.get(key).decode() if self.store.check([key]) else None


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Neighbours of one type and device, up to ``BUCKET`` bytes; one that is larger, or lies in pieces, is alone."""
    bucket: list[torch.Tensor] = []
    size = 0
    for tensor in tensors:
        bytes_ = tensor.numel() * tensor.element_size()
        alike = not bucket or (tensor.dtype, tensor.device) == (bucket[0].dtype, bucket[0].device)
        if bucket and (size + bytes_ > BUCKET or not alike):
            yield bucket
            bucket, size = [], 0
        bucket, size = [*bucket, tensor], size + bytes_
    if bucket:
        yield bucket


_HERE = [Ranks()]


def ranks() -> Ranks:
    """The processes of the command that is under way; one where `reticent.train.leading.led` opened no group."""
    return _HERE[0]


def open_ranks(opened: Ranks) -> None:
    """Make ``opened`` what `ranks` gives."""
    _HERE[0] = opened
