# SPDX-License-Identifier: Apache-2.0
"""Keep freed memory while a model runs, so that the next batch need not ask the system for it again."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30
_KEPT_AT_MOST = 1 << 25
"""The most that older versions of the C library accept for the second threshold."""
_AFTER_MMAP, _AFTER_TRIM = 1 << 25, 1 << 26
"""Values that the C library's own adjustment reaches in a process that has freed large blocks. Setting a threshold ends
that adjustment, so this, not the start value, is what leaves the process as it would have been."""


@contextmanager
def steady_heap() -> Iterator[bool]:
    """Within this context freed tensors stay with the process and are used again; at the end they are given back.

    By default the C library returns every large freed block to the system at once, and the system hands out fresh
    pages, zeroed one by one, for the next tensor: a third to a half of the time of a small model's forward pass on a
    CPU. Peak memory stays that of the largest batch. Yields whether it took effect: only with glibc does it.
    """
    libc = _glibc()
    if libc is None:
        yield False
        return
    mapped = libc.mallopt(_M_MMAP_THRESHOLD, _KEPT) or libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_AT_MOST)
    accepted = libc.mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT - 1)
    try:
        yield bool(mapped and accepted)
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _AFTER_MMAP)
        libc.mallopt(_M_TRIM_THRESHOLD, _AFTER_TRIM)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.malloc_trim.argtypes = [ctypes.c_size_t]
    return libc
