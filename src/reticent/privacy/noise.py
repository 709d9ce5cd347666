# SPDX-License-Identifier: Apache-2.0
"""Gaussian noise for a private step: in place, in one pass, the same for the same (key, step, index, position).

Four ways, chosen by ``impl``:

=============  =====================================================================================================
``fused``      C++ (``noise.cpp``): the noise is drawn and added while the tensor is in cache; CPU, needs a compiler
``reference``  the same numbers (to 1e-5) in numpy and float64, as the definitions read; slow; any device
``torch``      CUDA only: PyTorch's own generator; equal in distribution only, see below
``auto``       ``torch`` on CUDA; on a CPU ``fused``, or ``reference`` where the kernel cannot be had; else refused
=============  =====================================================================================================

**Bits.** Whoever can predict the noise can subtract it, so the bits come from ChaCha20 (RFC 8439) under a secret key of
32 bytes, with (index, step) as nonce and the place in the tensor as counter: nothing is carried from one step to the
next, so a resumed run draws what the first one drew, and threads share nothing. 20 rounds, because that is what the RFC
specifies and publishes vectors for; 8 would do (the best attack known reaches 7: Aumasson, "Too Much Crypto", 2019) and
save a third of a time that is about one nanosecond a number and core where the CPU has AVX-512.

**Normals.** Box-Muller. One radius in 4,096, those beyond 4.08, is drawn again from 96 bits, so the normals reach 11.6
standard deviations. 32 bits alone would stop at 6.66: the coordinates and steps of a real run are enough to go beyond,
and the guarantee counts on it.

**Without a compiler** ``auto`` takes ``reference`` and says so once: a hundred times as long, a second or two for ten
million numbers on one core. The two agree to 1e-5 and not to the bit, so a run that is resumed on a machine of the
other kind draws the same noise up to rounding. That is the same noise for the guarantee too: a step that is made again
adds it to the same sum (that of the same batch and weights, up to rounding), and nothing of the first try is kept.

**Limits.** These are floating-point numbers, not the discrete Gaussian: the sum ``x + std·N`` rounds, and which results
can occur depends on ``x`` (Mironov, "On significance of the least significant bits for differential privacy", CCS 2012;
Holohan and Braghin, "Secure random sampling in differential privacy", ESORICS 2021). As wherever float32 noise is
added, the guarantee is that of the exact mechanism, and this gap is not in it.

``torch`` on CUDA is further from the promise: its Philox generator is not built to withstand attack, its seed has 64
bits, and another kind of GPU or version of PyTorch may draw other noise from it. Each number is half the sum of four of
PyTorch's normals, which end near 6.7 and so reach 13 together.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from reticent.core import validate
from reticent.core.compiled import Kernel, open_kernel
from reticent.core.errors import BadInput
from reticent.core.progress import console

IMPLS = ("auto", "fused", "torch", "reference")
LANES = 16
TILE = 256
"""Numbers made of the 16 words of 16 ChaCha blocks."""
RARE = 1 << 20
"""A radius word below this gets 64 bits more."""
_AT_ONCE = 1024
"""Tiles that ``reference`` works on at a time."""
_BLOCK = 1 << 24
"""Elements that ``torch`` works on at a time: 64 MiB beside the tensor."""
_LARGEST = 1 << 36
"""The range of a 32-bit block counter."""

Words = npt.NDArray[np.uint32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NoiseSums:
    """Sums over a parameter while noise is added, for the self-check. With noise ``e = std·N``, before ``scale``:

    Args:
        n: elements.
        x_squared: Σ x² before.
        noise: Σ e; about 0 ± std·√n.
        noise_squared: Σ e²; about std²·n·(1 ± √(2/n)).
    """

    n: int
    x_squared: float
    noise: float
    noise_squared: float


@dataclass(frozen=True, kw_only=True)
class _Noise:
    """The size of the noise, and all that it follows from; see ``add_noise``."""

    std: float
    scale: float
    key: bytes
    step: int
    index: int

    @property
    def place(self) -> tuple[bytes, int, int]:
        """All that the standard normals follow from."""
        return self.key, self.step, self.index


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Where elements lie in the flat form of a tensor of which they are a part.

    Args:
        start: number of the first.
        whole: elements of the tensor.
    """

    start: int
    whole: int


