# SPDX-License-Identifier: Apache-2.0
"""A run that is killed or stopped, and the same command again: what an undisturbed run gives, byte for byte."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reticent.score import make_tables as plan
from reticent.score import render
from reticent.train.checkpoints import MarkWhole
from reticent.train.loop import TuneTrainer

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

SHARD = 1000
"""Tokens in a shard, so that a tiny run has several."""

KILL_IN_SECOND_EPOCH = """
import os, signal, sys
from reticent.cli.main import main
from reticent.train.checkpoints import MarkWhole
from reticent.train.loop import TuneTrainer

saved, seen = [], []
on_save, compute_loss = MarkWhole.on_save, TuneTrainer.compute_loss

def counted_save(self, args, state, control, **more):
    on_save(self, args, state, control, **more)
    saved.append(state.global_step)

def killed_loss(self, *args, **more):
    seen.extend([1] if saved else [])
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return compute_loss(self, *args, **more)

MarkWhole.on_save, TuneTrainer.compute_loss = counted_save, killed_loss
sys.exit(main(sys.argv[1:]))
"""

KILL_IN_SECOND_CHECKPOINT = """
import os, signal, sys
from pathlib import Path
import torch
from reticent.cli.main import main

save, folders = torch.save, []

def killed_save(obj, where, *args, **more):
    save(obj, where, *args, **more)
    folders.append(Path(where).parent)
    if len(set(folders)) == 2:
        Path(where).write_bytes(Path(where).read_bytes()[:-20])
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = killed_save
sys.exit(main(sys.argv[1:]))
"""

KILL_IN_THIRD_SHARD = f"""
import os, signal, sys
import pyarrow.parquet as pq
from reticent.cli.main import main
from reticent.score import render

write, written = pq.ParquetWriter.write_table, []

def killed_write(self, *args, **more):
    written.append(1)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, *args, **more)

