# SPDX-License-Identifier: Apache-2.0
"""Nothing of the user's is destroyed, mixed or shown: what a run leaves, and whose folders it works in."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reticent.cli.main import _verbs
from reticent.core import atomic
from reticent.core.lock import locked

Run = Callable[..., Any]


# ---- what is left ---------------------------------------------------------------------------------------------------


def test_a_run_is_its_owners_only_and_names_no_place(audited: Path, tuned: Path, base: Path) -> None:
    assert stat.S_IMODE(tuned.stat().st_mode) == 0o700
    open_to_all = {"results.json", "report.html"}
    for path in (one for one in (*tuned.rglob("*"), *audited.rglob("*")) if one.is_file()):
        if path.name not in open_to_all:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert str(base.parent).encode() not in path.read_bytes(), f"{path} names a place of this machine"
    assert json.loads((tuned / "model" / "reticent_tuning.json").read_text())["base"] == f"../../{base.name}"


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_an_adapter_names_no_place_and_finds_its_base(
    reticent: Run, base: Path, mails: Path, tmp_path: Path, tools: SimpleNamespace, method: str
) -> None:
    run = tmp_path / "run"
    made = reticent("tune", mails, "--model", base, "--out", run, *tools.tune, "--method", method)
    assert made.code == 0, made.err
    for path in (one for one in run.rglob("*") if one.is_file()):
        assert str(base.parent).encode() not in path.read_bytes(), path
    assert reticent("audit", run, *tools.audit, "--attacks", "loss,ref_diff").code == 0
    moved = run.rename(tmp_path / "moved")
    again = reticent("audit", moved, *tools.audit, "--attacks", "loss,ref_diff")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    "flags",
    [
        ("--method", "lora", "--method-params", '{"r": "x"}'),
        ("--method", "lora", "--method-params", '{"target_modules": ["nowhere"]}'),
        ("--report-to", "wandb"),
        ("--max-tokens", "100000", "--block-words", "500"),
    ],
)
def test_what_fails_before_the_first_checkpoint_leaves_nothing(
    reticent: Run, base: Path, mails: Path, tmp_path: Path, tools: SimpleNamespace, flags: tuple[str, ...]
) -> None:
    run = tmp_path / "new" / "run"
    argv = [*tools.tune]
    outcome = reticent("tune", mails, "--model", base, "--out", run, *argv, *flags)
    if outcome.code == 0:
        pytest.fail("it was to be refused")
    assert outcome.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), OSError(errno.EIO, "I/O error"), MemoryError(), KeyboardInterrupt()]
)
def test_nor_does_what_nobody_expected(
    reticent: Run,
    monkeypatch: pytest.MonkeyPatch,
    base: Path,
    mails: Path,
    tmp_path: Path,
    tools: SimpleNamespace,
    error: BaseException,
) -> None:
    def fails(*args: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr("reticent.train.trainer._run", fails)
    run = tmp_path / "run"
    run.mkdir()
    (run.parent / "note").write_text("mine")
    outcome = reticent("tune", mails, "--model", base, "--out", run, *tools.tune)
    assert outcome.code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert "Traceback" not in outcome.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["note", "run"]


def test_what_a_killed_start_left_does_not_stand_in_the_way(
    reticent: Run, base: Path, mails: Path, tuned: Path, tmp_path: Path, tools: SimpleNamespace
) -> None:
    run = shutil.copytree(tuned, tmp_path / "run")
    shutil.rmtree(run / "model")
    (run / "manifest.json").unlink()
    (run / "notes.md").write_text("mine")
    (run / ".model.training" / "checkpoint-4").mkdir(parents=True)  # half of one
    outcome = reticent("tune", mails, "--model", base, "--out", run, *tools.tune, "--split-seed", "5")
    assert outcome.code == 0, outcome.err
    assert (run / "notes.md").read_text() == "mine"


# ---- results of one model only --------------------------------------------------------------------------------------


def test_results_of_another_model_never_land_in_a_run(
    reticent: Run,
    refused: Run,
    base: Path,
    mails: Path,
    tuned: Path,
    audited: Path,
    tmp_path: Path,
    tools: SimpleNamespace,
) -> None:
    run = shutil.copytree(audited, tmp_path / "run")
    other = shutil.copytree(tuned, tmp_path / "other")
    before = tools.contents(run)
    labels = tmp_path / "labels.csv"
    labels.write_text("id,member\n" + "".join(f"{row['id']},{i % 2}\n" for i, row in enumerate(tools.mails())))
    lists = ("--data", mails, "--membership", labels, "--id-field", "id", *tools.audit)
    why = "is the run folder of another model or other data"
    refused("audit", "--model", base, *lists, "--out", run, given=str(run), why=why, fix="Choose another folder")
    refused("audit", other, "--out", run, *tools.audit, given=str(run), why=why, fix="Choose another folder")
    assert tools.contents(run) == before
    aside = tmp_path / "aside"
    quick = ("--attacks", "loss")
    assert reticent("audit", other, "--reference", base, "--out", aside, *tools.audit, *quick).code == 0
    before = tools.contents(aside)
    argv = ("audit", "--model", base, *lists, *quick, "--out", aside)
    refused(*argv, given=str(aside), why="holds an audit of something else (target, data)", fix="Choose another folder")
    assert tools.contents(aside) == before
    assert reticent("audit", other, "--reference", base, "--out", aside, *tools.audit, "--attacks", "zlib").code == 0


# ---- two at once ----------------------------------------------------------------------------------------------------


def started(*argv: Any, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "reticent", *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | more)


@pytest.mark.parametrize("verb", ["tune", "audit", "compare", "prepare", "report"])
def test_a_second_process_is_refused(
    refused: Run, base: Path, mails: Path, audited: Path, tmp_path: Path, tools: SimpleNamespace, verb: str
) -> None:
    run = shutil.copytree(audited, tmp_path / "run") if verb in ("audit", "report") else tmp_path / "run"
    place = tmp_path / "out.parquet" if verb == "prepare" else run
    given = {
        "tune": ("tune", mails, "--model", base, "--out", run, *tools.tune),
        "audit": ("audit", run, "--reference", base, *tools.audit),
        "compare": ("compare", mails, "--model", base, "--out", run),
        "prepare": ("prepare", mails, "--out", place, "--detectors", "email"),
        "report": ("report", run),
    }
    with locked(place):
        refused(*given[verb], given=str(place), why="another process works in it", fix="Wait until it is done")


@pytest.mark.slow
def test_two_trainings_at_once_give_one_right_model(
    base: Path, mails: Path, tuned: Path, tmp_path: Path, tools: SimpleNamespace
) -> None:
    argv = ("tune", mails, "--model", base, "--out", tmp_path / "run", *tools.tune)
    for delay in (0.0, 2.0, 6.0):
        first = started(*argv)
        time.sleep(delay)
        second = started(*argv)
        said = [process.communicate(timeout=300)[0] for process in (first, second)]
        codes = [first.returncode, second.returncode]
        assert 0 in codes, said
        assert set(codes) <= {0, 2}, said
        assert not any("Traceback" in one for one in said)
        model = tmp_path / "run" / "model" / "model.safetensors"
        assert model.read_bytes() == (tuned / "model" / "model.safetensors").read_bytes()
        shutil.rmtree(tmp_path / "run")


@pytest.mark.slow
def test_two_audits_with_one_cache_take_turns(
    base: Path, audited: Path, tuned: Path, tmp_path: Path, tools: SimpleNamespace
) -> None:
    runs = [shutil.copytree(tuned, tmp_path / name) for name in ("one", "two")]
    both = [
        started("audit", run, "--reference", base, *tools.audit, RETICENT_CACHE=str(tmp_path / "cache")) for run in runs
    ]
    for process in both:
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
    tables = [tools.contents(run / "tables") for run in runs]
    assert tables[0] == tables[1] == tools.contents(audited / "tables")


# ---- caches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", ["cut", *(pytest.param(name, marks=pytest.mark.slow) for name in ("flipped", "empty", "noise"))]
)
def test_what_is_damaged_in_the_cache_is_made_again(
    reticent: Run,
    monkeypatch: pytest.MonkeyPatch,
    base: Path,
    audited: Path,
    tuned: Path,
    tmp_path: Path,
    tools: SimpleNamespace,
    damage: str,
) -> None:
    """Kernels are opened by the loader of the system, which would end this process."""
    from reticent.score.kernel import load_kernel

    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    load_kernel.cache_clear()
    argv = ("--reference", base, *tools.audit, "--attacks", "loss")
    assert reticent("audit", shutil.copytree(tuned, tmp_path / "run"), *argv).code == 0
    files = [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".so", ".parquet")]
    assert {path.suffix for path in files} == {".so", ".parquet"}
    for path in files:
        content = path.read_bytes()
        path.unlink()  # the loader still holds the old one
        path.write_bytes(
            {"cut": content[:99], "flipped": b"\0" + content[1:], "empty": b"", "noise": os.urandom(4096)}[damage]
        )
    load_kernel.cache_clear()
    again = reticent("audit", shutil.copytree(tuned, tmp_path / "again"), *argv)
    assert again.code == 0, again.err
    first, second = (tools.contents(tmp_path / name / "tables") for name in ("run", "again"))
    assert second == {name: tools.contents(audited / "tables")[name] for name in second}
    assert set(first) == set(second)
    load_kernel.cache_clear()


# ---- a disk that is full --------------------------------------------------------------------------------------------

COMPARE = ("--methods", "head", "--learning-rates", "1e-2", "--seeds", "0,1", "--epochs", "1", "--panel", "16",
           "--max-tokens", "48", "--dtype", "float32", "--device", "cpu", "--jobs", "1")  # fmt: skip


def test_a_full_disk_in_a_comparison_is_tried_again(
    reticent: Run, monkeypatch: pytest.MonkeyPatch, base: Path, mails: Path, tmp_path: Path
) -> None:
    flush, full = atomic._flush, [True]

    def fails(path: Path) -> None:
        if full[0] and path.name == "membership.parquet":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(path)

    monkeypatch.setattr(atomic, "_flush", fails)
    argv = ("compare", mails, "--model", base, "--out", tmp_path / "run", *COMPARE)
    outcome = reticent(*argv)
    assert outcome.code == 2
    assert "failed" in outcome.err
    assert "refused" not in outcome.err
    full[0] = False
    again = reticent(*argv)
    assert again.code == 0, again.err
    cells = [json.loads(path.read_text()) for path in (tmp_path / "run" / "cells").glob("*/cell.json")]
    assert [cell["status"] for cell in cells] == ["done", "done"]


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """``small_files(n)``: no file may grow beyond n bytes, as on a disk that runs full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [16, 500, 2000, 9000])
@pytest.mark.parametrize("verb", ["prepare", "tune", "report", "gate"])
def test_files_that_may_not_grow_leave_nothing_and_the_old_ones_whole(
    reticent: Run,
    small_files: Callable[[int], None],
    base: Path,
    mails: Path,
    audited: Path,
    tmp_path: Path,
    tools: SimpleNamespace,
    verb: str,
    size: int,
) -> None:
    given = {
        "prepare": ("prepare", mails, "--out", tmp_path / "out.parquet", "--detectors", "email"),
        "tune": ("tune", mails, "--model", base, "--out", tmp_path / "run", *tools.tune),
        "report": ("report", audited, "--out", tmp_path / "page.html"),
        "gate": ("gate", audited, "--max-auc", "1", "--junit", tmp_path / "gate.xml"),
    }
    small_files(size)
    outcome = reticent(*given[verb])
    small_files(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    if outcome.code in (0, 1) and verb in ("gate", "report"):
        return  # it fits
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    assert "failed where" not in outcome.err
    assert list(tmp_path.iterdir()) == []


# ---- quick help -----------------------------------------------------------------------------------------------------


def test_no_help_and_no_slip_of_the_finger_imports_torch() -> None:
    """Of any verb, short or long; help does not ask the accountant of privacy either."""
    code = (
        "import sys, contextlib, io\nfrom reticent.cli.main import main, _verbs\n"
        "heavy, helps = {'torch', 'transformers', 'sklearn', 'peft', 'datasets'}, [['--help'], ['--help_all']]\n"
        "slips = [['x', '--nonsense', '1'], ['x', '--seed', 'y']]\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "    for asks, unwanted in ((helps, heavy | {'dp_accounting'}), (slips, heavy)):\n"
        "        for verb in _verbs():\n"
        "            for more in asks:\n"
        "                with contextlib.suppress(SystemExit): main([verb, *more])\n"
        "                assert not unwanted & set(sys.modules), (verb, more, unwanted & set(sys.modules))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert len(_verbs()) >= 12


def test_other_tools_names_of_flags_work(
    reticent: Run, base: Path, mails: Path, tuned: Path, tmp_path: Path, tools: SimpleNamespace
) -> None:
    outcome = reticent(
        "tune", "--train_file", mails, "--model_name_or_path", base, "--output_dir", tmp_path / "run",
        "--num_train_epochs", "2.0", "--lr", "0.01", "--per_device_train_batch_size", "16", "--max_seq_length", "64",
        "--dtype", "float32", "--watch", "--no-risk-list",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    same = "model/model.safetensors"
    assert tools.contents(tmp_path / "run")[same] == tools.contents(tuned)[same]
    assert (tmp_path / "run" / "monitor.json").exists()
