# SPDX-License-Identifier: Apache-2.0
"""Trainings on a base that lies in 16 bits: the outcome of one in float32, to the last bit, or a refusal by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.held_weights import held_dtype
from reticent.models.load import load
from reticent.monitor.config import MonitorConfig
from reticent.privacy.spec import PrivacySpec
from reticent.testing.saved import same
from reticent.testing.tiny import tiny_model, tiny_tokenizer
from reticent.train import leading
from reticent.train.checkpoints import folder_for
from reticent.train.config import TuneConfig
from reticent.train.leading import led
from reticent.train.private.step_log import KEY
from reticent.train.trainer import LOG, tune
from reticent.workflows.tune import tune as run

RECORDS = [Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer {i}") for i in range(16)]
HELD_OUT = [Record(id=f"h{i}", text=f"order {i * 104729 % 1000} of the customer") for i in range(5)]
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "dropout": 0.2},
    "ia3": {},
    "adapter": {"reduction_factor": 4},
    "prompt": {"virtual_tokens": 3},
}
SECRET = hashlib.sha256(b"a key for tests").digest()


def saved(place: Path, *, narrow: bool, arch: Any = "gpt2") -> str:
    """A base whose numbers all fit into bfloat16, in files of that dtype or of float32."""
    model = tiny_model(arch).to(torch.bfloat16)
    (model if narrow else model.float()).save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """In bfloat16, with dropout, so that the random state matters."""
    return saved(tmp_path_factory.mktemp("narrow") / "base", narrow=True)


def config(method: str = "lora", **changes: Any) -> TuneConfig:
    usual = {"method_params": METHODS.get(method, {}), "learning_rate": 1e-3, "epochs": 2, "batch_size": 8}
    return TuneConfig(method=method, **(usual | changes))


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


class Look(TrainerCallback):  # type: ignore[misc]
    """Keeps the dtype that the base is held in, and dies at a step."""

    def __init__(self, dies_at: int = -1) -> None:
        self.dies_at, self.held = dies_at, ""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.held = held_dtype(kwargs["model"])
        if state.global_step == self.dies_at:
            raise Killed


@pytest.mark.parametrize("method", METHODS)
def test_the_outcome_is_that_of_a_base_in_float32(base: str, tmp_path: Path, method: str) -> None:
    looks = [Look(), Look()]
    plain = tune(base, RECORDS, tmp_path / "plain", config(method, base_dtype="float32"), callbacks=looks[:1])
    held = tune(base, RECORDS, tmp_path / "held", config(method), held_out=HELD_OUT, callbacks=looks[1:])
    assert [look.held for look in looks] == ["", "bfloat16"]
    assert same(plain, held)
    logs = [json.loads((out / LOG).read_text()) for out in (plain, held)]
    assert "base" not in logs[0]
    assert logs[1]["base"] == {"held_in": "bfloat16", "rounded": False}


def test_a_run_of_an_earlier_version_is_gone_on_with_to_the_same_bits(base: str, tmp_path: Path) -> None:
    """Its key is that of the defaults, and its checkpoint was made on a base in float32."""
    plain = tune(base, RECORDS, tmp_path / "plain", config(base_dtype="float32"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reticent.train.task.hold_for", lambda *_, **__: "float32")
        with pytest.raises(Killed):
            tune(base, RECORDS, tmp_path / "killed", config(), callbacks=[Look(dies_at=3)])
    look = Look()
    again = tune(base, RECORDS, tmp_path / "killed", config(), callbacks=[look])
    assert look.held == "bfloat16"
    assert same(plain, again)
    assert "base_dtype" not in config().on_record


def test_killed_and_called_again(base: str, tmp_path: Path) -> None:
    settings = config("adapter")  # whose checkpoints are of the whole model
    whole = tune(base, RECORDS, tmp_path / "whole", settings)
    with pytest.raises(Killed):
        tune(base, RECORDS, tmp_path / "killed", settings, callbacks=[Look(dies_at=3)])
    assert same(whole, tune(base, RECORDS, tmp_path / "killed", settings))


def test_a_base_in_float32_is_rounded_only_if_that_is_asked_for(tmp_path: Path, capsys: Any) -> None:
    """The twin: the same base, rounded beforehand and kept in float32."""
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    rounded = saved(tmp_path / "rounded", narrow=False, arch="llama")
    base, bits = str(tmp_path / "base"), {"method_params": {"r": 4}, "dtype": "float32"}
    twin = tune(rounded, RECORDS, tmp_path / "twin", config(**bits, base_dtype="float32"))
    assert "hold more digits" not in capsys.readouterr().err
    held = tune(base, RECORDS, tmp_path / "held", config(**bits, base_dtype="bfloat16"))
    assert "hold more digits" in "".join(capsys.readouterr()).replace("\n", " ")
    plain = tune(base, RECORDS, tmp_path / "plain", config(**bits))
    mine, theirs, exact = (load_file(out / "adapter_model.safetensors") for out in (held, twin, plain))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    far = sum(float((mine[name] - exact[name]).square().sum()) for name in mine) ** 0.5
    assert 0 < far < 0.05 * sum(float(tensor.square().sum()) for tensor in exact.values()) ** 0.5
    logs = [json.loads((out / LOG).read_text()) for out in (held, plain)]
    assert logs[0]["base"] == {"held_in": "bfloat16", "rounded": True}
    assert "base" not in logs[1]


def test_the_private_step_is_the_same(base: str, tmp_path: Path) -> None:
    outs = []
    for dtype in ("float32", "auto"):
        out = tmp_path / dtype
        folder_for(out).mkdir()
        (folder_for(out) / KEY).write_bytes(SECRET)
        settings = config("ia3", base_dtype=dtype, batch_size=8, epochs=1, max_tokens=64)
        outs.append(tune(base, RECORDS, out, settings, privacy=PrivacySpec(noise_multiplier=0.5, unit="record")))
    logs = [json.loads((out / LOG).read_text()) for out in outs]
    assert logs[1]["base"]["held_in"] == "bfloat16"
    assert all(check["passed"] for check in logs[1]["self_check"])
    assert same(*outs)


def test_two_processes(base: str, tmp_path: Path, in_ranks: Callable[..., list[int]], monkeypatch: Any) -> None:
    monkeypatch.setattr(leading, "FAREWELL", 30.0)
    settings = config("ia3", dtype="float32")
    calm = saved(tmp_path / "calm", narrow=True, arch="llama")  # no dropout
    one = tune(calm, RECORDS, tmp_path / "one", settings)
    two = tmp_path / "two"

    def work(_: int) -> int:
        led("test", lambda: settings, lambda: tune(calm, RECORDS, two, settings))
        return 0

    assert in_ranks(work) == [0, 0]
    mine, theirs = (load_file(out / "adapter_model.safetensors") for out in (one, two))
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in mine) <= 1e-6
    assert json.loads((two / LOG).read_text())["base"]["held_in"] == "bfloat16"


def test_the_manifest_says_it_and_the_monitor_looks_on(base: str, tmp_path: Path) -> None:
    watch = MonitorConfig(monitor=True, monitor_panel=4)
    users = [Record(id=r.id, text=r.text * 2, user=f"u{i % 8}") for i, r in enumerate(RECORDS)]
    made = run(users, base=base, out=tmp_path / "run", tune_config=config(epochs=1), monitor=watch)
    about = json.loads(made.manifest.read_text())["tune"]
    assert about["base_in_memory"] == {"held_in": "bfloat16", "rounded": False}
    assert "base_dtype" not in about["training"]
    plain = run(users, base=base, out=tmp_path / "plain", tune_config=config(epochs=1, base_dtype="float32"))
    assert json.loads(plain.manifest.read_text())["tune"]["training"]["base_dtype"] == "float32"
    assert same(made.model, plain.model)
    assert [path.name for path in made.root.glob("panel*")]


def test_going_on_from_an_adapter(base: str, tmp_path: Path) -> None:
    """As unlearning does."""
    first = tune(base, RECORDS, tmp_path / "first", config())
    outs = [
        tune(str(first), RECORDS[:6], tmp_path / dtype, config(base_dtype=dtype), goes_on=True, request="r")
        for dtype in ("float32", "auto")
    ]
    assert same(*outs)
    assert json.loads((outs[1] / LOG).read_text())["base"]["held_in"] == "bfloat16"
    assert held_dtype(load(str(first), dtype="float32").model) == ""


def test_a_base_whose_vocabulary_has_to_grow_is_not_held(base: str, tmp_path: Path) -> None:
    first = tune(base, RECORDS[:4], tmp_path / "first", config(epochs=1))
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<new {number}>" for number in range(tiny_model("gpt2").config.vocab_size)])
    tokenizer.save_pretrained(first)
    loaded = load(str(first), dtype="float32", hold="auto")
    assert held_dtype(loaded.model) == ""
    assert loaded.model.get_input_embeddings().weight.shape[0] == len(tokenizer)


def test_shards(base: str, tmp_path: Path) -> None:
    users = [Record(id=r.id, text=r.text, user=f"u{i}") for i, r in enumerate(RECORDS)]
    outs = [
        tune(base, users, tmp_path / dtype / "model", config(base_dtype=dtype, shards=2, epochs=1))
        for dtype in ("float32", "auto")
    ]
    assert same(*outs)
    assert json.loads((outs[1] / LOG).read_text())["base"]["held_in"] == "bfloat16"


@pytest.mark.parametrize("method", ["full", "head", "blocks", "bitfit", "prefix"])
def test_refusals(base: str, tmp_path: Path, method: str) -> None:
    with pytest.raises(BadInput, match=rf"base_dtype='bfloat16' with method='{method}'.*lora"):
        tune(base, RECORDS, tmp_path / "out", config(method, base_dtype="bfloat16"))
    with pytest.raises(BadInput, match=f"method='{method}'"):
        run(RECORDS, base=base, out=tmp_path / "run", tune_config=config(method, base_dtype="bfloat16"))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()


def test_what_trains_the_base_has_it_in_float32(base: str, tmp_path: Path) -> None:
    look = Look()
    tune(base, RECORDS, tmp_path / "out", config("bitfit", epochs=1), callbacks=[look])
    assert look.held == ""
    with pytest.raises(BadInput, match="base_dtype"):
        config(base_dtype="int8")
