# SPDX-License-Identifier: Apache-2.0
"""A full or unwritable disk: exit code 2, old files whole, no litter, and the same command works afterwards."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from reticent.core import atomic

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch):
    """``full_disk(name)``: writing a file or folder of that name fails when its bytes reach the disk."""
    flush = atomic._flush

    def fails_for(name):
        def failing(path):
            if path.name == name or (name.startswith("*") and path.name.endswith(name[1:])):
                raise FULL
            flush(path)

        monkeypatch.setattr(atomic, "_flush", failing)

    return fails_for


@pytest.fixture
def read_only(monkeypatch):
    """``read_only(folder, number)``: nothing can be made below the folder (as root, permissions would not hold)."""

    def forbid(folder, number):
        mkdtemp, mkdir = tempfile.mkdtemp, Path.mkdir

        def below(path):
            return Path(path).resolve().is_relative_to(Path(folder).resolve())

        def no_mkdtemp(suffix=None, prefix=None, dir=None):
            if dir is not None and below(dir):
                raise OSError(number, os.strerror(number), str(dir))
            return mkdtemp(suffix, prefix, dir)

        def no_mkdir(path, mode=0o777, parents=False, exist_ok=False):
            if below(path) and not path.exists():
                raise OSError(number, os.strerror(number), str(path))
            mkdir(path, mode, parents, exist_ok)

        monkeypatch.setattr(tempfile, "mkdtemp", no_mkdtemp)
        monkeypatch.setattr(Path, "mkdir", no_mkdir)

    return forbid


@pytest.fixture
def tune(base, mails, tmp_path, tools):
    return ("tune", mails, "--model", base, "--out", tmp_path / "run", *tools.tune)


@pytest.fixture
def run(audited, tmp_path):
    """A copy of an audited run."""
    return shutil.copytree(audited, tmp_path / "run")


# ---- full while tuning ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tune.yaml", "records.parquet", "membership.parquet", "canaries.parquet"])
def test_a_disk_that_is_full_before_the_training_leaves_no_folder(refused, full_disk, tune, tmp_path, name):
    full_disk(name)
    refused(*tune, "--canaries", "10", given=str(tmp_path / "run" / name), why="No space left", fix="free space")
    assert not (tmp_path / "run").exists()


def test_a_write_that_stops_halfway_leaves_no_half_file(refused, monkeypatch, tune, tmp_path):
    def half(writer, table, **settings):
        raise FULL

    monkeypatch.setattr(pq.ParquetWriter, "write_table", half)
    refused(*tune, given="records.parquet", why="No space left", fix="free space")
    assert not (tmp_path / "run").exists()


def test_a_disk_that_is_full_when_the_model_is_saved_costs_no_training(
    refused, reticent, full_disk, monkeypatch, tune, tmp_path, tuned, tools
):
    full_disk("model")
    refused(*tune, given=str(tmp_path / "run" / "model"), why="No space left", fix="free space")
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.undo()
    again = reticent(*tune)
    assert again.code == 0, again.err
    assert "going on from checkpoint-" in again.err
    assert tools.contents(tmp_path / "run" / "model")["model.safetensors"] == weights(tuned, tools)
    assert not tools.litter(tmp_path / "run")


def test_a_disk_that_is_full_at_a_checkpoint_is_refused_and_the_same_command_goes_on(
    refused, reticent, monkeypatch, tune, tmp_path, tuned, tools
):
    save, calls = torch.save, []

    def full_at_the_second_epoch(obj, where, *args, **settings):
        calls.append(str(where))
        if len({Path(path).parent for path in calls}) > 1:
            raise FULL
        save(obj, where, *args, **settings)

    monkeypatch.setattr(torch, "save", full_at_the_second_epoch)
    refused(*tune, given=str(tmp_path / "run" / "model"), why="disk is full", fix="run the same command again")
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.undo()
    again = reticent(*tune)
    assert again.code == 0, again.err
    assert "going on from checkpoint-" in again.err
    assert tools.contents(tmp_path / "run" / "model")["model.safetensors"] == weights(tuned, tools)
    assert not tools.litter(tmp_path / "run")


def weights(run, tools):
    return tools.contents(run / "model")["model.safetensors"]


# ---- full while auditing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["audit.yaml", "evaluate.target.parquet", "scores.parquet", "results.json"])
def test_a_disk_that_is_full_during_a_first_audit_leaves_the_run_as_it_was(
    refused, full_disk, tuned, tmp_path, tools, name
):
    run = shutil.copytree(tuned, tmp_path / "run")
    before = tools.contents(run)
    full_disk(name)
    refused("audit", run, *tools.audit, given=name, why="No space left", fix="free space")
    assert tools.contents(run) == before
    assert not tools.litter(run)


def test_a_disk_that_is_full_while_scoring_leaves_no_half_table(
    refused, full_disk, monkeypatch, base, tuned, tmp_path, tools
):
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    run = shutil.copytree(tuned, tmp_path / "run")
    before = tools.contents(run)
    full_disk("*.parquet")
    argv = ("audit", run, "--reference", base, *tools.audit)
    refused(*argv, given=str(tmp_path / "cache"), why="No space left", fix="free space")
    assert tools.contents(run) == before
    assert not tools.contents(tmp_path / "cache")


@pytest.mark.parametrize("name", ["scores.parquet", "results.json", "report.html"])
def test_a_disk_that_is_full_during_another_audit_keeps_the_old_files_whole(refused, full_disk, run, tools, name):
    before = tools.contents(run)
    full_disk(name)
    refused("audit", run, *tools.audit, "--seed", "1", given=str(run / name), why="No space left", fix="free space")
    after = tools.contents(run)
    assert after.keys() == before.keys()
    assert after[name] == before[name]
    assert not tools.litter(run)


def test_a_disk_that_is_full_when_the_gate_writes_keeps_the_old_file(refused, reticent, full_disk, audited, tmp_path):
    junit = tmp_path / "gate.xml"
    assert reticent("gate", audited, "--max-auc", "0.9", "--junit", junit).code in (0, 1)
    before = junit.read_text()
    full_disk("gate.xml")
    argv = ("gate", audited, "--max-auc", "0.9", "--junit", junit)
    refused(*argv, given=str(junit), why="No space left", fix="free space")
    assert junit.read_text() == before


def test_a_disk_that_is_full_when_the_page_is_made_again_keeps_the_old_one(refused, full_disk, run, tools):
    before = tools.contents(run)
    full_disk("report.html")
    refused("report", run, given=str(run / "report.html"), why="No space left", fix="free space")
    assert tools.contents(run) == before


# ---- read-only ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES], ids=["read_only_disk", "no_permission"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(refused, read_only, tune, tmp_path, number):
    read_only(tmp_path, number)
    message = refused(*tune, given=str(tmp_path / "run"), why=os.strerror(number), fix="writable folder")
    assert "(--out)" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES], ids=["read_only_disk", "no_permission"])
def test_an_audit_in_a_read_only_run_folder_is_refused(refused, read_only, run, tools, number):
    before = tools.contents(run)
    read_only(run, number)
    refused("audit", run, *tools.audit, given=str(run), why=os.strerror(number), fix="writable folder")
    assert tools.contents(run) == before


def test_a_read_only_run_can_be_audited_into_another_folder(reticent, read_only, tuned, tmp_path, tools):
    before = tools.contents(tuned)
    read_only(tuned, errno.EROFS)
    outcome = reticent("audit", tuned, "--out", tmp_path / "elsewhere", *tools.audit)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "elsewhere" / "report.html").exists()
    assert tools.contents(tuned) == before


def test_a_data_file_that_may_not_be_read_is_refused(refused, monkeypatch, tune, mails, tmp_path):
    opened = Path.open

    def no_open(path, *args, **settings):
        if path == mails:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *args, **settings)

    monkeypatch.setattr(Path, "open", no_open)
    refused(*tune, given=str(mails), why="Permission denied", fix="Check")
    assert not (tmp_path / "run").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(refused, tune, tmp_path):
    (tmp_path / "run").write_text("a note")
    refused(*tune, given=str(tmp_path / "run"), why="cannot be", fix="--out")
    assert (tmp_path / "run").read_text() == "a note"
