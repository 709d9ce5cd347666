# SPDX-License-Identifier: Apache-2.0
"""An unlearning or a verification that is stopped anywhere, and the same call again: what an undisturbed one gives,
byte for byte. `tests/robustness/test_kills.py` kills processes; here an exception stops them where it counts."""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from reticent.core.errors import BadInput, Unusable
from reticent.core.lock import locked
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.testing.random_mails import random_mails
from reticent.testing.tiny import save_tiny
from reticent.train import trainer
from reticent.train.checkpoints import MarkWhole
from reticent.train.config import TuneConfig
from reticent.unlearning import looks, negation, stopping
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.run_rows import trained_rows
from reticent.unlearning.verification.config import VerifyConfig
from reticent.workflows import unlearn as unlearning
from reticent.workflows.tune import tune
from reticent.workflows.unlearn import unlearn
from reticent.workflows.verify import verify

QUICK = UnlearnConfig(
    method="gradient_difference", epochs=3, learning_rate=2e-3, batch_size=4, margin=0.2, retain_budget=1.0
)
QUICK_LOOK = VerifyConfig(attacks="loss", dtype="float32")
TIMES = re.compile(r"^(created|finished|results_sha256|.*seconds?.*|train_loss|.*runtime|.*per_second|total_flos)$")
"""Fields that differ from run to run by what they are."""


class Stop(Exception):
    """Stops a call from within."""


@pytest.fixture(scope="module", autouse=True)
def no_early_end() -> Iterator[None]:
    """Tiny models look like unseen by chance: each unlearning here goes through all of its looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "_is_like", lambda *args, **kwargs: False)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A tuned run whose adapter has dropout, so that a training that is gone on with needs the same random numbers."""
    folder = tmp_path_factory.mktemp("resume")
    base = save_tiny(folder / "base")
    return tune(
        random_mails(users=16, mails_per_user=4, prompts=True),
        base=str(base),
        out=folder / "run",
        split_config=SplitConfig(split_unit="user", train_fraction=0.6, known_fraction=0.0),
        canary_config=CanaryConfig(canaries=0),
        tune_config=TuneConfig(
            method="lora", method_params={"dropout": 0.1}, epochs=2, learning_rate=1e-2, max_tokens=48
        ),
    )


@pytest.fixture(scope="module")
def forget(run: RunFolder) -> ForgetRequest:
    users = sorted({str(record.user) for record in trained_rows(run)})
    return ForgetRequest(forget_users=tuple(users[:3]))


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(entry) for key, entry in value.items() if not TIMES.match(key)}
    if isinstance(value, list):  # the library sums up times in a row of its own, unless training had ended before
        rows = [timeless(entry) for entry in value]
        return [row for row in rows if not (isinstance(row, dict) and row.keys() == {"epoch", "step"})]
    return value


def contents(folder: Path) -> dict[str, Any]:
    """Each file, hidden ones too, by what is in it; times left out, and pages by their name alone."""
    files: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file():
            data = path.read_bytes()
            files[name] = timeless(json.loads(data)) if name.endswith(".json") else data
            files[name] = None if name.endswith(".html") else files[name]
    return files


def differ(folder: Path, undisturbed: Path) -> list[str]:
    """Names of files that are not alike, or only in one of two folders."""
    here, there = contents(folder), contents(undisturbed)
    return sorted(name for name in here.keys() | there.keys() if here.get(name, "") != there.get(name, ""))


