# SPDX-License-Identifier: Apache-2.0
"""All implementations against float64, closed forms and edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.compiled import find_compiler
from reticent.core.errors import BadInput
from reticent.score import kernel
from reticent.score.token_stats import IMPLS, resolve_impl, token_stats

IMPL = [
    pytest.param("fused", marks=pytest.mark.skipif(find_compiler() is None, reason="no compiler")),
    "torch",
    "reference",
]
NAMES = ("logp", "rank", "mu", "sigma")


def exact(logits, gold):
    """float64, one row at a time, as the definitions read."""
    rows = []
    for row, mine in zip(logits.double().numpy(), gold, strict=True):
        logp = row - row.max() - math.log(np.exp(row - row.max()).sum())
        p = np.exp(logp)
        mu = float((p[p > 0] * logp[p > 0]).sum())
        sigma = math.sqrt(float((p[p > 0] * (logp[p > 0] - mu) ** 2).sum()))
        rows.append((logp[mine], sum(row > row[mine]), mu, sigma))
    return dict(zip(NAMES, np.array(rows, dtype=np.float64).reshape(-1, 4).T, strict=True))


def errors(found, truth):
    return {name: float(np.abs(getattr(found, name) - truth[name]).max(initial=0)) for name in NAMES}


def logits_of(rows, vocabulary, scale, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocabulary, generator=generator) * scale
    gold = torch.randint(vocabulary, (rows,), generator=generator).numpy()
    return logits.to(dtype), gold


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 9),
    st.sampled_from([1, 2, 15, 63, 64, 65, 300, 2048, 4096 + 70]),
    st.sampled_from([0.0, 0.3, 3.0, 30.0]),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.integers(0, 99),
)
@pytest.mark.parametrize("impl", IMPL)
def test_against_float64_no_worse_than_the_reference(impl, rows, vocabulary, scale, dtype, seed):
    logits, gold = logits_of(rows, vocabulary, scale, dtype, seed)
    truth = exact(logits, gold)
    allowed = errors(token_stats(logits, gold, impl="reference"), truth)
    for name, error in errors(token_stats(logits, gold, impl=impl), truth).items():
        assert error <= allowed[name] + 5e-6 * max(1, scale), name


@pytest.mark.parametrize("impl", IMPL)
def test_a_real_vocabulary(impl):
    logits, gold = logits_of(40, 49_152, 3.0, torch.bfloat16, 1)
    found = errors(token_stats(logits, gold, impl=impl), exact(logits, gold))
    assert found["rank"] == 0
    assert max(found.values()) < 5e-5


@pytest.mark.parametrize("impl", IMPL)
def test_uniform_and_certain(impl):
    uniform = token_stats(torch.full((1, 1000), -7.5), np.array([3]), impl=impl)
    assert uniform.logp[0] == pytest.approx(-math.log(1000), abs=1e-5)
    assert uniform.mu[0] == pytest.approx(-math.log(1000), abs=1e-5)
    assert uniform.sigma[0] == pytest.approx(0, abs=1e-5)
    assert uniform.rank[0] == 0
    sure = torch.zeros(2, 1000)
    sure[:, 5] = 500.0
    certain = token_stats(sure, np.array([5, 6]), impl=impl)
    np.testing.assert_allclose(certain.logp, [0, -500], atol=1e-4)
    np.testing.assert_allclose(certain.mu, 0, atol=1e-6)
    np.testing.assert_allclose(certain.sigma, 0, atol=1e-6)
    assert list(certain.rank) == [0, 1]


@pytest.mark.parametrize("impl", IMPL)
def test_impossible_tokens_and_nan(impl):
    logits = torch.zeros(3, 200)
    logits[0, 100:] = -math.inf
    logits[1, 7] = math.nan
    logits[2, 7] = math.inf
    found = token_stats(logits, np.array([3, 3, 3]), impl=impl)
    assert found.logp[0] == pytest.approx(-math.log(100), abs=1e-5)
    assert found.mu[0] == pytest.approx(-math.log(100), abs=1e-5)
    for column in (found.logp, found.mu, found.sigma):
        assert not np.isfinite(column[1:]).any() or column is found.logp
    assert not np.isfinite(found.logp[1:]).any()
    assert not np.isfinite(token_stats(logits, np.array([150, 3, 3]), impl=impl).logp[0])


@pytest.mark.parametrize("impl", IMPL)
def test_log_probabilities_are_never_positive(impl):
    logits, _ = logits_of(50, 4096, 8.0, torch.float32, 3)
    assert (token_stats(logits, logits.argmax(dim=1).numpy(), impl=impl).logp <= 0).all()


@pytest.mark.parametrize("impl", IMPL)
def test_rows_that_do_not_lie_next_to_each_other(impl):
    logits, gold = logits_of(6, 100, 2.0, torch.float32, 4)
    wide = torch.full((6, 130), 99.0)
    wide[:, :100] = logits
    across = logits.T.contiguous().T
    for view in (wide[:, :100], across):
        for name in NAMES:
            np.testing.assert_allclose(
                getattr(token_stats(view, gold, impl=impl), name),
                getattr(token_stats(logits, gold, impl=impl), name),
                atol=1e-6,
            )


@pytest.mark.skipif(find_compiler() is None, reason="no compiler")
@pytest.mark.parametrize("gold", [[-1, 0], [0, 100], [0]])
def test_the_kernel_reads_nowhere_else(gold):
    with pytest.raises(ValueError, match="gold must be"):
        token_stats(torch.zeros(2, 100), np.array(gold), impl="fused")


def test_auto_says_what_it_takes(monkeypatch, tmp_path):
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    kernel.load_kernel.cache_clear()
    try:
        impl, why = resolve_impl("auto", "cpu")
        assert impl == "torch"
        assert "needs a C++ compiler" in why
        with pytest.raises(BadInput, match="fused kernel: needs a C"):
            resolve_impl("fused", "cpu")
        with pytest.raises(BadInput, match="fused kernel"):
            token_stats(torch.zeros(1, 4), np.array([0]), impl="fused")
    finally:
        kernel.load_kernel.cache_clear()


def test_a_compiler_that_fails_is_reported(monkeypatch, tmp_path):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'no such luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", str(broken))
    kernel.load_kernel.cache_clear()
    try:
        with pytest.raises(BadInput, match="no such luck"):
            resolve_impl("fused", "cpu")
        assert not list(tmp_path.glob("kernels/*"))
    finally:
        kernel.load_kernel.cache_clear()


def test_choices_are_checked():
    with pytest.raises(BadInput, match="impl"):
        resolve_impl("fast", "cpu")
    with pytest.raises(BadInput, match="CPU only"):
        resolve_impl("fused", "meta")
    assert [resolve_impl(impl, "meta")[0] for impl in IMPLS if impl != "fused"] == ["torch", "torch", "reference"]
