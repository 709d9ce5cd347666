# SPDX-License-Identifier: Apache-2.0
"""Blocks that are computed once more for the backward pass: the outcome is that of blocks that are not."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny, tiny_model
from reticent.train.checkpoints import folder_for
from reticent.train.config import TuneConfig
from reticent.train.private.step_log import KEY
from reticent.train.start import refuse_checkpointing
from reticent.train.trainer import tune

RECORDS = [
    Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer {i}", user=f"u{i % 8}")
    for i in range(16)
]
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"r": 4, "dropout": 0.2},
    "ia3": {},
    "adapter": {"reduction_factor": 4},
    "prompt": {"virtual_tokens": 3},
    "bitfit": {},
}
SECRET = hashlib.sha256(b"a key for tests").digest()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Has dropout, so that a block which is computed again must draw the same masks."""
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base", arch="gpt2"))


class Runs(TrainerCallback):  # type: ignore[misc]
    """Counts how often the first block runs."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        block = next(m for m in kwargs["model"].modules() if type(m).__name__ == "GPT2Attention")
        block.register_forward_pre_hook(self._add)

    def _add(self, *_: Any) -> None:
        self.count += 1


def config(method: str, **changes: Any) -> TuneConfig:
    usual = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 8, "dtype": "float32", "max_tokens": 64}
    return TuneConfig(method=method, method_params=METHODS.get(method, {}), **(usual | changes))


def apart(one: Path, other: Path) -> float:
    """The largest difference of a weight."""
    (mine,), (theirs,) = ([load_file(path) for path in out.glob("*.safetensors")] for out in (one, other))
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


@pytest.mark.parametrize("method", METHODS)
def test_the_outcome_is_the_same(base: str, tmp_path: Path, method: str) -> None:
    counts = [Runs(), Runs()]
    outs = [
        tune(base, RECORDS, tmp_path / str(again), config(method, gradient_checkpointing=again), callbacks=[runs])
        for again, runs in zip((False, True), counts, strict=True)
    ]
    assert apart(*outs) <= 1e-6
    assert counts[1].count == 2 * counts[0].count > 0


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("unit", ["record", "user"])
def test_no_unit_is_counted_twice_in_private_training(base: str, tmp_path: Path, method: str, unit: Any) -> None:
    """The self-check compares norms with plain autograd too, on a few units."""
    outs = []
    counts = [Runs(), Runs()]
    for again, runs in zip((False, True), counts, strict=True):
        out = tmp_path / str(again)
        folder_for(out).mkdir()
        (folder_for(out) / KEY).write_bytes(SECRET)
        settings = config(method, gradient_checkpointing=again, batch_size=4)
        spec = PrivacySpec(noise_multiplier=0.5, unit=unit)
        outs.append(tune(base, RECORDS, out, settings, privacy=spec, callbacks=[runs]))
    assert apart(*outs) <= 1e-6
    assert counts[1].count > counts[0].count


def test_refusals(base: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="gradient_checkpointing with method='prefix'"):
        tune(base, RECORDS, tmp_path / "out", config("prefix", gradient_checkpointing=True))
    assert not (tmp_path / "out").exists()
    model = tiny_model()
    model.supports_gradient_checkpointing = False
    with pytest.raises(BadInput, match="not to be had of models of type 'llama'"):
        refuse_checkpointing(config("lora", gradient_checkpointing=True), model, "lora")
    refuse_checkpointing(config("lora"), model, "lora")


def test_why_prefixes_are_refused() -> None:
    """Once the library keeps what precedes a text, the refusal can go."""
    from reticent.models.tuning.method import TUNINGS

    model = TUNINGS.get("prefix")(tiny_model("llama"), virtual_tokens=3).train()
    ids = torch.arange(20)[None]
    before = model(input_ids=ids, labels=ids).loss.item()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with pytest.raises((RuntimeError, AssertionError)):  # without its prefix, the mask is of another size
        assert model(input_ids=ids, labels=ids).loss.item() == before
