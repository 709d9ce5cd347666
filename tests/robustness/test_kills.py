# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments, or a disk that runs full, then the same command again: it ends as if nothing had been, and
leaves nothing behind.

    pytest --slow tests/robustness/test_kills.py

Each command runs in a fork of this process, so that a trial costs seconds and not the import of torch.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reticent.cli.main import main

TRIALS = int(os.environ.get("KILL_TRIALS", "2"))
"""For each of ten commands. ``KILL_TRIALS=11`` makes 110 and more kills, in half an hour."""

FEW = ("--epochs", "2", "--batch-size", "16", "--max-tokens", "48", "--dtype", "float32", "--device", "cpu")
COMMANDS: dict[str, Callable[[SimpleNamespace, Path], list[Any]]] = {
    "prepare": lambda given, out: [
        *("prepare", given.mails, "--out", out / "out.jsonl", "--scrub", "surrogate", "--dedup", "near"),
        *("--detectors", "email,phone", "--key-file", given.key),
    ],
    "tune": lambda given, out: [
        *("tune", given.mails, "--model", given.base, "--out", out / "run", "--learning-rate", "0.01", *FEW),
        *("--canaries", "8", "--canary-controls", "20", "--monitor", "--risk-list"),
    ],
    "private tune": lambda given, out: [
        *("tune", given.mails, "--model", given.base, "--out", out / "run", "--learning-rate", "0.01", *FEW),
        *("--epsilon", "8", "--unit", "user"),
    ],
    "audit": lambda given, out: ["audit", out / "run", "--dtype", "float32", "--device", "cpu"],
    "extraction": lambda given, out: [
        *("audit", out / "run", "--dtype", "float32", "--device", "cpu", "--attacks", "loss"),
        *("--extraction", "--extraction-samples", "1"),
    ],
    "shadow models": lambda given, out: [
        *("audit", out / "run", "--dtype", "float32", "--device", "cpu", "--attacks", "loss,lira", "--shadow", "4"),
    ],
    "compare": lambda given, out: [
        *("compare", given.mails, "--model", given.base, "--out", out / "run", "--methods", "full,head"),
        *("--learning-rates", "1e-2", "--seeds", "0,1", "--epochs", "1", "--panel", "16", "--jobs", "1"),
        *("--max-tokens", "48", "--dtype", "float32", "--device", "cpu"),
    ],
    "unlearn": lambda given, out: [
        *("unlearn", out / "run", "--out", out / "without", "--forget-pattern", "refund"),
        *("--method", "npo", "--epochs", "3", "--every", "2", "--retain-budget", "1.0"),
        *("--dtype", "float32", "--device", "cpu"),
    ],
    "negation": lambda given, out: [
        *("unlearn", out / "run", "--out", out / "without", "--forget-pattern", "refund"),
        *("--method", "negation", "--epochs", "2", "--dtype", "float32", "--device", "cpu"),
    ],
    "verify": lambda given, out: [
        *("verify", out / "without", "--oracles", "2", "--attacks", "loss", "--samples", "2"),
        *("--dtype", "float32", "--device", "cpu"),
    ],
}
BEFORE = {
    **dict.fromkeys(("audit", "extraction", "shadow models", "unlearn", "negation"), ("tune",)),
    "verify": ("tune", "unlearn"),
}
"""Commands that make what others start from."""
TIMES = re.compile(
    r"^(created|finished|made|results_sha256|.*seconds?.*|.*runtime|.*per_second|total_flos|train_loss|overhead|time.*|before)$"
)
"""Fields that differ from run to run by what they are."""
UNLIKE = {"private tune": ("model/", ".model.tuned.json")}
"""What two clean runs do not share: private training draws its key anew."""


