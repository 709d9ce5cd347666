# SPDX-License-Identifier: Apache-2.0
"""Trainings on a base in 4 or 8 bits: the outcome of one on the numbers that those bits stand for, or a refusal."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models import quantised
from reticent.models.computing_device import computing_device
from reticent.models.load import load
from reticent.models.quantised import quantised_in
from reticent.models.tuning.method import TUNINGS
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.choose import choose, made_up
from reticent.privacy.spec import PrivacySpec
from reticent.testing.clip_conformance import check_against_reference
from reticent.testing.saved import same, weights
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.train.checkpoints import folder_for
from reticent.train.config import TuneConfig
from reticent.train.private.step_log import KEY
from reticent.train.trainer import LOG, tune
from reticent.workflows.audit import audit
from reticent.workflows.tune import tune as run

RECORDS = [Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer {i}") for i in range(16)]
METHODS: Mapping[str, dict[str, Any]] = {"lora": {"r": 4}, "ia3": {}, "prompt": {"virtual_tokens": 3}}
SECRET = hashlib.sha256(b"a key for tests").digest()
CLIP = 0.02
needs_package = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install 'reticent[quant]'"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("bits") / "base"))


@pytest.fixture(scope="module")
def twin(base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The base with the numbers that its 4 bits stand for, in files of float32."""
    from bitsandbytes.functional import dequantize_4bit

    place = tmp_path_factory.mktemp("twin") / "base"
    few = dict(load(base, dtype="float32", device="cpu", hold="4bit").model.named_parameters())
    model = tiny_model()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            state = getattr(few[name], "quant_state", None)
            weight.copy_(few[name] if state is None else dequantize_4bit(few[name].data, state))
    assert not torch.equal(model.model.layers[0].mlp.up_proj.weight, tiny_model().model.layers[0].mlp.up_proj.weight)
    model.save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    return str(place)


def config(method: str = "lora", **changes: Any) -> TuneConfig:
    usual = {"method_params": METHODS.get(method, {}), "learning_rate": 1e-2, "epochs": 2, "batch_size": 8}
    return TuneConfig(method=method, **(usual | {"dtype": "float32"} | changes))


def apart(left: Path, right: Path) -> float:
    mine, theirs = weights(left), weights(right)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


# ---- the outcome -----------------------------------------------------------------------------------------------------


@needs_package
@pytest.mark.parametrize("method", METHODS)
def test_the_outcome_is_that_of_the_numbers_that_4_bits_stand_for(
    method: str, base: str, twin: str, tmp_path: Path
) -> None:
    few = tune(base, RECORDS, tmp_path / "few", config(method, load_in="4bit"))
    plain = tune(twin, RECORDS, tmp_path / "plain", config(method))
    other = tune(base, RECORDS, tmp_path / "other", config(method))
    assert apart(few, plain) <= 1e-6 < apart(few, other)
    assert json.loads((few / LOG).read_text())["base"] == {"held_in": "4bit", "rounded": True}
    settings = json.loads((few / "adapter_config.json").read_text())
    assert Path(few, settings["base_model_name_or_path"]).resolve() == Path(base).resolve()
    loaded = load(str(few), dtype="float32", device="cpu")
    assert (quantised_in(loaded.model), loaded.apart, loaded.tuned and loaded.tuned.base_in) == ("", "", "4bit")


@needs_package
def test_the_private_step_is_the_same(base: str, twin: str, tmp_path: Path) -> None:
    outs = []
    for name, model, bits in (("few", base, "4bit"), ("plain", twin, "")):
        out = tmp_path / name
        folder_for(out).mkdir()
        (folder_for(out) / KEY).write_bytes(SECRET)
        settings = config(load_in=bits, epochs=1, max_tokens=64)
        outs.append(tune(model, RECORDS, out, settings, privacy=PrivacySpec(noise_multiplier=0.5, unit="record")))
    log = json.loads((outs[0] / LOG).read_text())
    assert log["base"]["held_in"] == "4bit"
    assert all(check["passed"] for check in log["self_check"])
    assert apart(*outs) <= 1e-6


@needs_package
@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_records_are_those_of_each_alone(method: str, base: str) -> None:
    """By the clipper that is chosen, in one pass where there is a rule for every layer, and by plain autograd for one
    record after the other."""
    model = TUNINGS.get(method)(load(base, dtype="float32", device="cpu", hold="4bit").model, **METHODS[method])
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in trained:
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    batch = made_up(model)
    labels = batch.pop("labels")
    expected, norms = [torch.zeros_like(weight) for weight in trained], []
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        logits = model(input_ids=batch["input_ids"][row : row + 1, :length]).logits[0, -length:]
        loss = torch.nn.functional.cross_entropy(logits[:-1], labels[row, 1:length])
        gradients = torch.autograd.grad(loss, trained)
        norms.append(float(sum(gradient.square().sum() for gradient in gradients)) ** 0.5)
        for total, gradient in zip(expected, gradients, strict=True):
            total += gradient * min(1.0, CLIP / norms[-1])
    clipper = choose(model, clip_norm=CLIP, clipping="flat", autocast=None)
    assert isinstance(clipper, BookkeepingClipper) == (method != "ia3")
    with clipper.attached():
        found = clipper.accumulate(batch, labels, weight=torch.ones(len(labels)))
    assert any(norm > CLIP for norm in norms)
    torch.testing.assert_close(found.norm, torch.tensor(norms), rtol=1e-4, atol=0)
    sums = clipper.take()
    for weight, total in zip(trained, expected, strict=True):
        torch.testing.assert_close(sums[weight], total, rtol=1e-3, atol=1e-6)
    if method != "ia3":
        check_against_reference(model)


