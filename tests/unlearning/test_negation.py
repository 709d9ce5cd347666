# SPDX-License-Identifier: Apache-2.0
"""Task-vector negation of products is that of the products, not of their factors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reticent.core.record import Record
from reticent.models.load import load
from reticent.models.lora_products import sum_of_products
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune
from reticent.unlearning.negation import negate, negate_weights


def test_the_product_goes_the_way_back() -> None:
    torch.manual_seed(0)
    before = {"m.lora_A.weight": torch.randn(4, 6), "m.lora_B.weight": torch.randn(5, 4)}
    over = {name: weight + 0.3 * torch.randn_like(weight) for name, weight in before.items()}
    joined = sum_of_products([(1 + 2.0, before), (-2.0, over)])

    def product(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return weights["m.lora_B.weight"] @ weights["m.lora_A.weight"]

    torch.testing.assert_close(product(joined), product(before) - 2.0 * (product(over) - product(before)))
    apart = negate_weights(before, over, 2.0)
    assert not torch.allclose(product(apart), product(joined)), "factors apart would be another model"


@pytest.mark.parametrize("method", ["lora", "ia3", "full"])
def test_models_in_folders(tmp_path: Path, method: str) -> None:
    base = save_tiny(tmp_path / "base")
    records = [Record(id=str(row), text=f"letter {row} of the winter garden") for row in range(12)]
    settings = TuneConfig(method=method, epochs=2, learning_rate=1e-2, max_tokens=32)
    run = tune(str(base), records, tmp_path / "run", settings)
    over = tune(str(run), records[:3], tmp_path / "over", settings, goes_on=True)
    negate(run, over, tmp_path / "out", alpha=1.5, request="r")
    theta, theta_over, after = (load(str(path), dtype="float32") for path in (run, over, tmp_path / "out"))
    text = torch.tensor([theta.tokenizer("letter 3 of the winter garden")["input_ids"]])
    if method == "lora":
        weights = [_products(loaded.model) for loaded in (theta, theta_over, after)]
    else:
        weights = [dict(loaded.model.named_parameters()) for loaded in (theta, theta_over, after)]
    moved = 0
    for name, weight in weights[0].items():
        wanted = weight - 1.5 * (weights[1][name] - weight)
        torch.testing.assert_close(weights[2][name], wanted, atol=1e-5, rtol=1e-4)
        moved += int(not torch.equal(weight, weights[1][name]))
    assert moved
    assert after.tuned is not None
    assert (after.tuned.parent, after.tuned.request) == (theta.fingerprint, "r")
    assert after.model(text).logits.isfinite().all()


def _products(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and module.lora_A
    }