def add_noise(
    x: torch.Tensor,
    *,
    std: float,
    scale: float,
    key: bytes,
    step: int,
    index: int,
    threads: int | None = None,
    impl: str = "auto",
) -> NoiseSums:
    """Turn ``x`` into ``(x + std·N)·scale`` in place, N independent standard normals.

    ``fused`` gives the same bits on any CPU, with any compiler and number of threads. (key, step, index) must never be
    used for two tensors: the second would get the noise of the first. std and scale are rounded to float32.

    Args:
        x: any shape, float32, contiguous, at most 2^36 elements, without gradients of its own.
        std: of the noise, in units of ``x``: σ·C for a sum of gradients clipped to C. 0 leaves ``x·scale`` exactly.
        scale: what the noisy sum is multiplied by, such as 1 / expected batch.
        key: 32 secret bytes.
        step: of training, in ``[0, 2^63)``.
        index: of the tensor within the step, in ``[0, 2^32)``.
        threads: at most so many; default: as many as PyTorch uses. Of ``fused`` only.
        impl: see the module.

    Raises:
        BadInput: an argument is out of range, ``x`` has another dtype or layout, or ``impl`` cannot be had here.
    """
    noise = _Noise(std=std, scale=scale, key=key, step=operator.index(step), index=operator.index(index))
    return _add(x, Stretch(start=0, whole=x.numel()), noise, impl, threads)


def add_noise_to_part(
    x: torch.Tensor, where: Stretch, *, std: float, scale: float, key: bytes, step: int, index: int
) -> NoiseSums:
    """The same of a part of a tensor: it gets the noise that ``add_noise`` gives these elements of the whole.

    On CUDA, whose generator cannot be read in the middle, the noise of what precedes the part is drawn and let go of.

    Args:
        x: the part.
        where: it lies in the tensor of number ``index``.
        std, scale, key, step, index: see ``add_noise``.

    Raises:
        BadInput: see ``add_noise``; the part is not in the tensor.

    >>> whole, key = torch.zeros(1000), bytes(32)
    >>> _ = add_noise(whole, std=1.0, scale=1.0, key=key, step=0, index=3)
    >>> part = torch.zeros(300)
    >>> _ = add_noise_to_part(part, Stretch(start=400, whole=1000), std=1.0, scale=1.0, key=key, step=0, index=3)
    >>> torch.equal(part, whole[400:700])
    True
    """
    if where.start < 0 or where.start + x.numel() > where.whole or where.whole > _LARGEST:
        raise BadInput(
            f"noise on elements {where.start} to {where.start + x.numel()} of {where.whole}",
            "must be a part of a tensor of at most 2^36 elements",
            "Say where it lies.",
        )
    noise = _Noise(std=std, scale=scale, key=key, step=operator.index(step), index=operator.index(index))
    return _add(x, where, noise)


def _add(x: torch.Tensor, where: Stretch, noise: _Noise, impl: str = "auto", threads: int | None = None) -> NoiseSums:
    _check(x, noise.std, noise.scale, *noise.place, impl)
    if impl == "auto":
        impl = "torch" if x.device.type == "cuda" else "fused"
        if x.device.type == "cpu" and why_no_kernel() is not None:
            impl = "reference"
    if impl == "torch" and x.device.type != "cuda":
        raise BadInput('impl="torch"', "is for CUDA: elsewhere PyTorch seeds with 32 bits", 'Use impl="auto".')
    if impl == "fused" and x.device.type != "cpu":
        raise BadInput(f"noise on {x.device.type}", "has no fast kernel", 'Use impl="reference", or train on the CPU.')
    with torch.no_grad():
        if impl == "torch":
            generator = torch.Generator(device=x.device).manual_seed(_seed(*noise.place))
            return _by_torch(x, where, noise.std, noise.scale, generator)
        if impl == "reference":
            return _by_reference(x, where.start, noise)
        return _fused(x, where.start, noise, threads or torch.get_num_threads())


@functools.cache
def load_kernel() -> ctypes.CDLL:
    """The kernel, compiled on first use.

    Raises:
        BadInput: no compiler is found, it fails, or what it made gives wrong numbers.
    """
    return open_kernel(KERNEL)


