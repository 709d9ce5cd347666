# SPDX-License-Identifier: Apache-2.0
"""Hardened trainings as a whole: the defaults change nothing, each setting does what it says, and it can be resumed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from reticent.core.errors import BadInput
from reticent.core.record import Record, Span, fingerprint
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.privacy.spec import PrivacySpec
from reticent.testing.saved import same, weights
from reticent.testing.tiny import save_tiny
from reticent.train.batches import Corpus, encode_all
from reticent.train.config import TuneConfig
from reticent.train.diverged import Diverged
from reticent.train.hardening import HardenConfig
from reticent.train.identity import training_key
from reticent.train.objectives.as_text import read_objectives
from reticent.train.objectives.goldfish import Goldfish, left_out
from reticent.train.trainer import LOG, tune

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

RECORDS = [Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer") for i in range(20)]
HELD_OUT = [Record(id=f"h{i}", text=f"order {i * 104729 % 1000} of the customer") for i in range(5)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base"))


LATER = ("lr_scheduler_type", "warmup_steps", "shards", "base_dtype", "load_in", "gradient_checkpointing", "strategy")
"""Settings that earlier versions had not."""


def config(**changes: Any) -> TuneConfig:
    return TuneConfig(**({"learning_rate": 1e-2, "epochs": 1, "batch_size": 8, "dtype": "float32"} | changes))


def log(out: Path) -> dict[str, Any]:
    return json.loads((out / LOG).read_text())


def test_the_defaults_change_neither_a_bit_nor_the_key(base: str, tmp_path: Path) -> None:
    plain = tune(base, RECORDS, tmp_path / "plain", config())
    default = tune(base, RECORDS, tmp_path / "default", config(), objectives=HardenConfig().objectives)
    assert same(plain, default)
    assert log(plain)["key"] == log(default)["key"]
    settled = config().settled(1e-2)
    settings = asdict(replace(settled, resume=True, report_to="none"))
    for name in LATER:
        del settings[name]
    parts = ["base", fingerprint(RECORDS), fingerprint([]), settings]
    before = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    assert training_key("base", RECORDS, [], settled) == before


def test_the_key_of_flags_is_that_of_earlier_versions() -> None:
    """Written out: else no folder that was made with such flags could be gone on with."""
    marked = [replace(record, spans=(Span(start=0, end=5, kind="NUMBER"),)) for record in RECORDS]
    settled = config().settled(1e-2)
    settings = asdict(replace(settled, resume=True, report_to="none"))
    for name in LATER:
        del settings[name]
    spans, kinds = [[(0, 5)] for _ in marked], [["NUMBER"] for _ in marked]
    hard = {"goldfish": 4, "loss_floor": 2, "clip_batch": 0.0, "dropout": 0.1}
    told = {"contextual": "dpo", "dpo_beta": 0.2}
    parts: list[Any] = ["base", fingerprint(marked), fingerprint([]), settings]
    for given in ({"harden": hard}, {"contextual": told}):
        extra = {"spans": spans, "kinds": kinds} if "contextual" in given else {}
        key = hashlib.sha256(json.dumps([*parts, given | extra], sort_keys=True).encode()).hexdigest()
        assert training_key("base", marked, [], settled, None, read_objectives(given)) == key
    removed = {"contextual": {"contextual": "removal"}, "harden": {"goldfish": 4}}
    both = [{"harden": removed["harden"]}, {"contextual": removed["contextual"], "spans": spans, "kinds": kinds}]
    key = hashlib.sha256(json.dumps([*parts, *both], sort_keys=True).encode()).hexdigest()
    assert training_key("base", marked, [], settled, None, read_objectives(removed)) == key


@pytest.mark.parametrize(
    "setting",
    [
        {"goldfish": 2, "goldfish_context": 3},
        {"label_smoothing": 0.2},
        {"loss_floor": 4.0},
        {"clip_examples": 1e-2},
        {"clip_batch": 1e-3},
        {"dropout": 0.5},
    ],
)
def test_each_setting_changes_the_outcome_and_the_key(base: str, tmp_path: Path, setting: dict[str, Any]) -> None:
    settings = config(method="lora", method_params={"r": 4})
    plain = tune(base, RECORDS, tmp_path / "plain", settings)
    hard = tune(
        base, RECORDS, tmp_path / "hard", settings, objectives=HardenConfig(**setting).objectives, held_out=HELD_OUT
    )
    assert not same(plain, hard)
    assert log(plain)["key"] != log(hard)["key"]
    assert log(hard)["harden"][next(iter(setting))] == next(iter(setting.values()))
    with pytest.raises(BadInput, match="outcome of another training"):
        tune(base, RECORDS, hard, settings, held_out=HELD_OUT)


def test_a_tiny_floor_and_no_smoothing_train_like_the_plain_loss(base: str, tmp_path: Path) -> None:
    plain = weights(tune(base, RECORDS, tmp_path / "plain", config()))
    hard = weights(
        tune(base, RECORDS, tmp_path / "hard", config(), objectives=HardenConfig(loss_floor=1e-9).objectives)
    )
    assert all(torch.allclose(plain[name], hard[name], atol=1e-5) for name in plain)


def test_the_held_out_loss_stays_the_plain_one(base: str, tmp_path: Path) -> None:
    """One optimizer step at a learning rate of almost nothing: what is logged is the base's loss, whatever is on."""
    still = config(learning_rate=1e-12)
    logs = [
        log(tune(base, RECORDS, tmp_path / str(i), still, held_out=HELD_OUT, objectives=harden.objectives))
        for i, harden in enumerate([HardenConfig(), HardenConfig(goldfish=2, goldfish_context=3, label_smoothing=0.5)])
    ]
    found = [[entry["eval_loss"] for entry in one["history"] if "eval_loss" in entry] for one in logs]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_floor_keeps_the_training_loss_up(base: str, tmp_path: Path) -> None:
    few = RECORDS[:4]
    long = config(epochs=60, batch_size=4)
    plain = log(tune(base, few, tmp_path / "plain", long))["history"]
    hard = log(tune(base, few, tmp_path / "hard", long, objectives=HardenConfig(loss_floor=1.5).objectives))["history"]
    assert [entry["loss"] for entry in plain if "loss" in entry][-1] < 0.8
    assert [entry["loss"] for entry in hard if "loss" in entry][-1] >= 1.5