@needs_package
def test_a_base_in_16_bits_and_a_run_that_was_killed(tmp_path: Path) -> None:
    tiny_model("gpt2").to(torch.bfloat16).save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    base, settings = str(tmp_path / "base"), config(load_in="4bit", epochs=1)
    model = load(base, dtype="float32", device="cpu", hold="4bit").model
    assert {str(weight.dtype) for weight in model.parameters()} == {"torch.uint8", "torch.bfloat16", "torch.float32"}
    assert computing_device(model).type == "cpu"
    outs = [tune(base, RECORDS, tmp_path / name, settings) for name in ("one", "two")]
    assert same(*outs)


@needs_package
def test_a_run_says_it_and_its_audit_too(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = [Record(id=r.id, text=f"{r.text} {r.text}", user=f"u{i % 8}") for i, r in enumerate(RECORDS)]
    made = run(users, base=base, out=tmp_path / "run", tune_config=config(load_in="8bit", epochs=1))
    about = json.loads(made.manifest.read_text())["tune"]
    assert about["base_in_memory"] == {"held_in": "8bit", "rounded": True}
    assert about["training"]["load_in"] == "8bit"
    assert "lie in 8bit while it is trained on" in " ".join(capsys.readouterr().err.split())
    results = audit(made.root)
    assert "was trained on a base in 8bit; it is scored on the base" in " ".join(capsys.readouterr().err.split())
    assert results.provenance["models"]["base_in_training"] == "8bit"


# ---- refused ---------------------------------------------------------------------------------------------------------


@needs_package
def test_8_bits_are_not_private(base: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a record's gradient would depend on the others"):
        tune(base, RECORDS, tmp_path / "out", config(load_in="8bit"), privacy=PrivacySpec(noise_multiplier=1.0))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["full", "head", "blocks", "bitfit", "prefix", "adapter"])
def test_what_trains_or_keeps_the_base_is_refused(
    method: str, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "find_spec", lambda name: object())
    with pytest.raises(BadInput, match=rf"load_in='4bit' with method='{method}'.*ia3, lora, prompt"):
        tune(base, RECORDS, tmp_path / "out", config(method, load_in="4bit"))
    with pytest.raises(BadInput, match=f"method='{method}'"):
        run(RECORDS, base=base, out=tmp_path / "run", tune_config=config(method, load_in="4bit"))
    assert not list(tmp_path.iterdir())


def test_settings_that_do_not_go_together() -> None:
    for changes in ({"base_dtype": "bfloat16"}, {"base_dtype": "float32"}, {"shards": 2}, {"strategy": "fsdp"}):
        with pytest.raises(BadInput, match="load_in='4bit' with "):
            config(load_in="4bit", **changes)
    with pytest.raises(BadInput, match="load_in='2bit'"):
        config(load_in="2bit")
    assert "load_in" not in config().on_record


def test_without_the_package_nothing_is_begun(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "find_spec", lambda name: None)
    for start in (tune, run):
        where = {"out": tmp_path / "out"}
        with pytest.raises(BadInput, match=r"needs bitsandbytes, .*reticent\[quant\]"):
            if start is tune:
                tune(base, RECORDS, **where, config=config(load_in="4bit"))
            else:
                run(RECORDS, base=base, **where, tune_config=config(load_in="4bit"))
    assert not (tmp_path / "out").exists()


def test_the_package_is_not_imported_unless_it_is_asked_for(base: str, tmp_path: Path) -> None:
    if "bitsandbytes" in sys.modules:
        pytest.skip("another test imported it")
    tune(base, RECORDS[:4], tmp_path / "out", config(epochs=1))
    assert "bitsandbytes" not in sys.modules


@needs_package
def test_files_that_are_quantised_already_are_refused(base: str, tmp_path: Path) -> None:
    model = load(base, dtype="float32", device="cpu", hold="4bit").model
    model.save_pretrained(tmp_path / "few")
    tiny_tokenizer().save_pretrained(tmp_path / "few")
    with pytest.raises(BadInput, match="quantised"):
        load(str(tmp_path / "few"), dtype="float32", device="cpu", hold="4bit")


@needs_package
def test_a_look_changes_no_weight(base: str) -> None:
    """On CPUs with instructions for bfloat16 the package would pack them anew."""
    model = load(base, dtype="float32", device="cpu", hold="4bit").model
    text = torch.tensor([[5, 6, 7]])
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    with torch.no_grad():
        looked = model(input_ids=text).logits
    assert torch.equal(model.train()(input_ids=text).logits, looked)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
