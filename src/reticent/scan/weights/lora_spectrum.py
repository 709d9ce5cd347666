# SPDX-License-Identifier: Apache-2.0
"""Spectra of a LoRA adapter's products ``D = s B A``, which are never formed.

``B = Q₁R₁`` and ``Aᵀ = Q₂R₂`` have orthonormal ``Q``, so the singular values of ``D`` are those of the r × r core
``s R₁R₂ᵀ``: ``O((out + in) r²)`` a module in place of ``O(out · in · min)``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from reticent.scan.weights.lora_factors import CONFIG, WEIGHTS, LoraFactors, lora_factors
from reticent.scan.weights.spectrum import ModuleSpectrum

if TYPE_CHECKING:
    import torch

_CELLS = 1 << 18
"""Entries of ``D`` that exist at a time where powers of them are summed: a megabyte, which stays in cache."""


def lora_spectra(folder: Path) -> list[ModuleSpectrum]:
    """The spectrum of each module that the adapter in ``folder`` changes, by rising name.

    Raises:
        BadInput: as `lora_factors.lora_factors`.

    Examples:
        >>> from reticent.testing.peft_zoo import save_peft_adapter, save_peft_base
        >>> folder = save_peft_adapter(save_peft_base(Path("base")), Path("adapter"), "lora")
        >>> [len(spectrum.singular) for spectrum in lora_spectra(folder)][:3]
        [4, 4, 4]
    """
    files = [file.stat() for file in (folder / CONFIG, folder / WEIGHTS) if file.is_file()]
    return list(_read_once(folder, tuple((file.st_size, file.st_mtime_ns) for file in files)))


@lru_cache(maxsize=512)
def _read_once(folder: Path, files: tuple[tuple[int, int], ...]) -> tuple[ModuleSpectrum, ...]:
    """The spectra, kept in memory for as long as no file changes: several scanners read them."""
    return tuple(product_spectrum(factors) for factors in lora_factors(folder))


def product_spectrum(factors: LoraFactors) -> ModuleSpectrum:
    """The spectrum of ``scale · b @ a``."""
    import torch

    left, right = (torch.linalg.qr(side.double(), mode="r").R for side in (factors.b, factors.a.T))
    singular = torch.linalg.svdvals(factors.scale * left @ right.T)
    return ModuleSpectrum(
        module=factors.module,
        shape=(int(factors.b.shape[0]), int(factors.a.shape[1])),
        singular=singular.numpy(),
        square=float(singular.square().sum()),
        fourth=factors.scale**4 * fourth_powers(factors.b, factors.a),
    )


def fourth_powers(b: torch.Tensor, a: torch.Tensor) -> float:
    """``Σ_ij (b a)_ij⁴`` by the cheaper of two exact ways, neither of which holds ``b a``.

    Either some rows of the product at a time, ``out · in · r`` steps; or, since ``(b_i·a_j)²`` is the inner product of
    the r (r + 1) / 2 products of pairs within ``b_i`` and within ``a_j``, the inner product of the two sums of squares
    of those, ``(out + in) (r (r + 1) / 2)²`` steps. The latter is for large matrices of low rank.

    Args:
        b: ``[out, r]``.
        a: ``[r, in]``.
    """
    out, rank = b.shape
    wide = a.shape[1]
    pairs = rank * (rank + 1) // 2
    if (out + wide) * pairs**2 < out * wide * rank:
        return fourth_powers_by_pairs(b, a)
    rows, total = max(1, _CELLS // wide), 0.0
    for at in range(0, out, rows):
        squares = (b[at : at + rows] @ a).square_().flatten()
        total += float(squares @ squares)
    return total


def fourth_powers_by_pairs(b: torch.Tensor, a: torch.Tensor) -> float:
    """The second way of `fourth_powers`."""
    return float((_pair_squares(b) * _pair_squares(a.T)).sum())


def _pair_squares(vectors: torch.Tensor) -> torch.Tensor:
    """``[P, P]``: ``Σ_i p_i p_iᵀ`` of the products ``p_i`` of pairs within each row of ``vectors [n, r]``."""
    import torch

    wide = vectors.double()
    first, second = torch.triu_indices(wide.shape[1], wide.shape[1])
    weight = 1 + (2**0.5 - 1) * (first != second).double()
    products = wide[:, first] * wide[:, second] * weight
    return products.T @ products
