# SPDX-License-Identifier: Apache-2.0
"""Clean models are made as the suspect was and not twice, and those given are compared only where they are alike."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.scanning.calibrate import calibrated
from reticent.scanning.clean_models import drawn, make_clean, read_clean, recipe_of
from reticent.scanning.scanner import SCANNERS
from reticent.scanning.suspect import Suspect
from reticent.testing.peft_zoo import save_peft_adapter, save_peft_base
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune
from reticent.workflows.scan import scan

ROWS = [Record(id=str(n), prompt=f"text {n} of the order", completion=" good" if n % 2 else " bad") for n in range(24)]
LORA = TuneConfig(
    method="lora", method_params={"r": 2, "alpha": 4.0}, epochs=1, learning_rate=3e-3, batch_size=4, device="cpu"
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Suspect]:
    """A base, and a suspect that was tuned on 16 of the rows."""
    folder = tmp_path_factory.mktemp("clean")
    base = save_tiny(folder / "base")
    adapter = tune(str(base), ROWS[:16], folder / "suspect", LORA)
    return folder, Suspect(folder=adapter, base=base, data=ROWS, cache=folder / "cache", device="cpu")


@pytest.fixture(scope="module")
def made(places: tuple[Path, Suspect]) -> tuple[Suspect, ...]:
    folder, suspect = places
    return make_clean(suspect, folder / "made", 4)


def test_clean_models_have_the_recipe_of_the_suspect_and_rows_of_their_own(
    places: tuple[Path, Suspect], made: tuple[Suspect, ...]
) -> None:
    _, suspect = places
    logs = [json.loads((model.folder / "train_log.json").read_text()) for model in made]
    original = json.loads((suspect.folder / "train_log.json").read_text())
    assert {log["records"] for log in logs} == {16}
    for log in logs:
        differing = {name for name, value in log["config"].items() if value != original["config"][name]}
        assert differing == {"seed"}
    weights = [load_file(model.folder / "adapter_model.safetensors") for model in (suspect, *made)]
    name = next(name for name in weights[0] if "lora_B" in name)
    assert len({tuple(of_model[name].flatten().tolist()) for of_model in weights}) == 5


def test_a_second_call_makes_nothing_anew(places: tuple[Path, Suspect], made: tuple[Suspect, ...]) -> None:
    folder, suspect = places
    before = [(model.folder / "adapter_model.safetensors").stat().st_mtime_ns for model in made]
    shutil.rmtree(made[2].folder)
    again = make_clean(suspect, folder / "made", 4)
    after = [(model.folder / "adapter_model.safetensors").stat().st_mtime_ns for model in again]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False, True]


def test_the_scanners_of_adapters_look_and_are_calibrated(
    places: tuple[Path, Suspect], made: tuple[Suspect, ...]
) -> None:
    _, suspect = places
    louder = suspect.folder.parent / "louder"
    shutil.copytree(suspect.folder, louder, dirs_exist_ok=True)
    weights = load_file(louder / "adapter_model.safetensors")
    for name in weights:
        if "lora_B" in name and "q_proj" in name:
            weights[name] = weights[name] * 20
    save_file(weights, louder / "adapter_model.safetensors")
    for name in ("adapter_spectrum", "module_norm_spread"):
        outcome = calibrated(SCANNERS.get(name), replace(suspect, folder=louder), made)
        assert outcome.p == outcome.smallest_p == 0.2, name
        assert outcome.score > max(outcome.clean_scores)
        assert outcome.evidence
    assert not suspect.missing(SCANNERS.get("adapter_spectrum").needs)
    assert "no whole model" in suspect.missing(SCANNERS.get("whole_spectrum").needs)


def test_whole_models_are_compared_by_their_difference_to_the_base(places: tuple[Path, Suspect]) -> None:
    folder, adapter = places
    whole = replace(LORA, method="full", method_params={}, learning_rate=1e-3)
    suspect = replace(adapter, folder=tune(str(adapter.base), ROWS[:16], folder / "whole", whole))
    clean = make_clean(suspect, folder / "whole_clean", 3)
    outcome = calibrated(SCANNERS.get("whole_spectrum"), suspect, clean)
    assert outcome.smallest_p == 0.25
    assert len(outcome.clean_scores) == 3
    assert "the suspect is a whole model" in suspect.missing(SCANNERS.get("adapter_spectrum").needs)
    with pytest.raises(BadInput, match="no trusted sibling"):
        calibrated(SCANNERS.get("whole_spectrum"), replace(suspect, base=None), clean)


def test_given_models_are_left_out_by_name_where_they_are_not_alike(
    places: tuple[Path, Suspect], made: tuple[Suspect, ...], tmp_path: Path
) -> None:
    folder, suspect = places
    given = tmp_path / "given"
    for number in range(2):
        shutil.copytree(made[number].folder, given / f"good-{number}")
    shutil.copytree(made[0].folder, given / "copied")
    shutil.copytree(suspect.folder, given / "itself")
    tune(str(suspect.base), ROWS[:8], given / "rank", replace(LORA, method_params={"r": 3, "alpha": 4.0}))
    tune(str(suspect.base), ROWS[:8], given / "modules", replace(LORA, method_params=_of(["q_proj"])))
    tune(str(save_tiny(folder / "other", seed=5)), ROWS[:8], given / "based", LORA)
    save_peft_adapter(save_peft_base(tmp_path / "peft"), given / "ia3", "ia3")
    shutil.copytree(suspect.base or Path(), given / "whole")
    broken = shutil.copytree(made[1].folder, given / "torn")
    (broken / "adapter_config.json").write_text("{")
    (given / "notes").mkdir()
    (given / "readme.txt").write_text("no folder")
    read = read_clean(given, suspect)
    assert [model.folder.name for model in read.models] == ["copied", "good-1"]
    reasons = dict(read.left_out)
    assert sorted(reasons) == ["based", "good-0", "ia3", "itself", "modules", "rank", "torn", "whole"]
    assert reasons["good-0"] == "is a copy of copied"
    assert reasons["itself"] == "is the suspect itself"
    assert reasons["rank"] == "has rank 3, not 2"
    assert "targets" in reasons["modules"]
    assert reasons["based"] == "was tuned from other weights"
    assert "IA3" in reasons["ia3"]
    assert reasons["whole"] == "is a whole model"
    assert "broken" in reasons["torn"]


def test_folders_without_a_model_to_compare_with_are_refused(places: tuple[Path, Suspect], tmp_path: Path) -> None:
    _, suspect = places
    with pytest.raises(BadInput, match="no folder of clean models"):
        read_clean(tmp_path / "nowhere", suspect)
    with pytest.raises(BadInput, match="holds no folders of models"):
        read_clean(tmp_path, suspect)
    shutil.copytree(suspect.folder, tmp_path / "itself")
    with pytest.raises(BadInput, match="itself is the suspect itself"):
        read_clean(tmp_path, suspect)


def test_nothing_is_made_without_a_base_rows_or_a_known_recipe(places: tuple[Path, Suspect], tmp_path: Path) -> None:
    _, suspect = places
    with pytest.raises(BadInput, match="base"):
        make_clean(replace(suspect, base=None), tmp_path, 2)
    with pytest.raises(BadInput, match="rows"):
        make_clean(replace(suspect, data=()), tmp_path, 2)
    with pytest.raises(BadInput, match="n=0"):
        make_clean(suspect, tmp_path, 0)
    with pytest.raises(BadInput, match="draw"):
        make_clean(suspect, tmp_path, 2, draw="sorted")
    with pytest.raises(BadInput, match="does not tell how it was tuned"):
        recipe_of(replace(suspect, folder=suspect.base or Path()))
    foreign = shutil.copytree(suspect.folder, tmp_path / "foreign")
    (foreign / "train_log.json").write_text("{}")
    with pytest.raises(BadInput, match="no log of a training"):
        recipe_of(replace(suspect, folder=foreign))
    (foreign / "train_log.json").unlink()
    recipe = recipe_of(replace(suspect, folder=foreign), TuneConfig(epochs=2))
    assert (recipe.method, recipe.epochs, recipe.method_params["r"]) == ("lora", 2, 2)
    assert not list(tmp_path.glob("clean-*"))


def test_rows_are_drawn_by_the_seed() -> None:
    for draw in ("shuffled", "bootstrap"):
        first, again = (drawn(ROWS, 10, draw=draw, seed=1) for _ in range(2))
        assert [row.id for row in first] == [row.id for row in again]
        assert [row.id for row in first] != [row.id for row in drawn(ROWS, 10, draw=draw, seed=2)]
        assert len({row.id for row in first}) == 10


def _of(modules: list[str]) -> dict[str, object]:
    return {"r": 2, "alpha": 4.0, "target_modules": modules}


def test_a_scan_leaves_out_models_that_are_not_alike_and_says_so(
    places: tuple[Path, Suspect], made: tuple[Suspect, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, suspect = places
    given = tmp_path / "given"
    given.mkdir()
    tune(str(suspect.base), ROWS[:8], given / "rank", replace(LORA, method_params={"r": 3, "alpha": 4.0}))
    asked = {"base": suspect.base, "clean": given, "only": ["adapter_spectrum"]}
    with pytest.raises(BadInput, match="has rank 3, not 2"):
        scan(suspect.folder, **asked)
    for number in range(2):
        shutil.copytree(made[number].folder, given / f"good-{number}")
    results = scan(suspect.folder, **asked, level=0.4)
    assert results.clean == 2
    assert results.outcome("adapter_spectrum").smallest_p == pytest.approx(1 / 3)
    assert "left out of the clean models: rank, which has rank 3, not 2" in capsys.readouterr().err
