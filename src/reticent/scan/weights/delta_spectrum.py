# SPDX-License-Identifier: Apache-2.0
"""Spectra of ``D = θ - θ*`` for whole models, matrix by matrix from disk: memory is that of the largest matrix.

The largest singular values come by randomised range finding with power iterations (Halko, Martinsson and Tropp,
arXiv:0909.4061, algorithms 4.4 and 5.1); the norm and the fourth moment are exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reticent.core.errors import BadInput
from reticent.scan.weights.spectrum import ModuleSpectrum

if TYPE_CHECKING:
    import torch

LARGEST = 32
"""Singular values that are read of each matrix. Shares and entropy are those among them."""
_OVERSAMPLING, _ITERATIONS = 8, 2
_CELLS = 1 << 20
"""Entries that are in float64 at a time."""


def delta_spectra(suspect: Path, base: Path, *, largest: int = LARGEST, seed: int = 0) -> Iterator[ModuleSpectrum]:
    """The spectrum of the difference of each weight matrix, by rising name.

    Vectors (biases, normalisations) are not looked at; a stack of matrices (experts) is read as one tall one.

    Args:
        suspect: folder of a whole model in safetensors.
        base: folder of its sibling, with the same names and shapes.
        largest: singular values that are read of each matrix.
        seed: of the random ranges.

    Raises:
        BadInput: a file is missing or broken, names or shapes differ, or numbers are not finite.

    Examples:
        >>> from reticent.testing.tiny import save_tiny
        >>> pair = save_tiny("suspect", seed=1), save_tiny("base", seed=0)
        >>> spectra = list(delta_spectra(*pair))
        >>> spectra[0].module, len(spectra[0].singular), spectra[0].shape[1]
        ('model.embed_tokens', 32, 32)
    """
    from safetensors import SafetensorError, safe_open

    try:
        with ExitStack() as stack:
            sides: list[dict[str, Any]] = []
            for folder in (suspect, base):
                files = [stack.enter_context(safe_open(path, framework="pt")) for path in _files(folder)]
                sides.append({name: file for file in files for name in file.keys()})  # noqa: SIM118
            _refuse_others(suspect, base, *sides)
            for name in sorted(sides[0]):
                if len(sides[0][name].get_slice(name).get_shape()) < 2:
                    continue
                delta = _difference(suspect, name, sides[0][name], sides[1][name])
                if delta is not None:
                    yield matrix_spectrum(name.removesuffix(".weight"), delta, largest=largest, seed=seed)
    except (SafetensorError, OSError) as error:
        given = f"{suspect} or its sibling {base}"
        raise BadInput(given, f"is no whole safetensors file ({error})", "Copy it again.") from error


def matrix_spectrum(module: str, delta: torch.Tensor, *, largest: int = LARGEST, seed: int = 0) -> ModuleSpectrum:
    """The spectrum of one matrix.

    Args:
        module: its name; together with the seed it decides what is drawn.
        delta: ``[out, in]`` float32.
        largest: singular values that are read.
        seed: of the random range.
    """
    square = fourth = 0.0
    rows = max(1, _CELLS // delta.shape[1])
    for at in range(0, len(delta), rows):
        squares = delta[at : at + rows].double().square_().flatten()
        square += float(squares.sum())
        fourth += float(squares @ squares)
    return ModuleSpectrum(
        module=module,
        shape=(int(delta.shape[0]), int(delta.shape[1])),
        singular=largest_singular_values(delta, largest, seed=_seed_of(module, seed)).numpy(),
        square=square,
        fourth=fourth,
    )


def largest_singular_values(matrix: torch.Tensor, count: int, *, seed: int = 0) -> torch.Tensor:
    """``[min(count, out, in)]`` float64, falling.

    Values that stand out are found to many digits; of a flat spectrum the last of them are some per cent too low.

    Args:
        matrix: ``[out, in]`` float32.
        count: how many.
        seed: of the range that is drawn.
    """
    import torch

    short = min(matrix.shape)
    if short <= count + _OVERSAMPLING:
        return torch.linalg.svdvals(matrix.double())[:count]
    generator = torch.Generator().manual_seed(seed)
    wide = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    basis = torch.linalg.qr(wide @ torch.randn(wide.shape[1], count + _OVERSAMPLING, generator=generator)).Q
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(wide.T @ basis).Q
        basis = torch.linalg.qr(wide @ basis).Q
    return torch.linalg.svdvals((basis.T @ wide).double())[:count]


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInput(str(folder), "holds no safetensors file", "Save the weights with save_pretrained().")
    return files


def _refuse_others(suspect: Path, base: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Refuse a sibling with other matrices: of another architecture, size or vocabulary."""
    for name in sorted(ours.keys() ^ theirs.keys()):
        lacking = base if name in ours else suspect
        raise BadInput(str(lacking), f"has no {name[:120]}, so the two are no siblings", "Give a sibling with --base.")
    for name in sorted(ours):
        shapes = [side[name].get_slice(name).get_shape() for side in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise BadInput(
                str(base),
                f"has {name[:120]} of shape {shapes[1]}, and the suspect of shape {shapes[0]}",
                "Give a sibling of the same size and vocabulary with --base.",
            )


def _difference(suspect: Path, name: str, ours: Any, theirs: Any) -> torch.Tensor | None:
    """``[out, in]`` float32; None where both hold the same whole numbers."""
    import torch

    mine, other = ours.get_tensor(name), theirs.get_tensor(name)
    if not (mine.is_floating_point() and other.is_floating_point()):
        if torch.equal(mine, other):
            return None
        raise BadInput(
            str(suspect), f"has {name[:120]} as whole numbers, which differ", "Give both models without quantisation."
        )
    delta: torch.Tensor = mine.float() - other.float()  # not in place: tensors may be views of the file in memory
    if not delta.isfinite().all():
        raise BadInput(str(suspect), f"differs from its sibling in {name[:120]} by what is no number", "Copy it again.")
    return delta.flatten(0, -2)


def _seed_of(module: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{module}".encode()).digest()[:7], "little")
