# SPDX-License-Identifier: Apache-2.0
"""ModuleSpectrum: the statistics of one module's change of weights, from its singular values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from reticent.scan.features import FeatureVector
from reticent.scan.weights.module_names import kind_of, layer_of, leaf_of

Floats = npt.NDArray[np.float64]
_LEAST = 1e-12
"""Statistics below it are read as this much, so that a module that nothing changed has a logarithm."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModuleSpectrum:
    """Singular values of a change ``D`` of one weight matrix, and the moments of its entries.

    Args:
        module: its path in the model.
        shape: ``(out, in)`` of ``D``.
        singular: ``[k]`` falling, at least 0. All that are not zero, or the largest of them (see `delta_spectrum`).
        square: sum of the squared entries of ``D``.
        fourth: sum of the fourth powers of the entries of ``D``.

    Examples:
        >>> flat = ModuleSpectrum(module="h.0.attn.q_proj", shape=(2, 2), singular=np.ones(2), square=2.0, fourth=2.0)
        >>> flat.top_share, flat.stable_rank, round(flat.entropy, 3)
        (0.5, 2.0, 1.0)
    """

    module: str
    shape: tuple[int, int]
    singular: Floats
    square: float
    fourth: float

    @property
    def kind(self) -> str:
        """Part of the block, one of `module_names.KINDS`."""
        return kind_of(self.module)

    @property
    def layer(self) -> int | None:
        """Number of the block; None outside of blocks."""
        return layer_of(self.module)

    @property
    def sigma1(self) -> float:
        """The largest singular value."""
        return float(self.singular[0]) if len(self.singular) else 0.0

    @property
    def top_share(self) -> float:
        """``σ₁ / Σσ``, from 1 / k to 1; 0 where nothing changed."""
        total = float(self.singular.sum())
        return self.sigma1 / total if total > 0 else 0.0

    @property
    def frobenius(self) -> float:
        """``‖D‖_F``."""
        return math.sqrt(self.square)

    @property
    def normed_frobenius(self) -> float:
        """``‖D‖_F / √(out · in)``, the root mean square of the entries: comparable between modules of all shapes."""
        return self.frobenius / math.sqrt(self.shape[0] * self.shape[1])

    @property
    def entropy(self) -> float:
        """``-Σ p log p / log k`` of ``p = σ / Σσ``: 1 where all directions weigh the same, 0 for a single one."""
        total = float(self.singular.sum())
        if total <= 0 or len(self.singular) < 2:
            return 0.0
        share = self.singular[self.singular > 0] / total
        return float(-(share * np.log(share)).sum() / math.log(len(self.singular)))

    @property
    def stable_rank(self) -> float:
        """``‖D‖_F² / σ₁²``, at least 1; 0 where nothing changed."""
        return self.square / self.sigma1**2 if self.sigma1 > 0 else 0.0

    @property
    def kurtosis(self) -> float:
        """``mean(d⁴) / mean(d²)²`` over the entries of ``D``, about zero and not about their mean: 3 for Gaussian
        entries; 0 where nothing changed."""
        return self.fourth * self.shape[0] * self.shape[1] / self.square**2 if self.square > 0 else 0.0


STATISTICS: dict[str, Callable[[ModuleSpectrum], float]] = {
    "sigma1": lambda spectrum: spectrum.sigma1,
    "top_share": lambda spectrum: spectrum.top_share,
    "frobenius": lambda spectrum: spectrum.normed_frobenius,
    "entropy": lambda spectrum: spectrum.entropy,
    "stable_rank": lambda spectrum: spectrum.stable_rank,
    "kurtosis": lambda spectrum: spectrum.kurtosis,
}
"""By name, of one module. ``frobenius`` is the dimension-normalised one."""


def spectra_features(spectra: Sequence[ModuleSpectrum]) -> FeatureVector:
    """Of each kind of module, the mean over layers of the logarithm of each statistic, and its standard deviation.

    Modules of one last name (``q_proj``, ``down_proj``, …) are one kind, as they have one shape. Logarithms make a
    feature a relative change, whatever its unit.

    Args:
        spectra: of all modules of one adapter or model.
    """
    names: list[str] = []
    values: list[float] = []
    for leaf, modules in groupby(sorted(spectra, key=_leaf), key=_leaf):
        group = list(modules)
        for name, statistic in STATISTICS.items():
            logs = np.log([max(statistic(spectrum), _LEAST) for spectrum in group])
            names += [f"{leaf}: {name}", f"{leaf}: spread of {name} over layers"]
            values += [float(logs.mean()), float(logs.std())]
    return FeatureVector(names=tuple(names), values=np.array(values))


def norm_spread(spectra: Sequence[ModuleSpectrum]) -> float:
    """Standard deviation over all modules of the dimension-normalised Frobenius norms (`normed_frobenius`)."""
    return float(np.std([spectrum.normed_frobenius for spectrum in spectra]))


def _leaf(spectrum: ModuleSpectrum) -> str:
    return leaf_of(spectrum.module)
