# SPDX-License-Identifier: Apache-2.0
"""Noise: published ChaCha vectors, the kernel against the reference, edges, and statistics.

The keys are fixed, so every run does the same. Had a key been drawn at random, each statistical assertion on a right
generator would fail with probability ``ERROR`` (two-sided); there are about sixty, so all together with 6e-5.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reticent.core.compiled import find_compiler
from reticent.core.errors import BadInput
from reticent.privacy import noise
from reticent.privacy.noise import TILE, add_noise

ERROR = 1e-6
Z = stats.norm.isf(ERROR / 2)
KEY = bytes(range(32))
CHUNK = 256 * TILE
compiled = pytest.mark.skipif(find_compiler() is None, reason="no compiler")


def draw(n, *, key=KEY, step=0, index=0, impl="fused", threads=None):
    x = torch.zeros(n)
    add_noise(x, std=1.0, scale=1.0, key=key, step=step, index=index, impl=impl, threads=threads)
    return x.numpy()


# ---- the bits ----


def words(text):
    return np.array([int(word, 16) for word in text.split()], dtype=np.uint32)


def test_the_quarter_round_of_the_rfc():
    """RFC 8439, 2.1.1."""
    x = list(words("11111111 01020304 9b8d6f43 01234567")[:, None])
    noise.quarter_round(x, 0, 1, 2, 3)
    assert (np.concatenate(x) == words("ea2a92f4 cb1cf8ce 4581472e 5881c4bb")).all()


def test_the_block_of_the_rfc():
    """RFC 8439, 2.3.2: key 00 … 1f, counter 1, nonce 00:00:00:09:00:00:00:4a:00:00:00:00."""
    nonce = bytes.fromhex("00 00 00 09 00 00 00 4a 00 00 00 00")
    index, step = int.from_bytes(nonce[:4], "little"), int.from_bytes(nonce[4:], "little")
    state = noise.states(KEY, step, index, np.array([1]), refine=False)
    expected = """e4e7f110 15593bd1 1fdd0f50 c47120a3 c7f4d1c7 0368c033 9aaa2204 4e6cd4c3
                  466482d2 09aa9f07 05d7c214 a2028bd9 d19c12b5 b94e16de e883d0cb 4e3c50a2"""
    assert (noise.chacha(state)[0] == words(expected)).all()


@pytest.mark.parametrize(
    ("rounds", "start"),
    [
        (8, "3e00ef2f895f40d67f5bb8e81f09a5a1"),
        (12, "9bf49a6a0755f953811fce125f2683d5"),
        (20, "76b8e0ada0f13d90405d6ae55386bd28"),
    ],
)
def test_zero_key_blocks(rounds, start):
    """draft-strombergson-chacha-test-vectors-01, TC1, and RFC 8439, A.1."""
    state = noise.states(bytes(32), 0, 0, np.array([0]), refine=False)
    assert noise.chacha(state, rounds).astype("<u4").tobytes().hex().startswith(start)


def test_the_two_streams_and_all_nonces_differ():
    seen = {
        noise.states(KEY, step, index, np.array([counter]), refine=refine).tobytes()
        for step in (0, 1, 1 << 32, (1 << 63) - 1)
        for index in (0, 1, (1 << 32) - 1)
        for counter in (0, 1, (1 << 32) - 1)
        for refine in (False, True)
    }
    assert len(seen) == 4 * 3 * 3 * 2


# ---- from bits to normals ----


def test_the_radius_is_that_of_the_uniform_it_is_made_of():
    word = np.array(
        [noise.RARE, 1 << 28, (1 << 31) - 1, 1 << 31, 3 << 30, (1 << 32) - 2, (1 << 32) - 1], dtype=np.uint32
    )
    radius = noise.radii(word, np.zeros_like(word), np.zeros_like(word))
    np.testing.assert_allclose(np.expm1(-(radius**2) / 2), (word + 0.5) / 2**32 - 1, rtol=1e-12)
    assert (np.diff(radius) < 0).all()
    assert radius[-1] > 0


def test_the_tail_ends_beyond_eleven_and_has_no_gap():
    zero, top = np.uint32(0), np.uint32(0xFFFFFFFF)
    word = np.array([0, 0, 0, 1, noise.RARE - 1, noise.RARE], dtype=np.uint32)
    high = np.array([zero, zero, top, zero, top, zero])
    low = np.array([zero, top, top, zero, top, zero])
    radius = noise.radii(word, high, low)
    assert np.isfinite(radius).all()
    assert radius[0] == pytest.approx(math.sqrt(2 * 97 * math.log(2)))
    assert radius[0] > 11.5
    assert (np.diff(radius) <= 0).all()
    assert radius[2] == pytest.approx(radius[3], rel=1e-12)
    assert radius[4] == pytest.approx(radius[5], rel=1e-6)


def test_directions_cover_the_circle_evenly():
    word = np.arange(1 << 19, 1 << 32, 1 << 20, dtype=np.uint64).astype(np.uint32)
    one, other = noise.directions(word)
    np.testing.assert_allclose(one**2 + other**2, 1, rtol=1e-12)
    angle = np.sort(np.arctan2(other, one))
    gaps = np.diff(np.concatenate([angle, angle[:1] + 2 * math.pi]))
    np.testing.assert_allclose(gaps, 2 * math.pi / len(word), rtol=2e-3)


# ---- the kernel against the reference ----


@compiled
@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([0, 1, 15, 16, 17, 127, 255, 256, 257, 1023, 4096, 70_001]) | st.integers(0, 3000),
    st.sampled_from([0.0, 1e-6, 0.7, 3.0, 1e6]),
    st.sampled_from([1.0, 1 / 64, -3.0]),
    st.integers(0, (1 << 63) - 1),
    st.integers(0, (1 << 32) - 1),
    st.binary(min_size=32, max_size=32),
)
def test_the_kernel_equals_the_reference(n, std, scale, step, index, key):
    before = torch.randn(n, generator=torch.Generator().manual_seed(n))
    fast, slow = before.clone(), before.clone()
    sums = add_noise(fast, std=std, scale=scale, key=key, step=step, index=index)
    expected = add_noise(slow, std=std, scale=scale, key=key, step=step, index=index, impl="reference")
    np.testing.assert_allclose(fast.numpy(), slow.numpy(), rtol=1e-6, atol=1e-5 * abs(scale) * max(std, 1e-2))
    assert sums.n == expected.n == n
    np.testing.assert_allclose(sums.x_squared, expected.x_squared, rtol=1e-6)
    np.testing.assert_allclose(sums.noise_squared, expected.noise_squared, rtol=1e-5)
    np.testing.assert_allclose(sums.noise, expected.noise, atol=1e-6 * std * max(n, 1))


@compiled
def test_relative_error_of_the_kernel():
    """Of numbers near zero and of those with a rare radius (about 128) too."""
    n = 1 << 20
    fast, slow = draw(n, step=9).astype(np.float64), noise.normals(KEY, 9, 0, np.arange(n // TILE)).ravel()
    assert (np.hypot(*slow.reshape(-1, 2, TILE // 2).transpose(1, 0, 2)) > 4.08).sum() > 80
    assert (np.abs(fast - slow) / np.abs(slow)).max() < 2e-6


@compiled
def test_the_bits_are_those_of_every_machine():
    """Golden: any CPU, compiler, vector width. A change here breaks the resuming of runs begun before it."""
    x = torch.arange(70_001) / 65_536
    add_noise(x, std=1.3, scale=0.25, key=KEY, step=5, index=2)
    assert hashlib.sha256(x.numpy().astype("<f4").tobytes()).hexdigest()[:16] == "2b57267427b14534"


@compiled
@pytest.mark.parametrize("n", [CHUNK - 1, CHUNK + 1, 5 * CHUNK + 12_345])
def test_threads_change_nothing(n):
    before = torch.randn(n, generator=torch.Generator().manual_seed(1))
    results = []
    for threads in (1, 2, 3, 8):
        x = before.clone()
        sums = add_noise(x, std=0.5, scale=0.1, key=KEY, step=3, index=4, threads=threads)
        results.append((x.numpy().tobytes(), sums))
    assert results.count(results[0]) == 4


@compiled
@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 255, 256, 257, 1023, CHUNK, CHUNK + 17])
def test_a_number_depends_on_its_position_only_and_nothing_else_is_touched(n):
    whole = draw(CHUNK + 300, step=1)
    held = torch.full((n + 64,), 7.0)
    add_noise(held[32 : 32 + n].zero_(), std=1.0, scale=1.0, key=KEY, step=1, index=0)
    assert (held[:32] == 7).all()
    assert (held[32 + n :] == 7).all()
    assert (held[32 : 32 + n].numpy() == whole[:n]).all()


@compiled
def test_any_shape_and_a_parameter_without_gradient():
    flat = draw(6 * 50)
    for x in (torch.zeros(6, 50), torch.nn.Parameter(torch.zeros(2, 3, 50), requires_grad=False)):
        add_noise(x, std=1.0, scale=1.0, key=KEY, step=0, index=0)
        assert (x.flatten().numpy() == flat).all()
    scalar = torch.zeros(())
    add_noise(scalar, std=1.0, scale=1.0, key=KEY, step=0, index=0)
    assert scalar.item() == flat[0]


@pytest.mark.parametrize("impl", [pytest.param("fused", marks=compiled), "reference"])
def test_without_noise_only_the_scale_is_left(impl):
    x = torch.randn(1000, generator=torch.Generator().manual_seed(2))
    before = x.clone()
    sums = add_noise(x, std=0.0, scale=0.3, key=KEY, step=0, index=0, impl=impl)
    assert torch.equal(x, before * 0.3)
    assert (sums.noise, sums.noise_squared) == (0, 0)


@compiled
def test_sums_are_those_of_numpy():
    n = 2 * CHUNK + 77
    before = torch.randn(n, generator=torch.Generator().manual_seed(3)) * 5
    drawn = torch.zeros(n)
    add_noise(drawn, std=2.5, scale=1.0, key=KEY, step=8, index=1)
    sums = add_noise(before.clone(), std=2.5, scale=0.01, key=KEY, step=8, index=1)
    e = drawn.double().numpy()
    assert sums.n == n
    assert sums.x_squared == pytest.approx(float((before.double() ** 2).sum()), rel=1e-7)
    assert sums.noise == pytest.approx(e.sum(), abs=1e-3)
    assert sums.noise_squared == pytest.approx((e**2).sum(), rel=1e-7)


@compiled
def test_what_is_not_finite_stays_so_and_shows_in_the_sums():
    x = torch.zeros(300)
    x[[5, 299]] = torch.tensor([math.nan, math.inf])
    sums = add_noise(x, std=1.0, scale=1.0, key=KEY, step=0, index=0)
    assert list(torch.nonzero(~x.isfinite()).flatten()) == [5, 299]
    assert math.isnan(sums.x_squared)
    assert math.isfinite(sums.noise_squared)


# ---- statistics ----


@pytest.fixture(scope="module")
def sample():
    return draw(1 << 22, step=11).astype(np.float64)


@compiled
@pytest.mark.parametrize(
    ("power", "moment", "variance"), [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)]
)
def test_moments(sample, power, moment, variance):
    """Raw moments: mean, variance, skewness, kurtosis and the sixth, each with the variance of its summand."""
    assert abs(np.mean(sample**power) - moment) < Z * math.sqrt(variance / len(sample))


@compiled
def test_distribution(sample):
    """Kolmogorov-Smirnov against the normal, of either half of the tiles: the two coordinates of Box-Muller."""
    tiles = sample[: 1 << 20].reshape(-1, 2, TILE // 2)
    for part in (tiles[:, 0].ravel(), tiles[:, 1].ravel()):
        assert stats.kstest(part, "norm").pvalue > ERROR


@compiled
@pytest.mark.parametrize("lag", [1, 2, 4, 8, 15, 16, 17, 64, 112, 128, 144, 240, 256, 272, 4096, CHUNK])
def test_no_correlation_between_places(sample, lag):
    """Of the numbers and of their squares; 128 places are what separates a Box-Muller pair in its tile."""
    for values, spread in ((sample, 1.0), (sample**2 - 1, 2.0)):
        found = np.mean(values[lag:] * values[:-lag])
        assert abs(found) < Z * spread / math.sqrt(len(sample) - lag)


@compiled
def test_the_two_of_a_pair_are_independent(sample):
    """χ² on a 16 × 16 grid of cells of equal probability."""
    cells = np.floor(16 * stats.norm.cdf(sample.reshape(-1, 2, TILE // 2))).astype(int)
    counts = np.bincount((16 * cells[:, 0] + cells[:, 1]).ravel(), minlength=256)
    assert stats.chisquare(counts).pvalue > ERROR


@compiled
@pytest.mark.parametrize(
    "other",
    [
        {"step": 12},
        {"step": 11 + (1 << 32)},
        {"index": 1},
        {"key": bytes([KEY[0] ^ 1]) + KEY[1:]},
        {"key": KEY[:31] + b"\0"},
    ],
)
def test_no_correlation_between_steps_tensors_and_keys(sample, other):
    n = 1 << 20
    found = draw(n, **{"step": 11, **other}).astype(np.float64)
    assert not (found == sample[:n]).all()
    for power in (1, 2):
        a, b = (values**power - (power == 2) for values in (found, sample[:n]))
        assert abs(np.mean(a * b)) < Z * power / math.sqrt(n)


@compiled
def test_tails():
    """How many of 168 million lie beyond 4, 5 and 6 (about 10,600, 96 and 0.3), on each side; the kernel's largest are
    those of the reference."""
    n, runs, limits = 1 << 24, 10, (4.0, 5.0, 6.0)
    counts, x = np.zeros((2, 3)), torch.zeros(n)
    for index in range(runs):
        add_noise(x.zero_(), std=1.0, scale=1.0, key=KEY, step=21, index=index)
        at = torch.nonzero(x.abs() > limits[0]).flatten()
        far = x[at].numpy()
        counts += [[(side * far > limit).sum() for limit in limits] for side in (1, -1)]
        for place in at[np.abs(far) > 5].tolist():
            row = noise.normals(KEY, 21, index, np.array([place // TILE]))[0]
            assert float(x[place]) == pytest.approx(row[place % TILE], rel=2e-6)
    expected = n * runs * stats.norm.sf(limits)
    for side in counts:
        assert (stats.poisson.cdf(side, expected) > ERROR / 2).all()
        assert (stats.poisson.sf(side - 1, expected) > ERROR / 2).all()


# ---- torch, and what is refused ----


def test_the_torch_way_has_the_same_distribution_and_sums():
    n = (1 << 20) + 3
    before = torch.randn(n, generator=torch.Generator().manual_seed(4))
    x, again = before.clone(), before.clone()
    whole = noise.Stretch(start=0, whole=n)
    sums = noise._by_torch(x, whole, 2.0, 0.5, torch.Generator().manual_seed(5))
    assert noise._by_torch(again, whole, 2.0, 0.5, torch.Generator().manual_seed(5)) == sums
    assert torch.equal(x, again)
    e = x.double().numpy() / 0.5 - before.double().numpy()
    assert stats.kstest(e / 2, "norm").pvalue > ERROR
    assert sums.n == n
    assert sums.noise == pytest.approx(e.sum(), abs=0.5)
    assert sums.noise_squared == pytest.approx((e**2).sum(), rel=1e-5)
    assert sums.x_squared == pytest.approx(float((before.double() ** 2).sum()), rel=1e-5)


def test_seeds_of_the_torch_way_differ():
    seeds = {noise._seed(key, step, index) for key in (KEY, bytes(32)) for step in range(50) for index in range(50)}
    assert len(seeds) == 2 * 50 * 50
    assert all(0 <= seed < 1 << 64 for seed in seeds)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu():
    results = []
    for step in (1, 1, 2):
        x = torch.zeros(1 << 20, device="cuda")
        sums = add_noise(x, std=3.0, scale=0.5, key=KEY, step=step, index=0)
        results.append(x.cpu())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[1], results[2])
    assert stats.kstest(results[0].numpy() / 1.5, "norm").pvalue > ERROR
    assert sums.noise_squared == pytest.approx(9 * (1 << 20), rel=0.01)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"std": -1.0}, "std"),
        ({"std": math.nan}, "std"),
        ({"std": math.inf}, "std"),
        ({"std": 1e-40}, "lost in float32"),
        ({"scale": math.nan}, "scale"),
        ({"key": b"short"}, "32 bytes"),
        ({"key": "x" * 32}, "32 bytes"),
        ({"step": -1}, "step"),
        ({"step": 1 << 63}, "step"),
        ({"index": 1 << 32}, "index"),
        ({"index": -1}, "index"),
        ({"impl": "fast"}, "impl"),
        ({"impl": "torch"}, "32 bits"),
        ({"x": torch.zeros(4, dtype=torch.bfloat16)}, "float32"),
        ({"x": torch.zeros(4, dtype=torch.float64)}, "float32"),
        ({"x": torch.zeros(4, 4).T[1:]}, "contiguous"),
        ({"x": torch.zeros(1).expand(4)}, "contiguous"),
        ({"x": torch.zeros(4, requires_grad=True)}, "gradients"),
        ({"x": torch.zeros(4, device="meta")}, "meta"),
    ],
)
def test_refusals(changed, message):
    given = {"x": torch.zeros(4), "std": 1.0, "scale": 1.0, "key": KEY, "step": 0, "index": 0} | changed
    with pytest.raises(BadInput, match=message):
        add_noise(given.pop("x"), **given)


@pytest.fixture
def no_kernel(monkeypatch, tmp_path, request):
    """A machine without a compiler, with one that fails, or with one that makes nonsense."""
    compiler = tmp_path / "compiler"
    if request.param is not None:
        compiler.write_text(request.param)
        compiler.chmod(0o755)
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", str(compiler))
    noise.load_kernel.cache_clear()
    noise.why_no_kernel.cache_clear()
    yield
    noise.load_kernel.cache_clear()
    noise.why_no_kernel.cache_clear()


FAILS = '#!/bin/sh\necho "no such header" >&2\nexit 1\n'
NONSENSE = '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho nonsense > "$2"\n'


@pytest.mark.parametrize("no_kernel", [None, FAILS, NONSENSE], indirect=True)
def test_without_a_kernel_the_reference_draws_the_same_numbers_and_it_is_said_once(no_kernel, capsys):
    with pytest.raises(BadInput, match=r"noise kernel.*reference"):
        draw(4, impl="fused")
    first, again = draw(3000, step=2, impl="auto"), draw(3000, step=2, impl="auto")
    assert (first == draw(3000, step=2, impl="reference")).all()
    assert (first == again).all()
    assert capsys.readouterr().err.count("drawn by the reference") == 1


@compiled
def test_a_run_that_moves_between_machines_draws_the_same_noise_up_to_rounding():
    np.testing.assert_allclose(draw(3000, step=2, impl="auto"), draw(3000, step=2, impl="reference"), atol=1e-5)