render._SHARD_TOKENS = {SHARD}
pq.ParquetWriter.write_table = killed_write
sys.exit(main(sys.argv[1:]))
"""


def killed(driver, *argv):
    """Run the driver, which kills itself on the way."""
    done = subprocess.run(
        [sys.executable, "-c", driver, *map(str, argv)], capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def tune(base, mails, tmp_path, tools):
    return ("tune", mails, "--model", base, "--out", tmp_path / "run", *tools.tune)


@pytest.mark.parametrize("driver", [KILL_IN_SECOND_EPOCH, KILL_IN_SECOND_CHECKPOINT], ids=["step", "checkpoint"])
def test_a_killed_tuning_goes_on_to_the_same_weights(reticent, tune, tmp_path, tuned, tools, driver):
    killed(driver, *tune)
    run = tmp_path / "run"
    assert not (run / "model").exists()
    listed = reticent("ls", tmp_path)
    assert "unfinished" in listed.out

    unfinished = reticent("audit", run)
    assert unfinished.code == 2
    assert "reticent tune" in unfinished.err

    again = reticent(*tune)
    assert again.code == 0, again.err
    assert "going on from checkpoint-" in again.err
    for name in ("records.parquet", "membership.parquet", "model/model.safetensors"):
        assert tools.contents(run)[name] == tools.contents(tuned)[name], name
    assert not tools.litter(run)


def test_a_killed_scoring_goes_on_to_the_same_tables(reticent, monkeypatch, base, tuned, tmp_path, tools):
    monkeypatch.setattr(render, "_SHARD_TOKENS", SHARD)
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "undisturbed-cache"))
    undisturbed = shutil.copytree(tuned, tmp_path / "undisturbed")
    assert reticent("audit", undisturbed, "--reference", base, *tools.audit).code == 0

    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    run = shutil.copytree(tuned, tmp_path / "run")
    killed(KILL_IN_THIRD_SHARD, "audit", run, "--reference", base, *tools.audit)
    assert not (run / "results.json").exists()
    shards = list((tmp_path / "cache").rglob("shards/*.sha256"))
    assert len(shards) == 2, "what was scored before the kill is kept"

    scored = []
    score = plan.score
    monkeypatch.setattr(plan, "score", lambda *args: scored.append(1) or score(*args))
    again = reticent("audit", run, "--reference", base, *tools.audit)
    assert again.code == 0, again.err
    expected = tools.contents(undisturbed / "tables")
    assert tools.contents(run / "tables") == expected
    assert tools.contents(run)["scores.parquet"] == tools.contents(undisturbed)["scores.parquet"]
    assert len(expected) >= 3


def test_scoring_again_computes_nothing(reticent, monkeypatch, audited, tmp_path, tools):
    run = shutil.copytree(audited, tmp_path / "run")
    monkeypatch.setattr(plan, "score", lambda *args: pytest.fail("a finished table is scored again"))
    outcome = reticent("audit", run, *tools.audit)
    assert outcome.code == 0, outcome.err
    assert tools.contents(run / "tables") == tools.contents(audited / "tables")


def test_ctrl_c_while_tuning_exits_with_130_and_can_go_on(reticent, monkeypatch, tune, tmp_path, tuned, tools):
    saved, loss, on_save = [], TuneTrainer.compute_loss, MarkWhole.on_save

    def noted(self, *args, **more):
        on_save(self, *args, **more)
        saved.append(1)

    def stopped(self, *args, **more):
        if saved:
            raise KeyboardInterrupt
        return loss(self, *args, **more)

    monkeypatch.setattr(MarkWhole, "on_save", noted)
    monkeypatch.setattr(TuneTrainer, "compute_loss", stopped)
    outcome = reticent(*tune)
    assert outcome.code == 130
    assert "the same command goes on where it was" in outcome.err
    monkeypatch.undo()
    again = reticent(*tune)
    assert "going on from checkpoint-" in again.err
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == (
        tuned / "model" / "model.safetensors"
    ).read_bytes()
    assert not tools.litter(tmp_path / "run")


def test_ctrl_c_while_scoring_exits_with_130_and_can_go_on(reticent, monkeypatch, base, tuned, tmp_path, tools):
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    run = shutil.copytree(tuned, tmp_path / "run")
    score, calls = plan.score, []

    def stopped(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(*args)

    monkeypatch.setattr(plan, "score", stopped)
    assert reticent("audit", run, "--reference", base, *tools.audit).code == 130
    assert not (run / "results.json").exists()
    assert "unfinished" in reticent("ls", tmp_path).out
    monkeypatch.setattr(plan, "score", score)
    assert reticent("audit", run, "--reference", base, *tools.audit).code == 0
    assert (run / "report.html").exists()


# ---- one folder, one run --------------------------------------------------------------------------------------------


def test_the_same_command_again_changes_nothing_that_was_made(reticent, base, mails, tuned, tmp_path, tools):
    run = shutil.copytree(tuned, tmp_path / "run")
    before = tools.contents(run)
    outcome = reticent("tune", mails, "--model", base, "--out", run, *tools.tune)
    assert outcome.code == 0, outcome.err
    after = tools.contents(run)
    assert {name for name in after if after[name] != before.get(name)} <= {"manifest.json"}


@pytest.mark.parametrize("change", ["seed", "data", "model", "bad_rows"])
def test_another_command_in_the_same_folder_is_refused(refused, base, mails, tuned, tmp_path, tools, change):
    run = shutil.copytree(tuned, tmp_path / "run")
    data, model, more = mails, base, ()
    if change == "seed":
        more = ("--split-seed", "1")
    elif change == "data":
        data = tools.write_rows(tmp_path / "mails.jsonl", tools.mails(seed=1))
    elif change == "model":
        model = shutil.copytree(base, tmp_path / "other")
    else:
        data = tmp_path / "mails.jsonl"
        data.write_text(Path(mails).read_text() + "{\n" + '{"user": "u", "text": "one more"}\n')
        more = ("--on-bad-row", "skip")
    before = tools.contents(run)
    refused(
        "tune", data, "--model", model, "--out", run, *tools.tune, *more,
        given=str(run), why="holds a run with other settings", fix="Choose another folder (--out)",
    )  # fmt: skip
    assert tools.contents(run) == before


@pytest.mark.parametrize("name", ["records.parquet", "membership.parquet", "manifest.json"])
def test_a_run_whose_files_were_cut_short_is_refused(refused, tuned, tmp_path, tools, name):
    run = shutil.copytree(tuned, tmp_path / "run")
    (run / name).write_bytes((run / name).read_bytes()[:100])
    before = tools.contents(run)
    why = "is not valid JSON" if name.endswith("json") else "no longer what was written"
    refused("audit", run, *tools.audit, given=str(run), why=why, fix="again")
    assert tools.contents(run) == before
