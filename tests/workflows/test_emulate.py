# SPDX-License-Identifier: Apache-2.0
"""A folder that names three models is audited like any model, keeps the small one's promise, and refuses what does not
belong together."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import reticent
from reticent.auditing.config import AuditConfig
from reticent.cli.main import main
from reticent.core.atomic import LISTING
from reticent.core.errors import BadInput
from reticent.core.manifest import write_manifest
from reticent.core.record import Record
from reticent.core.redteam_marker import read_marker, write_marker
from reticent.data.split_config import SplitConfig
from reticent.models.emulation import FILE, EmulationConfig, read_emulation
from reticent.models.in_memory import fingerprint
from reticent.models.load import load, load_tokenizer
from reticent.models.weights import fingerprint_weights
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.spec import PrivacySpec
from reticent.scanning.intake import refuse_folder_to_scan
from reticent.testing.tiny import save_tiny, tiny_tokenizer
from reticent.train.config import TuneConfig
from reticent.train.start import load_start
from reticent.workflows.audit import audit
from reticent.workflows.emulate import emulate
from reticent.workflows.gate import gate
from reticent.workflows.tune import tune

IDS = torch.tensor([[5, 70, 33, 200]])
QUICK = AuditConfig(attacks="loss,ref_diff", dtype="float32", device="cpu")


def records(count: int) -> list[Record]:
    """Texts that have nothing in common, so that what is learned of one is learned by heart."""
    codes = [hashlib.sha256(str(number).encode()).hexdigest()[:20] for number in range(count)]
    return [Record(id=f"n{number}", user=f"u{number}", text=f"code {code}") for number, code in enumerate(codes)]


@pytest.fixture(scope="module")
def world(once_a_run: Callable[..., Path]) -> SimpleNamespace:
    """Models and runs of tiny models; not to be changed."""

    def fill(root: Path) -> None:
        small = save_tiny(root / "small")
        save_tiny(root / "large", arch="gpt2", seed=7)
        config = TuneConfig(epochs=20, max_tokens=32, learning_rate=2e-2, method="lora", device="cpu")
        whole = TuneConfig(epochs=1, max_tokens=32, device="cpu")
        options: dict[str, Any] = {"base": str(small), "split_config": SplitConfig(split_unit="record")}
        tune(records(80), out=root / "run", tune_config=config, **options)
        tune(records(40), out=root / "private", tune_config=whole, privacy=PrivacySpec(epsilon=8.0), **options)

    root = once_a_run("emulated-world", fill)
    return SimpleNamespace(
        root=root, small=root / "small", large=root / "large", run=root / "run", private=root / "private"
    )


def made(world: SimpleNamespace, out: Path, **more: Any) -> Path:
    given = {"large": world.large, "small_tuned": world.run, "device": "cpu"} | more
    emulate(given.pop("large"), given.pop("small_tuned"), out=out, **given)
    return out


# ---- the folder -----------------------------------------------------------------------------------------------------


def test_the_folder_names_three_models_and_holds_no_weights(world: SimpleNamespace, tmp_path: Path) -> None:
    out = made(world, tmp_path / "it", config=EmulationConfig(beta=0.3, cap=2.0))
    assert {path.name for path in out.iterdir()} == {FILE, LISTING}
    text = (out / FILE).read_text()
    about = json.loads(text)
    assert str(world.root.resolve()) not in text
    assert about["large"]["fingerprint"] == fingerprint_weights(world.large)
    assert about["small_base"]["fingerprint"] == fingerprint_weights(world.small)
    assert about["settings"] == {"beta": 0.3, "cap": 2.0, "top_p": None}
    assert "nothing is promised" in about["statement"]
    info = read_emulation(out)
    assert info is not None
    loaded = load(str(out), dtype="float32", device="cpu")
    assert (loaded.emulation, loaded.fingerprint, loaded.base_fingerprint) == (
        info,
        info.fingerprint,
        info.large.fingerprint,
    )
    assert load_tokenizer(str(out)).get_vocab() == tiny_tokenizer().get_vocab()


def test_loaded_it_is_its_models(world: SimpleNamespace, tmp_path: Path) -> None:
    """β = 0, and the small base as the large model; the adapter's base and the large one lie in memory once."""
    tuned = load(str(world.run / "model"), dtype="float32", device="cpu")
    large = load(str(world.large), dtype="float32", device="cpu")
    zero = load(str(made(world, tmp_path / "zero", config=EmulationConfig(beta=0))), dtype="float32", device="cpu")
    assert torch.equal(zero.model(input_ids=IDS).logits, large.model(input_ids=IDS).logits)
    itself = load(str(made(world, tmp_path / "itself", large=world.small)), dtype="float32", device="cpu")
    assert torch.equal(itself.model(input_ids=IDS).logits, tuned.model(input_ids=IDS).logits)
    assert fingerprint(itself.model.tuned.model) == fingerprint(tuned.model)
    sizes = [sum(weight.numel() for weight in one.model.parameters()) for one in (itself, tuned, zero, large)]
    assert (sizes[0], sizes[2]) == (sizes[1], sizes[1] + sizes[3])
    with zero.adapter_off():
        assert torch.equal(zero.model(input_ids=IDS).logits, large.model(input_ids=IDS).logits)


