# SPDX-License-Identifier: Apache-2.0
"""Two trainings in one folder: one goes on, the other is refused and changes nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer, TrainingArguments

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.lock import locked
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.privacy.plan import make_plan
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny, tiny_model
from reticent.train.config import TuneConfig
from reticent.train.private.private_trainer import PrivateTrainerMixin
from reticent.train.private.step_log import KEY, alone, open_key
from reticent.train.trainer import tune

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

RECORDS = [Record(id=str(i), text=f"order {i * 7919 % 1000} of the customer {i}", user=f"u{i % 12}") for i in range(40)]
SPEC = PrivacySpec(epsilon=8, unit="user")

TUNE = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from test_locked_folders import RECORDS, SPEC, config
from transformers import TrainerCallback
from reticent.core.errors import BadInput
from reticent.train.trainer import tune

class Wait(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        Path({out!r}).with_name("trains").touch()
        while not Path({out!r}).with_name("go").exists():
            time.sleep(0.02)

try:
    tune({base!r}, RECORDS, {out!r}, config(), callbacks=[Wait()], privacy=SPEC)
except BadInput as error:
    print(error)
    sys.exit(error.exit_code)
"""


def config() -> TuneConfig:
    return TuneConfig(learning_rate=1e-3, epochs=2, batch_size=4, max_tokens=32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base")))


def start(base: str, out: Path) -> subprocess.Popen[str]:
    script = TUNE.format(here=str(Path(__file__).parent), base=base, out=str(out))
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env)


def wait_for(path: Path) -> None:
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path.name} did not come")


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_of_two_that_are_started_at_once_one_trains_and_the_other_changes_nothing(base: str, tmp_path: Path) -> None:
    both = [start(base, tmp_path / "out") for _ in range(2)]
    wait_for(tmp_path / "trains")
    while all(process.poll() is None for process in both):
        time.sleep(0.02)
    (winner,) = (process for process in both if process.poll() is None)
    (loser,) = (process for process in both if process is not winner)
    assert loser.returncode == 2
    assert "out: another process works in it" in loser.communicate()[0]
    before = contents(tmp_path)
    with pytest.raises(BadInput, match="another process works in it"):
        tune(base, RECORDS, tmp_path / "out", config(), privacy=SPEC)
    assert contents(tmp_path) == before
    (tmp_path / "go").touch()
    said = winner.communicate(timeout=100)[0]
    assert winner.returncode == 0, said
    assert (tmp_path / "out" / "privacy.json").exists()
    assert tune(base, RECORDS, tmp_path / "out", config(), privacy=SPEC) == tmp_path / "out"


def test_a_killed_training_leaves_no_lock(base: str, tmp_path: Path) -> None:
    process = start(base, tmp_path / "out")
    wait_for(tmp_path / "trains")
    with pytest.raises(BadInput, match="another process works in it"):
        tune(base, RECORDS, tmp_path / "out", config(), privacy=SPEC)
    process.kill()
    process.communicate()
    assert tune(base, RECORDS, tmp_path / "out", config(), privacy=SPEC).is_dir()


@pytest.mark.parametrize("private", [["--epsilon", "8"], []])
def test_a_run_folder_that_is_in_use_is_refused_and_left_as_it_is(
    base: str, tmp_path: Path, private: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the other has begun to write is not taken away, which ``kept_if`` does with what it did not find."""
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f'{{"text": "{one.text}"}}\n' for one in RECORDS))
    run = tmp_path / "run"
    RunFolder(root=run).record("tune", {"title": "of the other"})
    (run / "records.parquet").write_bytes(b"of the other")
    (run / "tune.yaml").write_text("base: x\ndata: x\ntitle: x\nsplit: {}\ncanaries: {}\ntraining: {}\n")
    flags = ["--model", base, "--out", str(run), "--max-tokens", "24", *private]
    with locked(run):
        before = contents(tmp_path)
        assert main(["tune", str(data), *flags]) == 2
        assert contents(tmp_path) == before
    assert "another process works in it" in capsys.readouterr().err


class PrivateTrainer(PrivateTrainerMixin, Trainer):  # type: ignore[misc]
    """What a user of transformers writes."""


def trainer(out: Path) -> PrivateTrainer:
    given: dict[str, Any] = {"max_grad_norm": 0.0, "use_cpu": True, "report_to": "none", "save_strategy": "no"}
    return PrivateTrainer(
        model=tiny_model(),
        args=TrainingArguments(output_dir=str(out), disable_tqdm=True, **given),
        train_dataset=[{"input_ids": [5 + i, 6, 7]} for i in range(20)],
        plan=lambda people: make_plan(
            PrivacySpec(noise_multiplier=1.0), people, batch_size=4, steps=2, key=open_key(out)
        ),
    )


def test_a_trainer_of_your_own_is_alone_in_its_folder_and_its_further_processes_are_let_in(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    key = open_key(tmp_path)
    with alone(tmp_path, 0):
        with pytest.raises(BadInput, match="another process works in it"):
            one.train()
        with alone(tmp_path, 1), alone(tmp_path, 2):
            pass
    assert (tmp_path / KEY).read_bytes() == key
    one.train()
    assert one.state.total_flos == 0  # would be an exact count of tokens, and is saved with each checkpoint
    assert not (tmp_path / KEY).exists()
    assert one.state.global_step == 2
