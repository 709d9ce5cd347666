# SPDX-License-Identifier: Apache-2.0
"""The fused statistics kernel, ``token_stats.cpp``."""

from __future__ import annotations

import ctypes
import functools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reticent.core.compiled import Kernel, open_kernel

_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS = (_POINTER, _COUNT, _COUNT, _COUNT, _POINTER, _POINTER, _POINTER, ctypes.c_int32)


@functools.cache
def load_kernel() -> ctypes.CDLL:
    """The kernel, compiled on first use.

    Raises:
        BadInput: no compiler is found, it fails, or what it made gives wrong numbers.
    """
    return open_kernel(KERNEL)


def run_kernel(
    address: int, kind: str, shape: tuple[int, int], stride: int, gold: npt.NDArray[np.int64], threads: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """``[rows, 3]`` (logp, mu, sigma) and ``[rows]`` rank of the logits that lie at ``address``.

    Args:
        address: of the first logit.
        kind: ``"bfloat16"`` or ``"float32"``.
        shape: rows and vocabulary.
        stride: elements from one row to the next.
        gold: ``[rows]``, each in ``[0, vocabulary)``: checked here, because the kernel reads at these places.
        threads: how many to use.
    """
    rows, vocabulary = shape
    if len(gold) != rows or (rows and not (gold.min() >= 0 and gold.max() < vocabulary)):
        raise ValueError(f"gold must be {rows} ids below {vocabulary}")
    gold = np.ascontiguousarray(gold, dtype=np.int64)
    out = np.empty((rows, 3), dtype=np.float32)
    rank = np.empty(rows, dtype=np.int32)
    if rows:
        function = getattr(load_kernel(), f"reticent_token_stats_{kind}")
        function(address, rows, vocabulary, stride, gold.ctypes.data, out.ctypes.data, rank.ctypes.data, threads)
    return out, rank


def _solves(library: ctypes.CDLL) -> bool:
    """One row whose answer is known: logits ln 1, ln 2, … ln 67, gold the 60th."""
    weights = np.arange(1, 68, dtype=np.float64)
    row, gold = np.log(weights).astype(np.float32), np.array([59], dtype=np.int64)
    out, rank = np.empty(3, dtype=np.float32), np.empty(1, dtype=np.int32)
    library.reticent_token_stats_float32(
        row.ctypes.data, 1, 67, 67, gold.ctypes.data, out.ctypes.data, rank.ctypes.data, 1
    )
    share = weights / weights.sum()
    mean = float(share @ np.log(share))
    expected = (math.log(share[59]), mean, math.sqrt(float(share @ (np.log(share) - mean) ** 2)))
    return bool(rank[0] == 7 and np.allclose(out, expected, atol=1e-5))


KERNEL = Kernel(
    source=Path(__file__).with_name("token_stats.cpp"),
    name="the fused kernel",
    fix='Install a C++ compiler or set CXX, or score with impl="torch".',
    functions={f"reticent_token_stats_{kind}": _ARGUMENTS for kind in ("bfloat16", "float32")},
    solves=_solves,
)