def run_for(argv: list[Any], seconds: float | None = None) -> tuple[int, float]:
    """Run the command in a fork; kill it after so many seconds. Its exit status (negative: a signal), and its time."""
    started = time.monotonic()
    child = os.fork()
    if not child:
        code = 70
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1):
                os.dup2(null, stream)
            os.dup2(os.open(os.environ["KILL_LOG"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            code = main([str(word) for word in argv])
        finally:
            sys.stderr.flush()
            os._exit(code)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), time.monotonic() - started
        if seconds is not None and time.monotonic() - started > seconds:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGKILL, time.monotonic() - started
        time.sleep(0.005)


def on_a_small_disk(argv: list[Any], work: Path, start: Path, room: int, *, after: Path) -> list[int]:
    """Run the command in a fork whose ``work`` is a disk with ``start`` on it and ``room`` more bytes, then again once
    the disk is larger; what is on it in the end is copied to ``after``. Both exit statuses."""
    child = os.fork()
    if not child:
        try:
            sys.stderr = Path(os.environ["KILL_LOG"]).open("w", encoding="utf-8")  # noqa: SIM115
            alone(os.getuid(), os.getgid())
            held = room + sum(-(-path.stat().st_size // 4096) * 4096 for path in start.rglob("*") if path.is_file())
            disk("mount", "-t", "tmpfs", "-o", f"size={held}", "none", work)
            shutil.copytree(start, work, dirs_exist_ok=True)
            keep_key(work)
            codes = [main([str(word) for word in argv])]
            disk("mount", "-o", f"remount,size={held + 2**28}", work)
            codes.append(main([str(word) for word in argv]))
            shutil.copytree(work, after)
            (after / "codes").write_text(json.dumps(codes))
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.waitpid(child, 0)
    assert (after / "codes").exists(), Path(os.environ["KILL_LOG"]).read_text()
    codes: list[int] = json.loads((after / "codes").read_text())
    (after / "codes").unlink()
    return codes


def alone(user: int, group: int) -> None:
    """Give this process mounts of its own, which any user may make in a name space of his own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000 | 0x00020000):  # CLONE_NEWUSER, CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def disk(*command: Any) -> None:
    subprocess.run([str(word) for word in command], check=True)


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(entry) for key, entry in value.items() if not TIMES.match(key)}
    if isinstance(value, list):  # the library sums up times in a row of its own, unless training had ended before
        rows = [timeless(entry) for entry in value]
        return [row for row in rows if not (isinstance(row, dict) and row.keys() == {"epoch", "step"})]
    return value


def outcome(folder: Path, unlike: tuple[str, ...]) -> dict[str, Any]:
    """Each file by what is in it, times left out; files that cannot be alike by their name alone."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file():
            continue
        if any(part in name for part in unlike) or name.endswith((".html", "hash.key", "cell.json")):
            found[name] = None
        elif name.endswith(".json"):
            found[name] = timeless(json.loads(path.read_text()))
        else:
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="session")
def given(shared: Path, base: Path, tools: SimpleNamespace) -> SimpleNamespace:
    mails = tools.write_rows(shared / "few.jsonl", tools.mails(users=40, each=2))
    key = shared / "kills.key"
    key.write_text("ab" * 32)
    return SimpleNamespace(base=base, mails=mails, key=key)


@pytest.fixture(scope="session")
def clean(shared: Path, given: SimpleNamespace) -> Callable[[str], SimpleNamespace]:
    """What a command gives that nobody disturbs, the folder that it starts in, and how long it takes."""
    kept: dict[str, SimpleNamespace] = {}

    def of(name: str) -> SimpleNamespace:
        if name not in kept:
            start, done = shared / f"{name} start", shared / f"{name} done"
            start.mkdir()
            for earlier in BEFORE.get(name, ()):
                code, _ = run_for(COMMANDS[earlier](given, start))
                assert code == 0, Path(os.environ["KILL_LOG"]).read_text()
            shutil.copytree(start, done)
            keep_key(done)
            cache(shared / f"{name} cache")
            code, seconds = run_for(COMMANDS[name](given, done))
            assert code == 0, Path(os.environ["KILL_LOG"]).read_text()
            found = outcome(done, UNLIKE.get(name, ()))
            written = size_of(done) - size_of(start)
            kept[name] = SimpleNamespace(start=start, found=found, seconds=seconds, written=written)
        return kept[name]

    return of


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def cache(folder: Path) -> None:
    os.environ["RETICENT_CACHE"] = str(folder)


def keep_key(folder: Path) -> None:
    """Names of units in reports follow from the folder's key: give all trials one."""
    if (folder / "run" / "model").is_dir():
        (folder / "run" / "hash.key").write_text("cd" * 32)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_and_started_again_it_ends_the_same(
    clean: Callable[[str], SimpleNamespace],
    given: SimpleNamespace,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    trial: int,
) -> None:
    import torch

    torch.set_num_threads(1)
    monkeypatch.setenv("KILL_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    undisturbed = clean(name)
    rng = random.Random(f"{name}/{trial}")
    work = shutil.copytree(undisturbed.start, shared / f"{name} trial {trial}")
    keep_key(work)
    cache(tmp_path / "cache")
    if name in BEFORE:
        kernels = shared / f"{name} cache" / "kernels"
        if kernels.is_dir() and trial % 2:  # every second trial has to compile
            shutil.copytree(kernels, tmp_path / "cache" / "kernels", dirs_exist_ok=True)
    argv = COMMANDS[name](given, work)
    for _ in range(rng.choice((1, 1, 2))):
        run_for(argv, rng.uniform(0.02, 1.0) * undisturbed.seconds)
    code, _ = run_for(argv)
    assert code == 0, (tmp_path / "log").read_text()
    found = outcome(work, UNLIKE.get(name, ()))
    assert sorted(found) == sorted(undisturbed.found), "files were left or lost"
    differ = [one for one in found if found[one] != undisturbed.found[one]]
    assert differ == []
    assert not [path.name for path in (tmp_path / "cache").rglob(".*") if not path.name.endswith(".lock")]
    shutil.rmtree(work)


def has_mounts() -> bool:
    """Whether a user may mount a disk of his own here."""
    asked = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None and not subprocess.run(asked, capture_output=True, check=False).returncode
    )


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_runs_full_is_said_and_the_same_command_goes_on_later(
    clean: Callable[[str], SimpleNamespace],
    given: SimpleNamespace,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    share: float,
) -> None:
    import torch

    if not has_mounts():
        pytest.skip("this system lets no user mount a disk")
    torch.set_num_threads(1)
    monkeypatch.setenv("KILL_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    undisturbed = clean(name)
    work = shared / f"{name} disk {share:g}"
    work.mkdir()
    cache(tmp_path / "cache")
    room = int(share * undisturbed.written)
    codes = on_a_small_disk(COMMANDS[name](given, work), work, undisturbed.start, room, after=tmp_path / "after")
    said = (tmp_path / "log").read_text()
    assert codes == [2, 0], said
    assert "Traceback" not in said
    found = outcome(tmp_path / "after", UNLIKE.get(name, ()))
    assert sorted(found) == sorted(undisturbed.found), "files were left or lost"
    assert [one for one in found if found[one] != undisturbed.found[one]] == []
