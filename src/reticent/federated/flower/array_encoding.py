# SPDX-License-Identifier: Apache-2.0
"""Arrays as bytes and back, with nothing in them that could be run: no pickle, no file format, shape and type beside.

What comes back is made by a client. It is read only where it has the shape, type and number of bytes of the global
arrays, so that a message makes nothing larger than those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from reticent.federated.update import RefusedUpdate, Update

DTYPE = "float32"
ENCODING = "reticent.little_endian"
_STORED = np.dtype("<f4")


@dataclass(frozen=True, kw_only=True)
class EncodedArray:
    """One array as it travels.

    Args:
        dtype: name of the type of an element.
        shape: of the array.
        encoding: of ``data``.
        data: the elements, C order.
    """

    dtype: str
    shape: tuple[int, ...]
    encoding: str
    data: bytes


def encode_arrays(arrays: Update) -> dict[str, EncodedArray]:
    """Arrays as they travel.

    Args:
        arrays: float32 on the CPU, of any shape.

    Examples:
        >>> encoded = encode_arrays({"a": torch.ones(2)})
        >>> encoded["a"].shape, len(encoded["a"].data)
        ((2,), 8)
        >>> decode_arrays(encoded, {"a": torch.zeros(2)})
        {'a': tensor([1., 1.])}
    """
    return {
        name: EncodedArray(
            dtype=DTYPE,
            shape=tuple(array.shape),
            encoding=ENCODING,
            data=array.detach().contiguous().numpy().astype(_STORED, copy=False).tobytes(),
        )
        for name, array in arrays.items()
    }


def decode_arrays(encoded: Mapping[str, EncodedArray], like: Update) -> dict[str, torch.Tensor]:
    """Arrays that were sent; each holds memory of its own.

    Args:
        encoded: as they came; nothing of it was checked.
        like: arrays of the names and shapes that are wanted.

    Raises:
        RefusedUpdate: other names, shapes, types or numbers of bytes. The message holds nothing of the contents.
    """
    if set(encoded) != set(like):
        raise RefusedUpdate("other arrays than those that are trained")
    return {name: _decoded(encoded[name], tuple(expected.shape)) for name, expected in like.items()}


def _decoded(array: EncodedArray, shape: tuple[int, ...]) -> torch.Tensor:
    if array.dtype != DTYPE or array.encoding != ENCODING:
        raise RefusedUpdate("an array that is not float32")
    if tuple(array.shape) != shape:
        raise RefusedUpdate("an array of another shape")
    if len(array.data) != math.prod(shape) * _STORED.itemsize:
        raise RefusedUpdate("an array of another length than its shape says")
    return torch.from_numpy(np.frombuffer(array.data, dtype=_STORED).astype(np.float32).reshape(shape))
