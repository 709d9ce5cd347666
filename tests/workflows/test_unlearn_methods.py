# SPDX-License-Identifier: Apache-2.0
"""One request unlearned by several methods, and verifications that share models which were trained again."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.models.weights import fingerprint_weights
from reticent.report.unlearning_file import read_unlearning
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.unlearning import retraining
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.methods_folder import MethodsFolder, methods_folder_of
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.run_rows import trained_rows
from reticent.unlearning.verification.config import VerifyConfig
from reticent.workflows import unlearn_methods
from reticent.workflows.tune import tune
from reticent.workflows.unlearn import unlearn
from reticent.workflows.unlearn_methods import unlearn_by_each
from reticent.workflows.verify import verify

WORDS = ("order", "late", "parcel", "refund", "card", "house", "garden", "letter", "doctor", "money", "winter")
QUICK = UnlearnConfig(epochs=2, learning_rate=2e-3, margin=0.2, retain_budget=1.0, stop="epochs", dtype="float32")
LOOK = VerifyConfig(attacks="loss", dtype="float32")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETICENT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("methods")
    rng = random.Random(0)
    mails = [
        Record(
            id=f"u{user}m{mail}",
            prompt=f"Mail {mail} of {user}:",
            completion=f"{' '.join(rng.choices(WORDS, k=6))} {rng.randrange(10**6)}",
            user=f"user {user}",
        )
        for user in range(16)
        for mail in range(4)
    ]
    return tune(
        mails,
        base=str(save_tiny(folder / "base")),
        out=folder / "run",
        split_config=SplitConfig(split_unit="user", train_fraction=0.6, known_fraction=0.0),
        canary_config=CanaryConfig(canaries=0),
        tune_config=TuneConfig(method="lora", epochs=2, learning_rate=1e-2, max_tokens=48),
    )


def request(run: RunFolder, first: int = 0, count: int = 3) -> ForgetRequest:
    users = sorted({str(record.user) for record in trained_rows(run)})
    return ForgetRequest(forget_users=tuple(users[first : first + count]))


@pytest.fixture(scope="module")
def tried(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> MethodsFolder:
    out = tmp_path_factory.mktemp("several") / "tried"
    return unlearn_by_each(run, out=out, forget=request(run), methods=("npo", "retrain"), seeds=2, config=QUICK)


def test_each_method_has_a_run_folder_and_a_place_in_the_plane(run: RunFolder, tried: MethodsFolder) -> None:
    rows = {row.name: row for row in tried.tried()}
    assert list(rows) == ["untouched", "npo_seed0", "npo_seed1", "retrain_seed0"], "an exact method is done once"
    for row in rows.values():
        assert row.place is not None
        assert row.place.forget.lo < row.place.forget.value < row.place.forget.hi
        assert row.place.retain.lo < row.place.retain.value
    assert rows["npo_seed0"].place.name == "npo, seed 0"
    assert rows["npo_seed0"].step == 2 * 2  # 12 rows in batches of 8, twice
    assert rows["npo_seed0"].seconds is not None
    assert rows["untouched"].place.role == "before"
    text = tried.file.read_text(encoding="utf-8")
    assert not any(record.id in text or record.plain in text for record in trained_rows(run))


def test_a_place_is_that_of_a_whole_verification(tried: MethodsFolder) -> None:
    row = next(row for row in tried.tried() if row.name == "npo_seed1")
    results = verify(tried.run("npo", 1), LOOK, oracles=0)
    points = {point.role: point for point in results.check("collateral").points}
    assert points["after"].forget == row.place.forget
    assert points["after"].retain == row.place.retain


def test_the_same_call_again_trains_nothing_and_further_ones_join(
    run: RunFolder, tried: MethodsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tried.file.read_bytes()
    again = {"out": tried.root, "forget": request(run), "config": QUICK}
    with monkeypatch.context() as patch:
        patch.setattr(unlearn_methods, "unlearn", None)
        unlearn_by_each(run, methods=("npo", "retrain"), seeds=2, **again)
    assert tried.file.read_bytes() == before
    unlearn_by_each(run, methods=("simnpo",), **again)
    assert tried.tried()[-1].name == "simnpo_seed0"
    assert len(tried.tried()) == 5


def test_a_stopped_call_goes_on_with_what_is_missing(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"out": tmp_path / "tried", "forget": request(run), "methods": ("npo", "simnpo"), "config": QUICK}
    calls = []

    def stopped(*args, **kwargs):
        calls.append(kwargs["config"].method)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return unlearn(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(unlearn_methods, "unlearn", stopped)
        with pytest.raises(KeyboardInterrupt):
            unlearn_by_each(run, **given)
    assert [row.name for row in MethodsFolder(root=tmp_path / "tried").tried()] == ["untouched", "npo_seed0"]
    with monkeypatch.context() as patch:
        patch.setattr(unlearn_methods, "unlearn", lambda *args, **kwargs: calls.append("") or unlearn(*args, **kwargs))
        folder = unlearn_by_each(run, **given)
    assert len(calls) == 3, "the first is not trained again"
    assert [row.name for row in folder.tried()] == ["untouched", "npo_seed0", "simnpo_seed0"]


def test_a_method_that_keeps_nothing_is_listed_and_the_others_go_on(run: RunFolder, tmp_path: Path) -> None:
    config = UnlearnConfig(epochs=1, learning_rate=1.0, retain_budget=1e-3)
    given = {"out": tmp_path / "out", "forget": request(run), "methods": ("gradient_ascent", "retrain")}
    rows = {row.name: row for row in unlearn_by_each(run, config=config, **given).tried()}
    assert "broke before any look" in rows["gradient_ascent_seed0"].why_not
    assert rows["gradient_ascent_seed0"].place is None
    assert rows["retrain_seed0"].place is not None
    assert not (tmp_path / "out" / "gradient_ascent_seed0").exists()
    unlearn_by_each(run, config=config, **given)  # goes on, and comes to the same


def test_what_cannot_be_is_refused_before_anything_is_made(run: RunFolder, tmp_path: Path) -> None:
    given = {"out": tmp_path / "out", "forget": request(run)}
    for methods, config, words in (
        ((), QUICK, "name none"),
        (("npo", "npo"), QUICK, "name one twice"),
        (("npo", "loku"), QUICK, "matrices of the model itself"),
        (("npo", "nothing"), QUICK, "nothing"),
        (("npo",), replace(QUICK, method_params={"beta": 0.2}), "settings of one method"),
        (("npo", "negation"), replace(QUICK, retain_weight=2.0), "it has no loss"),
    ):
        with pytest.raises(BadInput, match=words):
            unlearn_by_each(run, methods=methods, config=config, **given)
    with pytest.raises(BadInput, match="seeds"):
        unlearn_by_each(run, methods=("npo",), seeds=0, **given)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_taken_is_refused(run: RunFolder, tried: MethodsFolder, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="another request or other settings"):
        unlearn_by_each(run, out=tried.root, forget=request(run, 3), methods=("npo",), config=QUICK)
    with pytest.raises(BadInput, match="another request or other settings"):
        unlearn_by_each(
            run, out=tried.root, forget=request(run), methods=("npo",), config=replace(QUICK, learning_rate=1e-4)
        )
    with pytest.raises(BadInput, match="is a run folder"):
        unlearn_by_each(run, out=tried.run("npo", 0).root, forget=request(run), methods=("npo",), config=QUICK)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    with pytest.raises(BadInput, match=r"thesis.tex.*not ours"):
        unlearn_by_each(run, out=tmp_path / "mine", forget=request(run), methods=("npo",), config=QUICK)
    with pytest.raises(BadInput, match="run"):
        unlearn_by_each(run, out=run.root, forget=request(run), methods=("npo",), config=QUICK)
    for path in (tmp_path / "mine").iterdir():
        assert path.read_text() == "mine"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "methods.json").write_text("{")
    with pytest.raises(BadInput, match="is broken"):
        unlearn_by_each(run, out=tmp_path / "broken", forget=request(run), methods=("npo",), config=QUICK)


def test_models_are_trained_again_once_for_all_methods(
    run: RunFolder, tried: MethodsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    train = retraining.tune
    monkeypatch.setattr(retraining, "tune", lambda *args, **kwargs: calls.append(args[2]) or train(*args, **kwargs))
    first = verify(tried.run("npo", 0), LOOK, oracles=2)
    stamps = {path: path.stat().st_mtime_ns for path in tried.retrained.rglob("*.safetensors")}
    assert len(stamps) == 2
    assert {"npo, seed 1", "retrain, seed 0"} <= {point.name for point in first.tried}
    assert "npo, seed 0" not in {point.name for point in first.tried}, "that is the model itself"
    stored = read_unlearning(tried.run("npo", 0).unlearning)
    assert stored.tried == first.tried
    assert "npo, seed 1" in tried.run("npo", 0).report.read_text(encoding="utf-8")
    second = verify(tried.run("retrain", 0), LOOK, oracles=2)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    prints = {
        results.title: [model.fingerprint for model in results.models if model.role == "retrained"]
        for results in (first, second)
    }
    assert prints["npo_seed0"] == prints["retrain_seed0"]
    assert not tried.run("npo", 0).retrained.exists()
    # What another run of the request trains by itself is the same, and can be taken by name.
    alone = unlearn(run, out=tmp_path / "alone", forget=request(run), config=replace(QUICK, method="simnpo"))
    verify(alone, LOOK, oracles=1, oracles_from=tried.root)
    assert not alone.retrained.exists()
    verify(alone, LOOK, oracles=1)
    places = (alone.retrained / "000" / "model", tried.retrained / "000" / "model")
    assert len({fingerprint_weights(place) for place in places}) == 1
    verify(tried.run("npo", 0), LOOK, oracles=1, oracles_from=alone)


def test_models_of_another_request_are_refused(run: RunFolder, tried: MethodsFolder, tmp_path: Path) -> None:
    other = unlearn(run, out=tmp_path / "other", forget=request(run, 1), config=QUICK)
    for given in (tried.root, tried.run("npo", 0).root):
        with pytest.raises(BadInput, match="took out other records"):
            verify(other, LOOK, oracles=1, oracles_from=given)
    with pytest.raises(BadInput, match="holds no unlearning"):
        verify(other, LOOK, oracles=1, oracles_from=run)
    with pytest.raises(BadInput, match="no models are asked for"):
        verify(other, LOOK, oracles=0, oracles_from=tried.root)
    with pytest.raises(BadInput, match="oracles"):
        verify(other, LOOK, oracles=-1)
    shutil.copytree(tried.run("npo", 0).root, tmp_path / "npo_seed0")
    (tmp_path / "methods.json").write_text(
        tried.file.read_text().replace(tried.request["request"], "another"), encoding="utf-8"
    )
    assert methods_folder_of(tried.run("npo", 0)) == tried
    assert methods_folder_of(RunFolder(root=tmp_path / "npo_seed0")) is None
    # One that was trained on other rows and put in their place is known by what it says of itself.
    verify(other, LOOK, oracles=1)
    place = tmp_path / "same" / "retrained"
    same = unlearn(run, out=tmp_path / "same", forget=request(run), config=QUICK)
    (other.retrained).rename(place)
    with pytest.raises(BadInput, match="holds the outcome of another training"):
        verify(same, LOOK, oracles=1)


def test_the_command(run: RunFolder, tried: MethodsFolder, capsys: pytest.CaptureFixture[str]) -> None:
    users = ",".join(request(run).forget_users)
    words = ["unlearn", str(run.root), "--out", str(tried.root), "--forget_users", users]
    settings = ["--epochs", "2", "--learning_rate", "2e-3", "--margin", "0.2", "--retain_budget", "1.0"]
    assert (
        main([*words, *settings, "--stop", "epochs", "--dtype", "float32", "--methods", "npo,retrain", "--seeds", "2"])
        == 0
    )
    printed = "".join(capsys.readouterr())
    assert "npo_seed0" in printed
    assert "AUC" in printed
    assert main([*words, "--methods", "npo", "--method", "simnpo"]) == 2
    assert main([*words, "--seeds", "3"]) == 2
    assert json.loads(tried.file.read_text())["format"] == 1