@dataclass
class Stops:
    """Stops the call that it is patched over at its ``at``-th call, before or after what that does."""

    at: int
    before: bool = False
    calls: int = 0

    def over(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stopped(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.before and self.calls == self.at:
                raise Stop
            result = function(*args, **kwargs)
            if not self.before and self.calls == self.at:
                raise Stop
            return result

        return stopped


IN_THIS_ORDER: tuple[tuple[Any, str, Stops], ...] = (
    (stopping, "write_text", Stops(at=1, before=True)),  # the first look is not written
    (stopping, "write_text", Stops(at=2, before=True)),  # a look after steps is not written
    (MarkWhole, "on_save", Stops(at=1, before=True)),  # a checkpoint is not whole
    (MarkWhole, "on_save", Stops(at=1)),
    (stopping, "write_text", Stops(at=1, before=True)),  # weights are written, their look is not
    (stopping, "write_text", Stops(at=1)),  # a look is written, its checkpoint is not
    (MarkWhole, "on_save", Stops(at=1, before=True)),
    (MarkWhole, "on_save", Stops(at=2)),
    (trainer, "save", Stops(at=1)),  # the model is not in its place
    (trainer, "close_folder", Stops(at=1, before=True)),  # checkpoints lie beside the finished model
    (unlearning, "write_manifest", Stops(at=1, before=True)),
)
"""One unlearning is stopped at all of these places, one after the other."""


@pytest.fixture(scope="module")
def undisturbed(
    run: RunFolder, forget: ForgetRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[UnlearnConfig], Path]:
    """The folder of an unlearning that nobody disturbs; do not change it."""
    folders: dict[str, Path] = {}

    def of(config: UnlearnConfig) -> Path:
        key = str(config)
        if key not in folders:
            # The folder has the name of all others, which their manifests hold.
            out = tmp_path_factory.mktemp("undisturbed") / "without"
            folders[key] = unlearn(run, out=out, forget=forget, config=config).root
        return folders[key]

    return of


def stopped(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, stops: Stops, call: Callable[[], Any]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, replace(stops).over(getattr(owner, name)))
        with pytest.raises(Stop):
            call()


def no_history(files: list[str]) -> list[str]:
    """Without the log of a training: the library's mean loss of an epoch begins anew with each call."""
    return [name for name in files if name != "model/train_log.json"]


@pytest.mark.parametrize("every", [pytest.param(None, marks=pytest.mark.slow), 2], ids=["epochs", "steps"])
def test_an_unlearning_that_is_stopped_goes_on_to_the_same_weights(
    run: RunFolder,
    forget: ForgetRequest,
    undisturbed: Callable[[UnlearnConfig], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int | None,
) -> None:
    config = replace(QUICK, every=every)
    out = tmp_path / "without"

    def call() -> RunFolder:
        return unlearn(run, out=out, forget=forget, config=config)

    for owner, name, stops in IN_THIS_ORDER:
        stopped(monkeypatch, owner, name, stops, call)
    call()
    files = differ(out, undisturbed(config))
    assert (no_history(files) if every else files) == []
    assert len(json.loads((out / "looks.json").read_text())) > 3


def test_the_same_call_again_changes_nothing(
    run: RunFolder, forget: ForgetRequest, undisturbed: Callable[[UnlearnConfig], Path]
) -> None:
    folder = undisturbed(QUICK)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    unlearn(run, out=folder, forget=forget, config=QUICK)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.fixture(scope="module")
def unfinished(run: RunFolder, forget: ForgetRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an unlearning that was stopped after its second checkpoint; copy it."""
    out = tmp_path_factory.mktemp("unfinished") / "without"
    with pytest.MonkeyPatch.context() as patch:
        stopped(patch, MarkWhole, "on_save", Stops(at=2), lambda: unlearn(run, out=out, forget=forget, config=QUICK))
    return out


@pytest.mark.parametrize("lost", ["looks.json", "first look", "weights"])
def test_an_unlearning_whose_looks_are_lost_is_not_gone_on_with(
    run: RunFolder, forget: ForgetRequest, unfinished: Path, tmp_path: Path, lost: str
) -> None:
    """A step that is gone on with is no beginning: its retain loss must not become what the budget is counted from."""
    out = shutil.copytree(unfinished, tmp_path / "without")
    looks = out / "looks.json"
    if lost == "looks.json":
        looks.unlink()
    else:
        rows = json.loads(looks.read_text())
        rows[2]["in_budget"] = False  # so that the weights of the look before are needed
        looks.write_text(json.dumps(rows if lost == "weights" else rows[1:]))
    for path in (out / ".model.training").glob("weights_at_*"):
        path.unlink()
    with pytest.raises(BadInput, match="is missing or not whole"):
        unlearn(run, out=out, forget=forget, config=QUICK)
    assert list((out / ".model.training").glob("checkpoint-*"))
    with pytest.raises(BadInput, match="did not end"):
        verify(out, QUICK_LOOK, oracles=0)


def test_a_negation_that_is_stopped_leaves_nothing_behind(
    run: RunFolder, forget: ForgetRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = UnlearnConfig(method="negation", epochs=2, learning_rate=1e-3, batch_size=4)
    clean = unlearn(run, out=tmp_path / "clean" / "without", forget=forget, config=config)
    out = tmp_path / "work" / "without"

    def call(settings: UnlearnConfig = config) -> RunFolder:
        return unlearn(run, out=out, forget=forget, config=settings)

    stopped(monkeypatch, MarkWhole, "on_save", Stops(at=1, before=True), lambda: call(replace(config, seed=1)))
    assert not out.exists()  # nothing came of it, so another unlearning may be made here
    for owner, name, stops in (
        (MarkWhole, "on_save", Stops(at=1)),
        (trainer, "close_folder", Stops(at=1, before=True)),
        (negation, "negate", Stops(at=1)),
        (unlearning, "write_manifest", Stops(at=1, before=True)),
    ):
        stopped(monkeypatch, owner, name, stops, call)
    (out / "overfitted").mkdir()
    (out / "overfitted" / "left").write_text("by a call that was killed while it took this away")
    call()
    assert differ(out, clean.root) == []


def test_a_verification_that_is_stopped_gives_the_same_results(
    undisturbed: Callable[[UnlearnConfig], Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean = shutil.copytree(undisturbed(QUICK), tmp_path_factory.mktemp("clean") / "without")
    work = shutil.copytree(clean, tmp_path / "without")

    def call(folder: Path = work) -> Any:
        return verify(RunFolder(root=folder), QUICK_LOOK, oracles=2)

    from reticent.report import certificate_page
    from reticent.unlearning.verification import look_into as looking

    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "clean cache"))
    call(clean)
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    unverified = set(work.iterdir())
    for owner, name, stops in (
        (trainer, "close_folder", Stops(at=1, before=True)),
        (MarkWhole, "on_save", Stops(at=1)),
        (looking, "_loaded", Stops(at=2)),
        (certificate_page, "write_certificate_page", Stops(at=1, before=True)),
    ):
        stopped(monkeypatch, owner, name, stops, call)
        assert set(work.iterdir()) - unverified == {work / "retrained"}, "half of a verification is none"
    call()
    assert differ(work, clean) == []
    private = [path for path in (work, *work.rglob("*")) if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert [path for path in private if path.name == "retrained" or "retrained" in path.parts] == []


def test_two_processes_do_not_work_in_one_folder(
    run: RunFolder, forget: ForgetRequest, undisturbed: Callable[[UnlearnConfig], Path], tmp_path: Path
) -> None:
    folder = undisturbed(QUICK)
    with locked(folder):
        with pytest.raises(Unusable, match="another process works in it"):
            unlearn(run, out=folder, forget=forget, config=QUICK)
        with pytest.raises(Unusable, match="another process works in it"):
            verify(folder, QUICK_LOOK, oracles=0)
    with locked(tmp_path / "new"), pytest.raises(Unusable, match="another process works in it"):
        unlearn(run, out=tmp_path / "new", forget=forget, config=QUICK)
    assert not (tmp_path / "new").exists()
