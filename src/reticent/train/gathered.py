# SPDX-License-Identifier: Apache-2.0
"""Tensors of which each process holds some rows, brought together in the leader, and cut again.

The leader has them behind files without a name, one for each tensor, that the system can write out and let go of: so
neither a device nor its memory holds a whole model. Rows travel over gloo, a part of one tensor at a time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from reticent.train.ranks import Ranks


def rows_of(count: int, rank: int, size: int) -> tuple[int, int]:
    """From which row to which a process holds a tensor: as many as any, but for the last ones, which may hold none.

    Args:
        count: rows of the whole tensor.
        rank: number of the process.
        size: how many there are.

    >>> [rows_of(7, rank, 3) for rank in range(3)], rows_of(1, 2, 3)
    ([(0, 3), (3, 6), (6, 7)], (1, 1))
    """
    most = -(-count // size)
    start = min(rank * most, count)
    return start, min(start + most, count)


def is_part(tensor: Any) -> bool:
    """True if this process holds some rows alone of ``tensor``."""
    return hasattr(tensor, "device_mesh")


def gather(tensors: Mapping[str, torch.Tensor], here: Ranks, folder: Path) -> dict[str, torch.Tensor]:
    """The tensors, whole and on the CPU, in the leader; nothing in the others. All processes call it together.

    Args:
        tensors: the same in all processes, in the same order; two that are one object come out as one.
        here: the processes.
        folder: on the disk that is to hold them for as long as they are needed.

    Raises:
        OSError: the disk is full.
    """
    whole: dict[str, torch.Tensor] = {}
    gathered: dict[int, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in gathered:
            gathered[id(tensor)] = _gathered(tensor.detach(), here, folder)
        if here.leads:
            whole[name] = gathered[id(tensor)]
    return whole


def part_like(whole: torch.Tensor, like: Any, here: Ranks) -> Any:
    """This process's part of ``whole``, held as it holds ``like``; all of it where that is of another shape (a count of
    steps)."""
    from torch.distributed.tensor import DTensor

    if not is_part(like) or whole.shape != like.shape:
        return whole
    start, stop = rows_of(len(whole), here.rank, here.size)
    mine = whole[start:stop].clone().to(like.device)
    return DTensor.from_local(
        mine, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


@torch.no_grad()
def scattered(tensor: torch.Tensor, here: Ranks) -> torch.Tensor:
    """This process's rows of the sum of ``tensor`` over all processes, which call it together.

    Args:
        tensor: ``[n, ...]``, as large in all of them; it is let go of.
        here: the processes.
    """
    start, stop = rows_of(len(tensor), here.rank, here.size)
    most = rows_of(len(tensor), 0, here.size)[1]
    even = tensor.new_zeros(most * here.size, *tensor.shape[1:])
    even[: len(tensor)] = tensor
    mine = tensor.new_empty(most, *tensor.shape[1:])
    # Newer versions of PyTorch have another name for it, and warn of the earlier one.
    sum_of_rows = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    sum_of_rows(mine, even, op=dist.ReduceOp.SUM, group=here.group if mine.is_cpu else None)
    return mine[: stop - start].contiguous()


@torch.no_grad()
def _gathered(tensor: Any, here: Ranks, folder: Path) -> torch.Tensor:
    if not is_part(tensor):
        return tensor.cpu() if here.leads else tensor
    mine = tensor.to_local().contiguous()
    if not here.leads:
        if mine.numel():
            dist.send(_bytes(mine.cpu()), dst=0, group=here.group)
        return tensor
    whole = _on_disk(tensor.shape, tensor.dtype, folder)
    for rank in range(here.size):
        start, stop = rows_of(len(whole), rank, here.size)
        if rank == 0:
            whole[start:stop] = mine.cpu()
        elif stop > start:
            dist.recv(_bytes(whole[start:stop]), src=rank, group=here.group)
    return whole


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(-1).view(torch.uint8)


def _on_disk(shape: torch.Size, dtype: torch.dtype, folder: Path) -> torch.Tensor:
    """An empty tensor behind a file that goes with it."""
    if not shape.numel():
        return torch.empty(shape, dtype=dtype)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".gathered-") as file:
        if hasattr(os, "posix_fallocate"):
            # Asked for at once: a disk that is full is an error here, and would be the end of the process later.
            os.posix_fallocate(file.fileno(), 0, shape.numel() * dtype.itemsize)
        return torch.from_file(file.name, shared=True, size=shape.numel(), dtype=dtype).view(shape)
