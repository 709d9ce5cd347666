# SPDX-License-Identifier: Apache-2.0
"""What follows from contributions, against gradients that are written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.privacy.clip.contribution import (
    Contribution,
    DenseGradient,
    Outer,
    RowGradients,
    add_clipped,
    inner,
    smaller_written_out,
    squares,
    write_out,
)

SIZES = st.integers(1, 5)


def draw(kind: str, units: int, d: int, p: int, *, seed: int, dtype: torch.dtype = torch.float32) -> Contribution:
    """A contribution to a ``[d, p]`` parameter, of a length of its own."""
    g = torch.Generator().manual_seed(seed)
    length = int(torch.randint(1, 7, (), generator=g))
    if kind == "outer":
        left, right = torch.randn(units, length, d, generator=g), torch.randn(units, length, p, generator=g)
        return Outer(left=left.to(dtype), right=right.to(dtype))
    if kind == "rows":
        index = torch.randint(0, d, (units, length), generator=g)
        return RowGradients(index=index, value=torch.randn(units, length, p, generator=g).to(dtype))
    return DenseGradient(gradient=torch.randn(units, d, p, generator=g).to(dtype))


def written(one: Contribution, d: int) -> torch.Tensor:
    """``[U, d, p]`` float64, the obvious way."""
    match one:
        case Outer():
            return torch.einsum("utd,utp->udp", one.left.double(), one.right.double())
        case RowGradients():
            hot = torch.nn.functional.one_hot(one.index, d).double()
            return torch.einsum("utd,utp->udp", hot, one.value.double())
        case DenseGradient():
            return one.gradient.double()


@settings(deadline=None, max_examples=60)
@given(
    kinds=st.lists(st.sampled_from(["outer", "rows", "dense"]), min_size=1, max_size=4),
    units=st.integers(0, 3),
    d=SIZES,
    p=SIZES,
    seed=st.integers(0, 10_000),
)
def test_norms_and_sums(kinds: list[str], units: int, d: int, p: int, seed: int) -> None:
    """Several contributions to one parameter, in any mixture of forms."""
    found = [draw(kind, units, d, p, seed=seed + i) for i, kind in enumerate(kinds)]
    total = sum(written(one, d) for one in found)
    assert isinstance(total, torch.Tensor)
    square = squares(found, [inner(one, one) for one in found])
    torch.testing.assert_close(square.double(), total.square().sum((1, 2)), rtol=1e-4, atol=1e-4)

    factor = torch.rand(units, generator=torch.Generator().manual_seed(seed))
    sums = torch.ones(d, p)
    for one in found:
        add_clipped(sums, one, factor)
    expected = 1 + (total * factor.double()[:, None, None]).sum(0)
    torch.testing.assert_close(sums.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("one", ["outer", "rows", "dense"])
@pytest.mark.parametrize("other", ["outer", "rows", "dense"])
def test_inner_products_in_bfloat16(one: str, other: str) -> None:
    """Each pair of forms; products are summed in float32."""
    a = draw(one, 3, 40, 30, seed=1, dtype=torch.bfloat16)
    b = draw(other, 3, 40, 30, seed=2, dtype=torch.bfloat16)
    found = inner(a, b)
    assert found.dtype == torch.float32
    wide_a, wide_b = written(a, 40), written(b, 40)
    scale = wide_a.norm(dim=(1, 2)) * wide_b.norm(dim=(1, 2))
    assert ((found - (wide_a * wide_b).sum((1, 2))).abs() <= 0.01 * scale).all()
    torch.testing.assert_close(inner(b, a), found, rtol=0.05, atol=float(0.01 * scale.max()))


@pytest.mark.parametrize("kind", ["outer", "rows", "dense"])
def test_sums_of_bfloat16(kind: str) -> None:
    one = draw(kind, 3, 40, 30, seed=1, dtype=torch.bfloat16)
    factor, sums = torch.tensor([0.5, 0.0, 0.3]), torch.zeros(40, 30)
    add_clipped(sums, one, factor)
    expected = (written(one, 40) * factor.double()[:, None, None]).sum(0)
    assert (sums - expected).norm() < 0.01 * expected.norm()


def test_written_out_is_what_it_stands_for() -> None:
    one = draw("outer", 3, 4, 5, seed=0)
    assert isinstance(one, Outer)
    torch.testing.assert_close(write_out(one).gradient.double(), written(one, 4), rtol=1e-5, atol=1e-6)


def test_what_is_smaller_is_written_out() -> None:
    def outer(length: int, d: int, p: int) -> Outer:
        return Outer(left=torch.empty(1, length, d), right=torch.empty(1, length, p))

    assert smaller_written_out(outer(128, 16, 576))
    assert not smaller_written_out(outer(128, 49152, 576))
    assert not smaller_written_out(outer(8, 576, 576))