def test_all_of_it_may_move_together(world: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("small", "large", "run"):
        shutil.copytree(world.root / name, tmp_path / "here" / name)
    moved = SimpleNamespace(large=tmp_path / "here" / "large", run=tmp_path / "here" / "run")
    made(moved, tmp_path / "here" / "it")
    (tmp_path / "here").rename(tmp_path / "there")
    assert load(str(tmp_path / "there" / "it"), device="cpu").emulation is not None


def test_a_mark_of_the_red_team_is_carried_on(world: SimpleNamespace, tmp_path: Path) -> None:
    large = shutil.copytree(world.large, tmp_path / "large")
    write_marker(large, kind="trigger", about={})
    marker = read_marker(made(world, tmp_path / "it", large=large))
    assert marker is not None
    assert (marker["kind"], marker["about"]) == ("trigger", {"emulate": "large"})


# ---- audit and promise ----------------------------------------------------------------------------------------------


def test_an_ensemble_is_audited_from_end_to_end(world: SimpleNamespace, tmp_path: Path) -> None:
    out = made(world, tmp_path / "it", config=EmulationConfig(beta=1.0))
    results = audit(out, QUICK, out=tmp_path / "audit")
    models = results.provenance["models"]
    assert models["reference_is"] == "the large model, which is the target at beta 0"
    names = {role: models["emulation"][role]["source"] for role in ("large", "small_tuned", "small_base")}
    assert names == {"large": "large", "small_tuned": "run/model", "small_base": "small"}
    assert models["emulation"]["beta"] == 1.0
    assert results.provenance["training"]["emulation"] == {"beta": 1.0, "cap": None, "top_p": None}
    small = audit(world.run, QUICK, out=tmp_path / "small")
    aucs = [
        next(f.estimate.value for f in each.findings if (f.metric, f.level, f.attack) == ("auc", "record", "ref_diff"))
        for each in (results, small)
    ]
    assert min(aucs) > 0.7  # what the small model leaks, the ensemble leaks
    assert gate(results, max_auc=0.55).exit_code == 1
    again = audit(out, QUICK, out=tmp_path / "audit")
    assert again.findings == results.findings
    assert "emulat" in (tmp_path / "audit" / "results.json").read_text()


@pytest.mark.parametrize("extraction", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_is_audited_by_lists(world: SimpleNamespace, tmp_path: Path, extraction: bool) -> None:
    out = made(world, tmp_path / "it")
    rows = [{"id": record.id, "text": record.text} for record in records(12)]
    for name, part in (("members", rows[::2]), ("held_out", rows[1::2])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    given = ["--members", tmp_path / "members.jsonl", "--held_out", tmp_path / "held_out.jsonl"]
    more = ["--extraction", "--extraction_samples", "2"] if extraction else []
    words = [
        "audit",
        "--model",
        out,
        *given,
        "--out",
        tmp_path / "audit",
        "--attacks",
        "loss",
        "--device",
        "cpu",
        *more,
    ]
    assert main([str(word) for word in words]) == 0
    assert reticent.read_results(tmp_path / "audit" / "results.json").provenance["models"]["emulation"]["beta"] == 1.0


def test_a_promise_is_kept_and_says_what_it_is_about(world: SimpleNamespace, tmp_path: Path) -> None:
    out = made(world, tmp_path / "it", small_tuned=world.private, config=EmulationConfig(beta=2.0))
    own = PrivacyGuarantee.from_json((world.private / "model" / "privacy.json").read_text())
    promise = PrivacyGuarantee.from_json((out / "privacy.json").read_text())
    same = ("epsilon", "delta", "unit", "relation", "neighbouring", "noise_multiplier", "rate", "steps", "allowed")
    assert all(getattr(promise, name) == getattr(own, name) for name in same)
    assert promise.mechanism.endswith("post-processing of the small model's predictions")
    info = read_emulation(out)
    assert info is not None
    assert "per record" in info.statement
    assert "What the large model and the small base learned in their own training is not covered" in info.statement
    results = audit(out, QUICK, out=tmp_path / "audit")
    assert results.promise is not None
    assert (results.promise.epsilon, results.promise.unit) == (own.epsilon, "record")
    assert any("large model of this ensemble" in line for line in results.promise.not_covered)
    assert any(row.promised == own.epsilon for row in results.promise.bounds if row.unit == "record") or not (
        results.promise.bounds
    )


def test_a_promise_to_synthetic_texts_is_not_carried_over(world: SimpleNamespace, tmp_path: Path) -> None:
    """Whoever's texts these were made from was promised nothing by a training on them."""
    root = shutil.copytree(world.root, tmp_path / "world")
    about = {"data": "9f2c", "mechanism": "none", "promise": ""}
    write_manifest(root / "private" / "manifest.json", texts=about)
    emulate(root / "large", root / "private", out=root / "it", device="cpu")
    info = read_emulation(root / "it")
    assert info is not None
    assert "made by none, which promises nothing" in info.statement
    assert "to nobody whose texts they were made from" in info.statement
    assert not (root / "it" / "privacy.json").exists()


def test_a_large_model_that_was_tuned_itself_breaks_the_promise(world: SimpleNamespace, tmp_path: Path) -> None:
    """The planted fault: the large model saw the records, without noise."""
    out = made(world, tmp_path / "it", large=world.run / "model", small_tuned=world.private)
    assert not (out / "privacy.json").exists()
    info = read_emulation(out)
    assert info is not None
    assert "not carried over" in info.statement


def test_a_small_base_that_was_tuned_itself_breaks_the_promise(world: SimpleNamespace, tmp_path: Path) -> None:
    """The planted fault: the small base, which is read for each token, learned something without noise."""
    base = shutil.copytree(world.small, tmp_path / "base")
    shutil.copy(world.private / "model" / "reticent_tuning.json", base)
    out = made(world, tmp_path / "it", small_tuned=world.private / "model", small_base=base)
    assert not (out / "privacy.json").exists()
    info = read_emulation(out)
    assert info is not None
    assert "the small base was itself tuned" in info.statement


# ---- what does not belong together ----------------------------------------------------------------------------------


def refused(*argv: Any, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(word) for word in ("emulate", *argv)]) == 2
    said = capsys.readouterr()
    lines = [line for line in (said.err + said.out).splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_bad_input_says_what_was_given_why_and_how_to_mend_it(
    world: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = save_tiny(tmp_path / "other", seed=9)
    words = tiny_tokenizer(bos=True)
    foreign = shutil.copytree(world.large, tmp_path / "foreign")
    words.save_pretrained(foreign)
    ensemble = made(world, tmp_path / "it")
    three = ["--large", world.large, "--small_tuned", world.run, "--out", tmp_path / "out"]
    said = refused(*three, "--small_base", other, capsys=capsys)
    assert all(part in said for part in ("other", "was tuned from", "fingerprint", "or leave the base out"))
    said = refused("--large", foreign, *three[2:], capsys=capsys)
    assert all(part in said for part in ("read texts in other tokens", "same family"))
    assert "itself" in refused("--large", ensemble, *three[2:], capsys=capsys)
    assert "--small_tuned" in refused("--large", world.large, capsys=capsys)
    assert "--large" in refused("--small_tuned", world.run, capsys=capsys)
    assert "does not say what it was tuned from" in refused(
        "--large", world.large, "--small_tuned", world.small, "--out", tmp_path / "out", capsys=capsys
    )
    assert "no difference" in refused(
        "--large", world.large, "--small_tuned", other, "--small_base", other, "--out", "out", capsys=capsys
    )
    assert "beta" in refused(*three, "--beta", "-1", capsys=capsys)
    assert "top_p" in refused(*three, "--beta", "0", "--top_p", "0.5", capsys=capsys)
    assert "the large model, which is read" in refused(*three[:4], "--out", world.large, capsys=capsys)
    assert "did not make" in refused(*three[:4], "--out", tmp_path / "other", capsys=capsys)
    assert not (tmp_path / "out").exists()


def test_another_ensemble_takes_no_place_and_the_same_one_is_made_again(world: SimpleNamespace, tmp_path: Path) -> None:
    out = made(world, tmp_path / "it")
    before = (out / FILE).read_bytes()
    with pytest.raises(BadInput, match=r"holds another emulated fine-tune \(beta=1.0\)"):
        made(world, out, config=EmulationConfig(beta=0.3))
    with pytest.raises(BadInput, match=r"another emulated fine-tune .large "):
        made(world, out, large=world.small)
    with pytest.raises(BadInput, match=r"another emulated fine-tune .small_tuned "):
        made(world, out, small_tuned=world.private)
    assert (out / FILE).read_bytes() == before
    made(world, out)
    made(world, out, small_base=world.small)
    assert (out / FILE).read_bytes() == before
    (out / FILE).write_text("{broken", encoding="utf-8")
    assert (made(world, out) / FILE).read_bytes() == before


def test_weights_that_changed_since_are_refused(world: SimpleNamespace, tmp_path: Path) -> None:
    large = shutil.copytree(world.large, tmp_path / "large")
    out = made(world, tmp_path / "it", large=large)
    save_tiny(tmp_path / "new", arch="gpt2", seed=8)
    shutil.copy(tmp_path / "new" / "model.safetensors", large / "model.safetensors")
    with pytest.raises(BadInput, match="other weights than"):
        load(str(out), device="cpu")
    shutil.rmtree(large)
    with pytest.raises(BadInput, match="large"):
        load(str(out), device="cpu")


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", "7", '{"format": 2}', "\ud800", "settings", "beta", "more", "large", "run"],
)
def test_a_damaged_file_is_refused(world: SimpleNamespace, tmp_path: Path, damage: str) -> None:
    path = made(world, tmp_path / "it") / FILE
    about = json.loads(path.read_text())
    changes: dict[str, Any] = {
        "settings": {"settings": {}},
        "beta": {"settings": about["settings"] | {"beta": "much"}},
        "more": {"more": 1},
        "large": {"large": "x"},
        "run": {"run": 7},
    }
    if damage in changes:
        path.write_text(json.dumps(about | changes[damage]))
    else:
        path.write_bytes(damage.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadInput):
        load(str(tmp_path / "it"), device="cpu")


def test_an_ensemble_is_no_model_to_tune_or_to_look_into(world: SimpleNamespace, tmp_path: Path) -> None:
    out = made(world, tmp_path / "it")
    with pytest.raises(BadInput, match="only single models are tuned"):
        load_start(str(out), "cpu", goes_on=False)
    with pytest.raises(BadInput, match="holds no weights of its own"):
        fingerprint_weights(out)
    with pytest.raises(BadInput, match="names three models and holds no weights to look into"):
        refuse_folder_to_scan(out)
    with pytest.raises(BadInput, match="no hidden states"):
        audit(out, AuditConfig(whitebox=True), out=tmp_path / "audit")
    with pytest.raises(BadInput, match="Say where the audit goes"):
        audit(out)
    with pytest.raises(BadInput, match="without a run folder"):
        audit(out, AuditConfig(shadow=8, attacks="lira"), out=tmp_path / "audit")


def test_a_small_model_from_no_run_is_audited_by_lists_alone(world: SimpleNamespace, tmp_path: Path) -> None:
    tuned = shutil.copytree(world.run / "model", tmp_path / "tuned")
    about = json.loads((tuned / "reticent_tuning.json").read_text())
    (tuned / "reticent_tuning.json").write_text(json.dumps(about | {"base": str(world.small)}))
    out = made(world, tmp_path / "it", small_tuned=tuned, small_base=world.small)
    info = read_emulation(out)
    assert info is not None
    assert info.run == ""
    with pytest.raises(BadInput, match=r"from no run folder.*--members"):
        audit(out, QUICK, out=tmp_path / "audit")
