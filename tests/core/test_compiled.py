# SPDX-License-Identifier: Apache-2.0
"""Compiling, keeping, checking and refusing, with a kernel of one line."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
import subprocess
import sys

import pytest

from reticent.core.compiled import Kernel, find_compiler, kernel_folder, open_kernel
from reticent.core.errors import BadInput

compiled = pytest.mark.skipif(find_compiler() is None, reason="no compiler")


def doubles(library):
    value = ctypes.c_int64(21)
    library.twice(ctypes.addressof(value))
    return value.value == 42


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "twice.cpp"
    source.write_text('#include <cstdint>\nextern "C" void twice(int64_t* x) { *x *= 2; }\n')
    return Kernel(
        source=source, name="the doubler", fix="Add.", functions={"twice": (ctypes.c_void_p,)}, solves=doubles
    )


def kept():
    return {path.name: path.stat().st_ino for path in kernel_folder().glob("*.so")}


def compiler(tmp_path, script):
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@compiled
def test_compiled_once_and_used_again(kernel):
    assert doubles(open_kernel(kernel))
    first = kept()
    assert [name.startswith("twice-") and name.endswith(".so") for name in first] == [True]
    assert doubles(open_kernel(kernel))
    assert kept() == first


@compiled
def test_another_source_or_flag_is_another_file(kernel):
    open_kernel(kernel)
    open_kernel(dataclasses.replace(kernel, flags=("-O1",)))
    kernel.source.write_text(kernel.source.read_text() + "// changed\n")
    open_kernel(kernel)
    assert len(kept()) == 3


@compiled
def test_a_compiler_that_does_not_know_native(kernel, tmp_path, monkeypatch):
    real = find_compiler()
    script = f'case "$*" in *-march=native*) echo no such option >&2; exit 1;; esac\nexec {real} "$@"'
    monkeypatch.setenv("CXX", compiler(tmp_path, script))
    assert doubles(open_kernel(kernel))
    assert len(kept()) == 1


@compiled
def test_a_c_compiler_named_by_the_environment_will_do(tmp_path, monkeypatch):
    """Libraries set ``CXX=gcc`` in the processes that they are imported in."""
    if not (gcc := shutil.which("gcc")):
        pytest.skip("there is no gcc")
    monkeypatch.setenv("CXX", gcc)
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path))
    code = "from reticent.score.kernel import load_kernel; load_kernel()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@compiled
def test_wrong_numbers_are_refused(kernel):
    kernel.source.write_text(kernel.source.read_text().replace("2;", "3;"))
    with pytest.raises(BadInput, match=r"the doubler: was compiled and gives wrong numbers. Add."):
        open_kernel(kernel)


def test_a_file_that_cannot_be_opened(kernel, tmp_path, monkeypatch):
    script = 'while [ "$1" != -o ]; do shift; done; echo no library >"$2"'
    monkeypatch.setenv("CXX", compiler(tmp_path, script))
    with pytest.raises(BadInput, match=r"the doubler: could not be loaded"):
        open_kernel(kernel)


def test_no_compiler(kernel, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert find_compiler() is None
    with pytest.raises(BadInput, match=r"the doubler: needs a C\+\+ compiler, and none is found. Add."):
        open_kernel(kernel)


@pytest.mark.parametrize(
    ("script", "said"), [("echo no luck >&2; exit 1", "no luck"), ("exit 1", "it gave no message")]
)
def test_a_compiler_that_fails(kernel, tmp_path, monkeypatch, script, said):
    monkeypatch.setenv("CXX", compiler(tmp_path, script))
    with pytest.raises(BadInput, match=rf"could not be compiled \({said}\)"):
        open_kernel(kernel)
    assert not kept()


def test_needs_neither_torch_nor_numpy():
    code = "import sys; sys.modules.update(torch=None, numpy=None)\nimport reticent.core.compiled"
    subprocess.run([sys.executable, "-c", code], check=True)
