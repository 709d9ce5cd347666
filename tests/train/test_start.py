# SPDX-License-Identifier: Apache-2.0
"""A training begins with a base, or goes on from a tuned model with what that model's own method trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.load import load
from reticent.models.tuned import read_tuned
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

RECORDS = [Record(id=str(row), text=f"letter {row} of the winter garden") for row in range(12)]
METHODS = {"lora": {"r": 4}, "ia3": {}, "prompt": {"virtual_tokens": 4}, "adapter": {}, "head": {}, "full": {}}


def settings(method: str) -> TuneConfig:
    return TuneConfig(
        method=method, method_params=METHODS[method], epochs=1, warmup=0, learning_rate=1e-2, max_tokens=32
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("start") / "base")


@pytest.mark.parametrize("method", METHODS)
def test_what_was_trained_is_trained_on(base: Path, tmp_path: Path, method: str) -> None:
    first = tune(str(base), RECORDS, tmp_path / "first", settings(method))
    second = tune(str(first), RECORDS[:4], tmp_path / "second", settings(method), goes_on=True, request="r")
    before, after = read_tuned(first), read_tuned(second)
    assert before is not None
    assert after is not None
    assert (after.method, after.base_fingerprint) == (before.method, before.base_fingerprint)
    assert (after.parent, after.request) == (load(str(first)).fingerprint, "r")
    weights = [load_file(next(iter(sorted(folder.glob("*.safetensors"))))) for folder in (first, second)]
    moved = {name for name, weight in weights[0].items() if not torch.equal(weight, weights[1][name])}
    assert weights[0].keys() == weights[1].keys()
    if method == "head":
        assert moved == {"lm_head.weight"}
    elif method != "full":
        assert moved == set(weights[0]) or method == "adapter"
    assert moved


def test_refusals(base: Path, tmp_path: Path) -> None:
    lora = tune(str(base), RECORDS, tmp_path / "lora", settings("lora"))
    with pytest.raises(BadInput, match="is an adapter, and only whole models are tuned"):
        tune(str(lora), RECORDS, tmp_path / "out", settings("lora"))
    with pytest.raises(BadInput, match=r"does not say which of its weights were trained"):
        tune(str(base), RECORDS, tmp_path / "out", settings("lora"), goes_on=True)
    private = PrivacySpec(epsilon=8.0)
    with pytest.raises(BadInput, match="what was trained before is in the model too"):
        tune(str(lora), RECORDS, tmp_path / "out", settings("lora"), goes_on=True, privacy=private)
    assert not (tmp_path / "out").exists()


def test_an_outcome_is_not_taken_for_that_of_another_request(base: Path, tmp_path: Path) -> None:
    first = tune(str(base), RECORDS, tmp_path / "first", settings("lora"))
    tune(str(first), RECORDS[:4], tmp_path / "second", settings("lora"), goes_on=True, request="a")
    with pytest.raises(BadInput, match="holds the outcome of another training"):
        tune(str(first), RECORDS[:4], tmp_path / "second", settings("lora"), goes_on=True, request="b")
