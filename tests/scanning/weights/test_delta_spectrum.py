# SPDX-License-Identifier: Apache-2.0
"""Spectra of whole models: against the dense decomposition, in the memory of one matrix, and what is refused."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reticent.core.errors import BadInput
from reticent.scanning.weights.delta_spectrum import delta_spectra, largest_singular_values, matrix_spectrum
from reticent.testing.tiny import save_tiny

STATUS = Path("/proc/self/status")


def low_rank(out: int, wide: int, rank: int, noise: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(out, rank, generator=generator), torch.randn(rank, wide, generator=generator)
    return factors[0] @ factors[1] + noise * torch.randn(out, wide, generator=generator)


@pytest.mark.parametrize(("out", "wide"), [(300, 120), (120, 300), (200, 200)])
def test_the_largest_values_are_those_of_the_dense_decomposition(out: int, wide: int) -> None:
    matrix = low_rank(out, wide, rank=6, noise=0.05)
    truth = torch.linalg.svdvals(matrix.double())
    fast = largest_singular_values(matrix, 32)
    np.testing.assert_allclose(fast[:6], truth[:6], rtol=1e-6)
    np.testing.assert_allclose(fast, truth[:32], rtol=0.12)
    assert bool((fast <= truth[:32] * (1 + 1e-6)).all())  # a projection never lengthens


def test_a_flat_spectrum_is_found_within_some_per_cent_and_small_matrices_exactly() -> None:
    flat = torch.randn(400, 300, generator=torch.Generator().manual_seed(1))
    truth = torch.linalg.svdvals(flat.double())[:32]
    np.testing.assert_allclose(largest_singular_values(flat, 32), truth, rtol=0.12)
    small = torch.randn(30, 20)
    np.testing.assert_allclose(largest_singular_values(small, 32), torch.linalg.svdvals(small.double()), rtol=1e-9)


def test_norm_and_kurtosis_are_exact_and_the_seed_decides() -> None:
    matrix = low_rank(150, 90, rank=3, noise=0.5)
    spectrum = matrix_spectrum("h.0.mlp.c_fc", matrix)
    wide = matrix.double()
    assert spectrum.square == pytest.approx(float((wide**2).sum()), rel=1e-9)
    assert spectrum.fourth == pytest.approx(float((wide**4).sum()), rel=1e-9)
    assert np.array_equal(spectrum.singular, matrix_spectrum("h.0.mlp.c_fc", matrix).singular)


def test_models_are_compared_matrix_by_matrix(tmp_path: Path) -> None:
    suspect, base = save_tiny(tmp_path / "suspect", seed=1), save_tiny(tmp_path / "base", seed=0)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (suspect, base))
    spectra = {spectrum.module: spectrum for spectrum in delta_spectra(suspect, base)}
    assert set(spectra) == {name.removesuffix(".weight") for name, value in ours.items() if value.ndim > 1}
    for name, spectrum in spectra.items():
        delta = ours[f"{name}.weight"].double() - theirs[f"{name}.weight"].double()
        assert spectrum.sigma1 == pytest.approx(float(torch.linalg.svdvals(delta)[0]), rel=1e-5)
        assert spectrum.frobenius == pytest.approx(float(delta.norm()), rel=1e-5)
    same = list(delta_spectra(base, base))
    assert {spectrum.sigma1 for spectrum in same} == {0.0}


def test_shards_are_read_as_one_model(tmp_path: Path) -> None:
    suspect, base = save_tiny(tmp_path / "suspect", seed=1), save_tiny(tmp_path / "base", seed=0)
    whole = [spectrum.sigma1 for spectrum in delta_spectra(suspect, base)]
    weights = load_file(suspect / "model.safetensors")
    names = sorted(weights)
    (suspect / "model.safetensors").unlink()
    save_file({name: weights[name] for name in names[::2]}, suspect / "model-00001-of-00002.safetensors")
    save_file({name: weights[name] for name in names[1::2]}, suspect / "model-00002-of-00002.safetensors")
    assert [spectrum.sigma1 for spectrum in delta_spectra(suspect, base)] == whole


def test_other_models_are_refused_by_name(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    for name, other in {
        "tied": save_tiny(tmp_path / "untied", tied=False),
        "arch": save_tiny(tmp_path / "gpt2", arch="gpt2"),
    }.items():
        with pytest.raises(BadInput, match="no siblings"):
            list(delta_spectra(other, base))
        assert name
    with pytest.raises(BadInput, match="of shape"):
        list(delta_spectra(save_tiny(tmp_path / "wider", vocab_size=400), base))
    with pytest.raises(BadInput, match="holds no safetensors"):
        list(delta_spectra(tmp_path, base))
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = load_file(base / "model.safetensors")
    name = next(name for name, value in weights.items() if value.ndim == 2)
    save_file(weights | {name: torch.full_like(weights[name], torch.inf)}, broken / "model.safetensors")
    with pytest.raises(BadInput, match="no number"):
        list(delta_spectra(broken, base))
    (broken / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(BadInput, match="no whole safetensors"):
        list(delta_spectra(broken, base))


def memory() -> int:
    """Bytes of this process that no file backs."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not STATUS.exists(), reason="memory is read from /proc, which only Linux has")
def test_memory_is_that_of_one_matrix(tmp_path: Path) -> None:
    matrices, size = 24, 1 << 19  # 24 times 2 MiB, twice
    for folder, seed in (("suspect", 1), ("base", 0)):
        (tmp_path / folder).mkdir()
        generator = torch.Generator().manual_seed(seed)
        weights = {
            f"h.{n}.mlp.c_fc.weight": torch.randn(1024, size // 1024, generator=generator) for n in range(matrices)
        }
        save_file(weights, tmp_path / folder / "model.safetensors")
    del weights
    list(delta_spectra(tmp_path / "suspect", tmp_path / "base", largest=4))  # pools of threads and buffers exist
    peak, done = [memory()], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak.append(memory())
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert len(list(delta_spectra(tmp_path / "suspect", tmp_path / "base", largest=4))) == matrices
    finally:
        done.set()
        watcher.join()
    # Of 48 matrices that the two models hold; what an allocator keeps of earlier tests and gives back counts too.
    assert max(peak) - peak[0] < 16 * 4 * size
