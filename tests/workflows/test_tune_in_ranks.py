# SPDX-License-Identifier: Apache-2.0
"""`reticent tune` in two processes against one: the same run folder but for seconds; nothing where it is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from reticent.cli.main import main
from reticent.core.progress import console
from reticent.core.record import Record, Span
from reticent.data.read import read
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny
from reticent.train import leading
from reticent.train.config import TuneConfig
from reticent.train.private.train import PrivateTuneTrainer
from reticent.workflows.tune import tune

SECRET = hashlib.sha256(b"a key for tests").digest()
Start = Callable[..., list[int]]
USUAL = ("--epochs", "2", "--batch_size", "4", "--learning_rate", "1e-3", "--dtype", "float32", "--canaries", "4")
WATCHED = ("--watch", "--panel", "10", "--risk_list", "--canary_controls", "20")
PRIVATE = ("--epsilon", "8", "--unit", "user", "--canary_repetitions", "1")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base"))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{"text": f"mail {i * 7919 % 997} of {user}", "user": f"u{user}"} for user in range(48) for i in range(3)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leading, "FAREWELL", 30.0)  # however slow this machine is just now
    return path


def command(base: str, out: str, *more: str) -> list[str]:
    return ["tune", "data.jsonl", "--model", base, "--out", out, *USUAL, *more]


TIMED = ("second", "finished", "created", "_runtime", "world_size", "strategy", "overhead")
"""Parts of names of what differs from run to run, and of how many processes there were."""


def assert_alike(mine: Any, theirs: Any, where: str) -> None:
    """Two values of JSON files are the same but for seconds and rounding."""
    if isinstance(mine, dict):
        assert mine.keys() == theirs.keys(), where
        for key in mine:
            if not any(part in key for part in TIMED):
                assert_alike(mine[key], theirs[key], f"{where}/{key}")
    elif isinstance(mine, list):
        assert len(mine) == len(theirs), where
        for place, (item, other) in enumerate(zip(mine, theirs, strict=True)):
            assert_alike(item, other, f"{where}/{place}")
    elif isinstance(mine, float):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5), where
    else:
        assert mine == theirs, where


def same_runs(one: Path, two: Path) -> None:
    names = [sorted(str(path.relative_to(run)) for path in run.rglob("*")) for run in (one, two)]
    assert names[0] == names[1]
    for path in sorted(path for path in one.rglob("*") if path.is_file()):
        other = two / path.relative_to(one)
        if path.suffix == ".json" and path.name != "reticent_files.json":
            mine, theirs = json.loads(path.read_text()), json.loads(other.read_text())
            assert_alike(mine, theirs, path.name)
        elif path.suffix == ".safetensors":
            mine, theirs = load_file(path), load_file(other)
            assert max(float((mine[name] - theirs[name]).abs().max()) for name in mine) <= 1e-6
        elif path.name == "panel.parquet":
            assert pq.read_table(path).schema == pq.read_table(other).schema
        elif path.name not in ("risk.jsonl", "hash.key", "tune.yaml"):
            assert path.read_bytes() == other.read_bytes(), path.name


def test_the_same_run_with_the_monitor_and_the_list_of_risks(base: str, data: Path, in_ranks: Start) -> None:
    assert main(command(base, "one", *WATCHED)) == 0
    assert in_ranks(lambda rank: main(command(base, "two", *WATCHED))) == [0, 0]
    same_runs(Path("one"), Path("two"))
    watched = json.loads(Path("two/manifest.json").read_text())["tune"]["processes"]
    assert (watched["world_size"], watched["strategy"], len(watched["rows"])) == (2, "ddp", 64)


def test_a_private_run(base: str, data: Path, in_ranks: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reticent.train.private.step_log.secrets.token_bytes", lambda count: SECRET)
    assert main(command(base, "one", *PRIVATE)) == 0
    assert in_ranks(lambda rank: main(command(base, "two", *PRIVATE))) == [0, 0]
    same_runs(Path("one"), Path("two"))
    assert "rows" not in json.loads(Path("two/manifest.json").read_text())["tune"]["processes"]
    promise = json.loads(Path("two/model/privacy.json").read_text())
    assert promise == json.loads(Path("one/model/privacy.json").read_text())


@pytest.mark.slow
def test_a_run_in_shards_from_python(base: str, data: Path, in_ranks: Start) -> None:
    records = read(data, text_field="text", user_field="user").records
    settings = TuneConfig(method="lora", shards=2, epochs=1, batch_size=4, dtype="float32")

    def work(rank: int) -> int:
        run = tune(records, base=base, out="two", tune_config=settings)
        (Path(f"rank{rank}")).write_text(str(run.root))
        return 0

    tune(records, base=base, out="one", tune_config=settings)
    assert in_ranks(work) == [0, 0]
    assert [Path(f"rank{rank}").read_text() for rank in range(2)] == ["two", "two"]
    for name in ("model", "shards/000", "shards/001"):
        mine, theirs = (load_file(Path(run, name, "adapter_model.safetensors")) for run in ("one", "two"))
        assert max(float((mine[key] - theirs[key]).abs().max()) for key in mine) <= 1e-6


@pytest.mark.slow
def test_a_promise_on_spans(base: str, data: Path, in_ranks: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public text is shared out too, and its gradient added once."""
    monkeypatch.setattr("reticent.train.private.step_log.secrets.token_bytes", lambda count: SECRET)
    texts = [f"order {i * 7919 % 997} of customer {i}" for i in range(60)]
    spans = [Span(start=6, end=text.index(" of"), kind="ID") for text in texts]
    records = [Record(id=f"r{i}", text=texts[i], spans=(spans[i],)) for i in range(60)]
    settings = TuneConfig(epochs=1, batch_size=4, dtype="float32")
    privacy = PrivacySpec(epsilon=8, protect="spans", detector_recall=1.0)

    def train(out: str) -> int:
        tune(records, base=base, out=out, tune_config=settings, privacy=privacy)
        return 0

    train("one")
    assert in_ranks(lambda rank: train("two")) == [0, 0]
    mine, theirs = (load_file(Path(run, "model/model.safetensors")) for run in ("one", "two"))
    assert max(float((mine[key] - theirs[key]).abs().max()) for key in mine) <= 1e-6