def test_goldfish_leaves_the_tokens_out_of_training_and_drops_records_with_nothing_left(base: str) -> None:
    loaded = load(base, dtype="float32")
    corpus = encode_all(RECORDS, loaded.tokenizer, 64)
    hard = Goldfish(k=2, context=3).corpus(corpus)
    assert hard.trained_tokens == pytest.approx(corpus.trained_tokens / 2, rel=0.3)
    for before, after in zip(corpus.encoded, hard.encoded, strict=True):
        assert (after.trained == before.trained & ~left_out(before.token_id, k=2, context=3)).all()
    only = encode(Record(id="1", prompt="aaaa", completion="b"), loaded.tokenizer)
    gone = replace(only, trained=only.trained & left_out(only.token_id, k=2, context=1))
    ready = Corpus(encoded=[gone], records=(0,), truncated=0, empty=0)
    assert Goldfish(k=2, context=1).corpus(ready).predicting.empty == 1


class Gradient(TrainerCallback):  # type: ignore[misc]
    """Keeps the gradient of the first step."""

    def __init__(self) -> None:
        self.seen: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, *args: Any, model: Any, **kwargs: Any) -> None:
        self.seen = self.seen or {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("clip", [0.05, 3.0, 1e6])
def test_clipped_examples_are_the_mean_of_gradients_clipped_one_by_one(base: str, tmp_path: Path, clip: float) -> None:
    gradient = Gradient()
    harden = HardenConfig(clip_examples=clip, clip_batch=0.0)
    few = RECORDS[:5]
    tune(base, few, tmp_path / "out", config(batch_size=5), objectives=harden.objectives, callbacks=[gradient])
    loaded = load(base, dtype="float32")
    loaded.model.train().requires_grad_(True)
    total = {name: torch.zeros_like(p) for name, p in loaded.model.named_parameters()}
    for record in few:
        ids = torch.tensor(encode(record, loaded.tokenizer, add_eos=True).token_id.astype(np.int64))[None]
        loaded.model.zero_grad()
        loaded.model(input_ids=ids, labels=ids).loss.backward()
        norm = torch.sqrt(sum((p.grad**2).sum() for p in loaded.model.parameters()))
        for name, p in loaded.model.named_parameters():
            total[name] += p.grad * min(1.0, clip / norm.item()) / len(few)
    assert gradient.seen.keys() == total.keys()
    for name, expected in total.items():
        assert torch.allclose(gradient.seen[name], expected, rtol=1e-4, atol=1e-7), name


def test_a_diverged_clipped_training_says_so(base: str, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="diverged"):
        tune(
            base,
            RECORDS,
            tmp_path / "out",
            config(learning_rate=1e30, warmup=0.0),
            objectives=HardenConfig(clip_examples=1.0).objectives,
        )


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches kill -9."""


class Kill(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 4:
            raise Killed


@pytest.mark.parametrize(
    "harden", [HardenConfig(goldfish=3, goldfish_context=4, loss_floor=2.0), HardenConfig(clip_examples=0.5)]
)
def test_killed_and_called_again_it_ends_with_the_same_weights(base: str, tmp_path: Path, harden: HardenConfig) -> None:
    twice = config(epochs=2)
    whole = tune(base, RECORDS, tmp_path / "whole", twice, objectives=harden.objectives)
    with pytest.raises(Killed):
        tune(base, RECORDS, tmp_path / "killed", twice, objectives=harden.objectives, callbacks=[Kill()])
    with pytest.raises(BadInput, match="unfinished training with other settings"):
        tune(base, RECORDS, tmp_path / "killed", twice)
    assert same(whole, tune(base, RECORDS, tmp_path / "killed", twice, objectives=harden.objectives))


def test_goldfish_goes_with_a_promise_and_a_floor_does_not(base: str, tmp_path: Path) -> None:
    privacy = PrivacySpec(noise_multiplier=1.0)
    out = tune(
        base,
        RECORDS,
        tmp_path / "out",
        config(batch_size=4),
        privacy=privacy,
        objectives=HardenConfig(goldfish=2, goldfish_context=3).objectives,
    )
    assert (out / "privacy.json").exists()
    with pytest.raises(BadInput, match="private training"):
        tune(
            base,
            RECORDS,
            tmp_path / "no",
            config(),
            privacy=privacy,
            objectives=HardenConfig(loss_floor=1.0).objectives,
        )