@functools.cache
def why_no_kernel() -> str | None:
    """Why the kernel cannot be had here, found out and said once; None where it can."""
    try:
        load_kernel()
    except BadInput as error:
        reason = f"{error.given} {error.why}"
        console.print(
            f"{reason}: noise is drawn by the reference instead, the same numbers in about a hundred times the time "
            "(a second or two for ten million trained weights)",
            style="yellow",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        return reason
    return None


def _check(x: torch.Tensor, std: float, scale: float, key: bytes, step: int, index: int, impl: str) -> None:
    validate.one_of(IMPLS, impl=impl)
    validate.non_negative(std=std)
    if std and not 1e-30 <= std <= 1e30:
        raise BadInput(f"std={std!r}", "would be lost in float32", "Scale the gradients so that it is nearer to 1.")
    if not math.isfinite(scale):
        raise BadInput(f"scale={scale!r}", "must be finite", "Give 1 / expected batch.")
    if not isinstance(key, bytes) or len(key) != 32:
        raise BadInput("the noise key", "must be 32 bytes", "Draw it with secrets.token_bytes(32).")
    for name, value, bits in (("step", step, 63), ("index", index, 32)):
        if not 0 <= value < 1 << bits:
            raise BadInput(f"{name}={value!r}", f"must be in [0, 2^{bits})", "Count from 0.")
    if type(x) not in (torch.Tensor, torch.nn.Parameter):
        raise BadInput(f"noise on a {type(x).__name__}", "needs a plain tensor", "Give the local one.")
    if x.dtype != torch.float32:
        raise BadInput(f"noise on {x.dtype}", "must go into float32 sums", "Add it before the sums are rounded.")
    if not x.is_contiguous() or x.numel() > _LARGEST:
        raise BadInput(f"noise on {tuple(x.shape)}", "needs a contiguous tensor of at most 2^36 elements", "Copy it.")
    if x.requires_grad:
        raise BadInput("noise on a tensor that requires gradients", "would go unseen by autograd", "Detach it.")


# ---- fused ----


def _fused(x: torch.Tensor, start: int, noise: _Noise, threads: int) -> NoiseSums:
    sums, before_tile = np.zeros(3), min(-start % TILE, x.numel())
    flat = x.view(-1)
    add = load_kernel().reticent_add_noise
    rest = flat[before_tile:]
    tile = (start + before_tile) // TILE
    add(rest.data_ptr(), rest.numel(), noise.std, noise.scale, *noise.place, tile, sums.ctypes.data, threads)
    if before_tile:
        # The kernel makes whole tiles: one of zeros is the noise itself, to the bit.
        drawn, of_tile, part = torch.zeros(TILE), np.zeros(3), flat[:before_tile]
        add(drawn.data_ptr(), TILE, 1.0, 1.0, *noise.place, start // TILE, of_tile.ctypes.data, 1)
        mine = drawn[start % TILE :][:before_tile] * noise.std
        before, wide = part.double(), mine.double()
        part.add_(mine).mul_(noise.scale)
        sums += [float(value) for value in (before @ before, wide.sum(), wide @ wide)]
    return _sums(x, sums)


def _sums(x: torch.Tensor, sums: Doubles) -> NoiseSums:
    x_squared, noise, noise_squared = (float(value) for value in sums)
    return NoiseSums(n=x.numel(), x_squared=x_squared, noise=noise, noise_squared=noise_squared)


def _solves(library: ctypes.CDLL) -> bool:
    """A tile and a bit; with this key, step and index the first tile has a rare radius."""
    key, sums, solution = bytes(range(32)), np.zeros(3), np.ones(TILE + 5, dtype=np.float32)
    library.reticent_add_noise(solution.ctypes.data, len(solution), 2.0, 0.5, key, 4, 3, 0, sums.ctypes.data, 1)
    again, unused = np.ones(5, dtype=np.float32), np.zeros(3)
    library.reticent_add_noise(again.ctypes.data, len(again), 2.0, 0.5, key, 4, 3, 1, unused.ctypes.data, 1)
    drawn = normals(key, 4, 3, np.arange(2)).ravel()[: len(solution)]
    expected = (len(solution), 2 * drawn.sum(), 4 * (drawn**2).sum())
    right = np.allclose(solution, 0.5 + drawn, atol=1e-5) and np.allclose(sums, expected, rtol=1e-4, atol=1e-3)
    return right and np.array_equal(again, solution[TILE:])


KERNEL = Kernel(
    source=Path(__file__).with_name("noise.cpp"),
    name="the noise kernel",
    fix='Install a C++ compiler or set CXX, or add noise with impl="reference" (minutes for a large model).',
    functions={
        "reticent_add_noise": (
            *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_float),
            *(ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_int32),
        )
    },
    solves=_solves,
    # Nothing fused or reordered, so every machine draws the same bits; and sqrt need not set errno.
    flags=("-ffp-contract=off", "-fno-math-errno"),
)


# ---- reference ----


def chacha(state: Words, rounds: int = 20) -> Words:
    """ChaCha blocks (RFC 8439, 2.3): ``[..., 16]`` words of state to ``[..., 16]`` words of keystream."""
    x = list(np.moveaxis(state, -1, 0).copy())
    for _ in range(rounds // 2):
        for i in range(4):
            quarter_round(x, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter_round(x, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return np.stack(x, axis=-1) + state


def quarter_round(x: list[Words], a: int, b: int, c: int, d: int) -> None:
    """RFC 8439, 2.1, on the words of those numbers, in place."""
    for into, other, third, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        x[into] = x[into] + x[other]
        mixed = x[third] ^ x[into]
        x[third] = (mixed << np.uint32(bits)) | (mixed >> np.uint32(32 - bits))


def states(key: bytes, step: int, index: int | Words, counters: npt.NDArray[np.int64], *, refine: bool) -> Words:
    """``[..., 16]`` words of state for ``[...]`` block counters; the top bit of the nonce says which of two streams."""
    nonce = bytes(4) + (step | refine << 63).to_bytes(8, "little")
    out = np.empty((*counters.shape, 16), dtype=np.uint32)
    out[...] = np.frombuffer(b"expand 32-byte k" + key + bytes(4) + nonce, dtype="<u4")
    out[..., 12] = counters
    out[..., 13] = index
    return out


def normals(key: bytes, step: int, index: int | Words, tiles: npt.NDArray[np.int64]) -> Doubles:
    """``[tiles, 256]`` standard normals of the tiles of those numbers, of one tensor or of a tensor for each tile.

    Word w of block 16·t + l is at place 16·w + l of tile t. Words of the first half of a tile give radii, those 8 words
    further in the same block the angles.
    """
    blocks = LANES * tiles[:, None] + np.arange(LANES)
    index = index[:, None] if isinstance(index, np.ndarray) else index
    words = chacha(states(key, step, index, blocks, refine=False)).transpose(0, 2, 1)
    more = chacha(states(key, step, index, blocks, refine=True)).transpose(0, 2, 1)
    radius = radii(words[:, :8], more[:, 0::2], more[:, 1::2])
    cosine, sine = directions(words[:, 8:])
    return np.concatenate([radius * cosine, radius * sine], axis=1).reshape(len(tiles), TILE)


def radii(word: Words, high: Words, low: Words) -> Doubles:
    """√(-2 ln u) of uniforms u = (word + ½)/2^32, or, where ``word < RARE``, of (word + (high, low + ½)/2^64)/2^32."""
    below = np.where(word < RARE, (high + (low + 0.5) * 2.0**-32) * 2.0**-32, 0.5)
    u = (word + below) * 2.0**-32
    from_one = (0xFFFFFFFF - word + 0.5) * 2.0**-32
    return np.sqrt(-2 * np.where(word >> 31, np.log1p(-from_one), np.log(u)))


def directions(word: Words) -> tuple[Doubles, Doubles]:
    """Points of the unit circle: 30 bits of angle within ±45°, bit 30 swaps the coordinates, bit 31 turns the first."""
    turn = ((word << np.uint32(2)) | np.uint32(2)).view(np.int32) * (2.0**-31 * math.pi / 4)
    sine, cosine = np.sin(turn), np.cos(turn) * np.where(word >> 31, -1.0, 1.0)
    swap = (word >> 30 & 1).astype(bool)
    return np.where(swap, sine, cosine), np.where(swap, cosine, sine)


def _by_reference(x: torch.Tensor, start: int, noise: _Noise) -> NoiseSums:
    sums, flat = np.zeros(3), x.view(-1)
    std, scale = float(np.float32(noise.std)), float(np.float32(noise.scale))
    for first, tiles in _blocks(start, start + x.numel()):
        after = max(start - first, 0)
        drawn = std * normals(*noise.place, tiles).ravel()[after : start + x.numel() - first]
        part = flat[first + after - start :][: len(drawn)]
        before = part.double().cpu().numpy()
        sums += (before @ before, drawn.sum(), drawn @ drawn)
        part.copy_(torch.from_numpy((before + drawn) * scale))
    return _sums(x, sums)


def _blocks(start: int, stop: int) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """The first element of each run of tiles that these elements lie in, and the tiles."""
    count = -(-stop // TILE)
    for first in range(start // TILE, count, _AT_ONCE):
        yield first * TILE, np.arange(first, min(count, first + _AT_ONCE))


# ---- torch ----


def _seed(key: bytes, step: int, index: int) -> int:
    place = step.to_bytes(8, "little") + index.to_bytes(4, "little")
    return int.from_bytes(hashlib.blake2b(place, key=key, digest_size=8, person=b"reticent noise").digest(), "little")


def _by_torch(x: torch.Tensor, where: Stretch, std: float, scale: float, generator: torch.Generator) -> NoiseSums:
    sums = torch.zeros(3, dtype=torch.float64, device=x.device)
    flat, stop = x.view(-1), where.start + x.numel()
    for first in range(0, stop, _BLOCK):
        drawn = torch.zeros(min(_BLOCK, where.whole - first), device=x.device)  # in blocks of the whole, as they are
        once = torch.empty_like(drawn)
        for _ in range(4):
            drawn.add_(once.normal_(generator=generator))
        noise = drawn[max(where.start - first, 0) : stop - first].mul_(std / 2)
        part = flat[max(first - where.start, 0) :][: len(noise)]
        sums += torch.stack([value.sum(dtype=torch.float64) for value in (part.square(), noise, noise.square())])
        part.add_(noise).mul_(scale)
    return _sums(x, sums.cpu().numpy())
