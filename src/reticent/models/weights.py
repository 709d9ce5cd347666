# SPDX-License-Identifier: Apache-2.0
"""Weights on disk: fingerprints (two folders with the same print hold the same numbers), and disks that are full."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from reticent.core.errors import BadInput
from reticent.models.emulation import is_emulation

WEIGHT_FILES = "*.safetensors"


def fingerprint_weights(folder: str | Path) -> str:
    """SHA-256 (hex) over name, dtype, shape and bytes of every tensor in the folder's safetensors files, by name.

    How the tensors are spread over files, and the files' metadata, do not matter. About a second for 1 GB; kept in
    memory for as long as no file changes.

    Raises:
        BadInput: a file is broken, or there is none.
    """
    files = sorted(Path(folder).glob(WEIGHT_FILES))
    if not files and is_emulation(folder):
        raise BadInput(
            str(folder),
            "is an emulated fine-tune, which names three models and holds no weights of its own",
            "Give one of its models, such as the small one, which alone was tuned.",
        )
    if not files:
        raise BadInput(str(folder), "holds no safetensors file", "Save the weights with save_pretrained().")
    stats = [(file, file.stat()) for file in files]
    return _fingerprint(tuple((str(file.resolve()), stat.st_size, stat.st_mtime_ns) for file, stat in stats))


@lru_cache(maxsize=64)
def _fingerprint(files: tuple[tuple[str, int, int], ...]) -> str:
    tensors = sorted((name, path, about) for path, _, _ in files for name, about in _header(Path(path)))
    digest = hashlib.sha256()
    maps: dict[str, mmap.mmap] = {}
    try:
        for path, _, _ in files:
            with Path(path).open("rb") as file:
                maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for name, path, (dtype, shape, start, end) in tensors:
            digest.update(json.dumps([name, dtype, shape]).encode())
            with memoryview(maps[path]) as view, view[start:end] as data:
                digest.update(data)
    finally:
        for opened in maps.values():
            opened.close()
    return digest.hexdigest()


def stored_dtypes(folder: str | Path) -> set[str]:
    """The dtypes of the tensors in the folder's safetensors files, as these name them: ``F32``, ``BF16``, …

    Raises:
        BadInput: a file is broken.
    """
    return {about[0] for file in sorted(Path(folder).glob(WEIGHT_FILES)) for _, about in _header(file)}


def _header(path: Path) -> Iterator[tuple[str, tuple[str, list[int], int, int]]]:
    """Name and ``(dtype, shape, first byte, end byte)`` of the tensors in a safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            if not 2 <= length <= size - 8:
                raise ValueError("the header is longer than the file")
            entries: dict[str, Any] = json.loads(file.read(length))
            for name, entry in entries.items():
                if name == "__metadata__":
                    continue
                start, end = entry["data_offsets"]
                if 8 + length + end > size:
                    raise ValueError("the file is cut short")
                yield name, (entry["dtype"], entry["shape"], 8 + length + start, 8 + length + end)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                str(path), f"is no whole safetensors file ({error})", "Copy or download it again."
            ) from error


@contextmanager
def full_disk_is_an_os_error() -> Iterator[None]:
    """Raise ``OSError(ENOSPC)`` for what safetensors and ``torch.save`` raise, each in its own way, on a full disk."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if "No space left" in str(error) or "inline_container" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device") from error
        if "File too large" in str(error):
            raise OSError(errno.EFBIG, "File too large") from error
        raise
