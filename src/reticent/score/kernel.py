# SPDX-License-Identifier: Apache-2.0
"""The fused statistics kernel: ``token_stats.cpp``, compiled once for this machine and kept in the user's cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.atomic import replacing
from reticent.core.errors import BadInput
from reticent.core.user_cache import user_cache

SOURCE = Path(__file__).with_name("token_stats.cpp")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread")
COMPILERS = ("c++", "g++", "clang++")
_SECONDS = 120


@functools.cache
def load_kernel() -> ctypes.CDLL:
    """The kernel, compiled on first use.

    The file name carries a hash of the source, the flags, the compiler and what the CPU can do, so that a home folder
    shared by unlike machines serves each its own file and a new version never meets an old one.

    Raises:
        BadInput: no compiler is found (``$CXX``, then ``c++``, ``g++``, ``clang++``), it fails, or what it made gives
            wrong numbers.
    """
    compiler = find_compiler()
    if compiler is None:
        raise _unusable("needs a C++ compiler, and none is found")
    failure: str | None = None
    for native in (("-march=native",), ()):
        flags = (*FLAGS, *native)
        path = kernel_folder() / f"token_stats-{_fingerprint(compiler, flags)}.so"
        failure = None if path.exists() else _compile(compiler, flags, path)
        if failure is None:
            library = _open(path)
            _check(library)
            return library
    raise _unusable(f"could not be compiled ({failure})")


def find_compiler() -> str | None:
    """The C++ compiler of this machine: ``$CXX`` if set, else the first of ``COMPILERS`` on the path."""
    chosen = os.environ.get("CXX")
    names = (chosen,) if chosen else COMPILERS
    return next((found for name in names if (found := shutil.which(name))), None)


def kernel_folder() -> Path:
    """Where compiled kernels are kept."""
    return user_cache() / "kernels"
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "reticent" / "kernels"


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


def _compile(compiler: str, flags: Sequence[str], path: Path) -> str | None:
    """Make ``path``; returns what went wrong, or None."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        command = [compiler, *flags, "-o", str(made), str(SOURCE)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode != 0:
            return (done.stderr.strip().splitlines() or ["it gave no message"])[0]
        with replacing(path) as temporary:
            shutil.copyfile(made, temporary)
    return None


def _open(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise _unusable(f"could not be loaded ({error})") from error
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    for kind in ("bfloat16", "float32"):
        function: Any = getattr(library, f"reticent_token_stats_{kind}")
        function.argtypes = [pointer, count, count, count, pointer, pointer, pointer, ctypes.c_int32]
        function.restype = None
    return library


def _check(library: ctypes.CDLL) -> None:
    """Let the kernel solve one row whose answer is known: logits ln 1, ln 2, … ln 67, gold the 60th."""
    weights = np.arange(1, 68, dtype=np.float64)
    row, gold = np.log(weights).astype(np.float32), np.array([59], dtype=np.int64)
    out, rank = np.empty(3, dtype=np.float32), np.empty(1, dtype=np.int32)
    library.reticent_token_stats_float32(
        row.ctypes.data, 1, 67, 67, gold.ctypes.data, out.ctypes.data, rank.ctypes.data, 1
    )
    share = weights / weights.sum()
    mean = float(share @ np.log(share))
    expected = (math.log(share[59]), mean, math.sqrt(float(share @ (np.log(share) - mean) ** 2)))
    if rank[0] != 7 or not np.allclose(out, expected, atol=1e-5):
        raise _unusable("was compiled and gives wrong numbers")


def _fingerprint(compiler: str, flags: Sequence[str]) -> str:
    digest = hashlib.sha256(SOURCE.read_bytes())
    compiled_by = Path(compiler).resolve()
    for part in (*flags, str(compiled_by), str(compiled_by.stat().st_size), platform.machine(), _instructions()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _instructions() -> str:
    """What the CPU can do, as the system says it; empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _unusable(why: str) -> BadInput:
    return BadInput("the fused kernel", why, 'Install a C++ compiler or set CXX, or score with impl="torch".')