def test_looking_leaves_every_bit_of_the_weights(base: str, data: Path, in_ranks: Start) -> None:
    for out, more in (("looked", WATCHED), ("blind", WATCHED[4:])):
        assert in_ranks(lambda rank, out=out, more=more: main(command(base, out, *more))) == [0, 0]
    assert Path("looked/model/model.safetensors").read_bytes() == Path("blind/model/model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_private_run_that_is_killed(
    base: str, data: Path, in_ranks: Start, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    monkeypatch.setattr("reticent.train.private.step_log.secrets.token_bytes", lambda count: SECRET)
    whole = PrivateTuneTrainer.training_step

    def killed(rank: int) -> int:
        leading.FAREWELL = leading.LINGER = 0.5  # this process is a fork

        def training_step(self: Any, *args: Any) -> Any:
            if self.state.global_step == 5 and rank == which:
                os.kill(os.getpid(), 9)
            return whole(self, *args)

        PrivateTuneTrainer.training_step = training_step  # type: ignore[method-assign]
        return main(command(base, "two", *PRIVATE))

    assert main(command(base, "one", *PRIVATE)) == 0
    assert in_ranks(killed)[which] == -9
    assert in_ranks(lambda rank: main(command(base, "two", *PRIVATE))) == [0, 0]
    same_runs(Path("one"), Path("two"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--batch_size", "5"), "batch_size=5: is the batch of all 2 processes together"),
        (("--objectives", "clip_examples"), "in several processes: it trains in a way of its own"),
        (("--no_such_flag", "1"), "is no flag of reticent tune"),
    ],
    ids=["batch", "objective", "flag"],
)
def test_a_refusal_is_said_once_and_nothing_is_written(
    base: str, data: Path, in_ranks: Start, capfd: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    assert in_ranks(lambda rank: main(command(base, "two", *more))) == [2, 2]
    assert capfd.readouterr().err.count(said) == 1
    assert [path.name for path in data.parent.iterdir()] == ["data.jsonl"]


def test_only_the_leader_speaks(
    base: str, data: Path, in_ranks: Start, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "quiet", False)
    assert in_ranks(lambda rank: main(command(base, "two", "--seed", str(rank)))) == [2, 2]
    err = capfd.readouterr().err
    assert err.count("process 1 of 2: was asked for something else than process 0") == 1
    assert [path.name for path in data.parent.iterdir()] == ["data.jsonl"]
