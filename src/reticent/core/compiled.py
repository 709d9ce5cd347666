# SPDX-License-Identifier: Apache-2.0
"""C++ kernels of ours: each compiled once for this machine, kept in the user's cache, opened with ``ctypes``."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.atomic import replacing
from reticent.core.errors import BadInput, Unusable
from reticent.core.lock import locked
from reticent.core.sealed import intact, seal
from reticent.core.user_cache import user_cache

FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread")
COMPILERS = ("c++", "g++", "clang++")
_SECONDS = 120


LIBRARIES = ("-lstdc++",) if sys.platform == "linux" else ()
"""Named, for ``$CXX`` may be a C compiler (some packages set it so), which does not link the library of C++."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A C++ source file and what is needed to trust what is made of it.

    Args:
        source: the file; compiled files carry its stem.
        name: what messages call it.
        fix: what to do on a machine where it cannot be had; a sentence.
        functions: the argument types of each of its functions, all of which return nothing.
        solves: lets it solve a case whose answer is known, and says whether it did.
        flags: of the compiler, beside ``FLAGS`` and ``-march=native`` (which is left out where it is not understood).
    """

    source: Path
    name: str
    fix: str
    functions: Mapping[str, Sequence[type]]
    solves: Callable[[ctypes.CDLL], bool]
    flags: tuple[str, ...] = ()


def open_kernel(kernel: Kernel) -> ctypes.CDLL:
    """The kernel, compiled if it has not been yet. Every call opens and checks it, so keep what is returned.

    What was compiled is opened only where its hash is still what it was. The file name carries a hash of the source,
    the flags, the compiler and what the CPU can do, so that a home folder shared by unlike machines serves each its own
    file and a new version never meets an old one.

    Raises:
        BadInput: no compiler is found (``$CXX``, then ``c++``, ``g++``, ``clang++``), it fails, or what it made gives
            wrong numbers.
    """
    compiler = find_compiler()
    if compiler is None:
        raise _unusable(kernel, "needs a C++ compiler, and none is found")
    failure: str | None = None
    for native in (("-march=native",), ()):
        flags = (*FLAGS, *kernel.flags, *native)
        path = kernel_folder() / f"{kernel.source.stem}-{_fingerprint(kernel.source, compiler, flags)}.so"
        # A damaged file would end the process with SIGBUS or worse when it is opened.
        failure = None if intact(path) else _compile(kernel.source, compiler, flags, path)
        if failure is None:
            return _open(kernel, path)
    raise _unusable(kernel, f"could not be compiled ({failure})")


def find_compiler() -> str | None:
    """The C++ compiler of this machine: ``$CXX`` if set, else the first of ``COMPILERS`` on the path."""
    chosen = os.environ.get("CXX")
    names = (chosen,) if chosen else COMPILERS
    return next((compiler for name in names if (compiler := shutil.which(name))), None)


def kernel_folder() -> Path:
    """Where compiled kernels are kept."""
    return user_cache() / "kernels"


def _compile(source: Path, compiler: str, flags: Sequence[str], path: Path) -> str | None:
    """Make ``path``; returns what went wrong, or None."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / path.name
        command = [compiler, *flags, "-o", str(built), str(source), *LIBRARIES]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode != 0:
            return (done.stderr.strip().splitlines() or ["it gave no message"])[0]
        with locked(path, wait=True):  # the file and its hash belong together
            with replacing(path) as temporary:
                shutil.copyfile(built, temporary)
            seal(path)
    return None


def _open(kernel: Kernel, path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise _unusable(kernel, f"could not be loaded ({error})") from error
    for name, arguments in kernel.functions.items():
        function: Any = getattr(library, name)
        function.argtypes = list(arguments)
        function.restype = None
    if not kernel.solves(library):
        raise _unusable(kernel, "was compiled and gives wrong numbers")
    return library


def _fingerprint(source: Path, compiler: str, flags: Sequence[str]) -> str:
    digest = hashlib.sha256(source.read_bytes())
    compiled_by = Path(compiler).resolve()
    for part in (
        *flags,
        *LIBRARIES,
        str(compiled_by),
        str(compiled_by.stat().st_size),
        platform.machine(),
        _instructions(),
    ):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _instructions() -> str:
    """Instruction sets of the CPU, as the system lists them; empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _unusable(kernel: Kernel, reason: str) -> BadInput:
    return Unusable(kernel.name, reason, kernel.fix)
