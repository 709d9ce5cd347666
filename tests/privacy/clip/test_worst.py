# SPDX-License-Identifier: Apache-2.0
"""No unit adds more than the clip norm, whatever it holds and whatever it is with; the search would see if one did."""

from __future__ import annotations

import pytest
import torch

from reticent.privacy.clip import contribution
from reticent.testing.clip_worst import worst_of_model, worst_of_outer
from reticent.testing.tiny import tiny_tuned

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

MOST = 1.0005
DTYPES = (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 96, 4096, 512), (1, 96, 512, 64), (256, 8, 128, 64), (48, 32, 512, 256)])
def test_one_layer(dtype: torch.dtype, shape: tuple[int, int, int, int]) -> None:
    units, tokens, left, right = shape
    assert 0.9 < worst_of_outer(dtype=dtype, units=units, tokens=tokens, left=left, right=right, draws=8) <= MOST


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize(
    ("family", "tuning"), [("gpt2", "full"), ("llama", "full"), ("gemma2", "lora"), ("llama", "ia3")]
)
def test_models(family: str, tuning: str, autocast: torch.dtype | None) -> None:
    found = worst_of_model(tiny_tuned(family, tuning), autocast=autocast, tokens=(24,), company=(1, 16))
    assert 0.9 < found <= MOST


@pytest.mark.parametrize("clipping", ["per_layer", "automatic"])
def test_other_clippings(clipping: str) -> None:
    model = tiny_tuned("llama", "full")
    found = worst_of_model(model, autocast=torch.bfloat16, clipping=clipping, tokens=(24,), company=(1, 16))  # type: ignore[arg-type]
    assert 0.5 < found <= MOST


def test_products_that_are_rounded_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they would come out of a product of bfloat16 matrices."""
    right = contribution.tokens
    monkeypatch.setattr(contribution, "tokens", lambda one, other: right(one, other).bfloat16().float())
    assert worst_of_outer(dtype=torch.bfloat16, units=1, tokens=96, left=8192, right=512, draws=8) > 1.01


def test_sums_over_units_that_are_rounded_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounded(total: torch.Tensor, one: contribution.Outer, factors: list[float]) -> None:
        scaled = one.right * torch.tensor(factors)[:, None, None].to(one.right.dtype)
        total += one.left.flatten(0, 1).t() @ scaled.flatten(0, 1)

    monkeypatch.setattr(contribution, "_add_one_by_one", rounded)
    assert worst_of_outer(dtype=torch.bfloat16, units=256, tokens=8, left=128, right=64, draws=8) > 1.01
