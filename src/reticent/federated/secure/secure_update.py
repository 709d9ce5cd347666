# SPDX-License-Identifier: Apache-2.0
"""From a client's update to the vector of a secure round, and from the opened sum back to a mean update.

All clients have the same weight: nothing is multiplied by a number that a client states.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from reticent.core import validate
from reticent.federated.secure.distributed_noise import DistributedNoise
from reticent.federated.secure.keyed_hash import Vector
from reticent.federated.secure.lattice import wrapped
from reticent.federated.secure.random_bits import RandomBits
from reticent.federated.update import Update, check_update, clipped


def client_vector(update: Update, noise: DistributedNoise, *, key: bytes, round_: int, bits: int) -> Vector:
    """The update, clipped, rounded, noised and wrapped: what `SecureClient.mask` takes.

    The client clips and noises itself; the server cannot see whether it did. A client that does not gives its own
    privacy away and moves the sum by more than its share, but takes nothing from the promise to the others' but its
    share of noise, which is why colluders are taken off in the table.

    Args:
        update: of any length.
        noise: of the round.
        key: 32 secret bytes of the client.
        round_: of the federation; for each key and round one update only.
        bits: of the modulus.

    Raises:
        RefusedUpdate: a number that is not finite.

    Examples:
        >>> noise = DistributedNoise.fitted(clip_norm=1, dimension=3, noise_multiplier=1e-3, threshold=2, clients=3)
        >>> vector = client_vector({"a": torch.tensor([3.0, 4.0, 0.0])}, noise, key=b"k" * 32, round_=0, bits=24)
        >>> [round(float(x) * noise.lattice.step, 2) for x in vector[:2]]
        [0.6, 0.8]
    """
    check_update(update, update)
    flat = flattened(clipped(update, noise.lattice.clip_norm))
    whole = noise.lattice.rounded(flat, RandomBits(key, "rounding", round_)) + noise.share(key, round_=round_)
    return wrapped(whole, bits)


def mean_update(
    total: npt.NDArray[np.int64], noise: DistributedNoise, *, like: Update, denominator: float
) -> dict[str, torch.Tensor]:
    """The opened sum as an update, over a number that is fixed beforehand: the expected number of clients.

    Args:
        total: ``[dimension]`` in steps, with all noise in it.
        noise: of the round.
        like: the global arrays.
        denominator: never the number of those who answered.

    Examples:
        >>> noise = DistributedNoise.fitted(clip_norm=1, dimension=2, noise_multiplier=1, threshold=2, clients=3)
        >>> levels = noise.lattice.levels
        >>> mean_update(np.array([levels, -levels]), noise, like={"a": torch.zeros(2)}, denominator=2)
        {'a': tensor([ 0.5000, -0.5000])}
    """
    validate.positive(denominator=denominator)
    values = noise.lattice.restored(total) / denominator
    arrays, start = {}, 0
    for name in sorted(like):
        size = like[name].numel()
        part = torch.from_numpy(values[start : start + size]).float()
        arrays[name], start = part.reshape(like[name].shape), start + size
    return arrays


def flattened(update: Update) -> npt.NDArray[np.float64]:
    """All numbers of an update behind each other, arrays in the order of their names.

    >>> flattened({"b": torch.tensor([2.0]), "a": torch.tensor([[1.0]])}).tolist()
    [1.0, 2.0]
    """
    return np.concatenate([update[name].reshape(-1).double().numpy() for name in sorted(update)])
