# SPDX-License-Identifier: Apache-2.0
"""One audit by all ways to work: the same results but for times, the same bytes of tables, and nothing left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reticent.cli.main import main
from reticent.core import hands
from reticent.core.errors import BadInput
from reticent.core.processes import EndedElsewhere
from reticent.core.progress import console
from reticent.core.run_folder import RunFolder
from reticent.core.sealed import drop, intact
from reticent.models.load import load
from reticent.score import make_tables as plan
from reticent.score import render
from reticent.score.candidates import cached
from reticent.score.generation import generate
from reticent.score.workers import ranks as dealing
from reticent.testing.tiny import save_tiny
from reticent.train import leading
from reticent.workflows.audit import audit

Start = Callable[..., list[int]]
TIMES = ("created", "finished", "seconds")
TEXT = "mail {} of the customer, who asks for the order "
ROWS = {
    "members": [TEXT.format(i * 7919 % 997) * (1 + i % 3) for i in range(40)],
    "held_out": [TEXT.format(i * 104729 % 997) * (1 + i % 3) for i in range(40)],
}
COMMAND = ["audit", "--model", "model", "--reference", "base", "--members", "members.jsonl", "--held_out"]
COMMAND = [*COMMAND, "held_out.jsonl", "--attacks", "loss,ref_diff", "--dtype", "float32", "--device", "cpu"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> tuple[Path, int]:
    """A folder with models, texts and the audit ``one`` of one process, and how many shards that had."""
    folder, scored = tmp_path_factory.mktemp("scene"), []
    save_tiny(folder / "model", seed=1)
    save_tiny(folder / "base", seed=2)
    for name, texts in ROWS.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with pytest.MonkeyPatch.context() as patch:
        small(patch, folder)
        score = plan.score
        patch.setattr(plan, "score", lambda *given: (scored.append(1), score(*given))[1])
        assert by("one") == 0
        return folder, len(scored)


def small(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.chdir(folder)
    patch.setattr(render, "_SHARD_TOKENS", 700)
    patch.setattr(hands, "PAUSE", 0.02)
    patch.setattr(leading, "FAREWELL", 30.0)  # however slow this machine is just now
    patch.setattr(RunFolder, "hash_key", lambda self: "0" * 64)
    patch.setenv("RETICENT_CACHE", "store")


@pytest.fixture(autouse=True)
def shards(scene: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> int:
    small(monkeypatch, scene[0])
    return scene[1]


def by(name: str, *more: str) -> int:
    """The audit into a folder and with a store of that name."""
    os.environ["RETICENT_CACHE"] = f"store-{name}"
    return main([*COMMAND, "--out", name, *more])


def outcome(name: str) -> Any:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if not any(part in key for part in TIMES)}
        return [plain(item) for item in value] if isinstance(value, list) else value

    return plain(json.loads(Path(name, "results.json").read_text()))


def same(one: str, other: str) -> None:
    assert outcome(one) == outcome(other)
    files = [sorted(path.name for path in Path(name).iterdir()) for name in (one, other)]
    assert files[0] == files[1]
    stores = [
        {path.name: path.read_bytes() for path in Path(f"store-{name}", "tables", "tables").iterdir()}
        for name in (one, other)
    ]
    assert stores[0] == stores[1]
    left = [
        path for path in Path(f"store-{other}", "tables").rglob("*") if path.is_file() and path.parent.name != "tables"
    ]
    assert not left, left
    assert not Path(f"store-{other}", "tables", "jobs").exists()


def forked(work: Callable[[], int]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work()
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_two_hands_do_what_one_does(capfd: pytest.CaptureFixture[str]) -> None:
    children = [forked(lambda: by("joined", "--workers", "join")) for _ in range(2)]
    assert [ended(child) for child in children] == [0, 0]
    same("one", "joined")
    assert by("joined", "--workers", "join") == 0, "the same command again"
    same("one", "joined")


def test_ranks_do_what_one_does(in_ranks: Start) -> None:
    assert in_ranks(lambda rank: by("dealt")) == [0, 0]
    same("one", "dealt")


def test_a_shard_of_a_rank_that_another_audit_drops_is_scored_again(in_ranks: Start) -> None:
    def dropped(rank: int) -> int:
        if rank:
            keep = plan.keep
            plan.keep = lambda table, path: (keep(table, path), drop(path))[0]  # this process is a fork
        return by("dropped")

    assert in_ranks(dropped) == [0, 0]
    same("one", "dropped")


def test_ranks_that_look_into_other_stores_are_refused(in_ranks: Start, capfd: pytest.CaptureFixture[str]) -> None:
    def elsewhere(rank: int) -> int:
        console.quiet = False
        dealing._witness = lambda folder: nullcontext(folder / "only-here")  # type: ignore[assignment]
        return by("unseen")

    assert 0 not in in_ranks(elsewhere)
    assert "is the store of process 0, and not all processes work in it" in " ".join(capfd.readouterr().err.split())


def test_spawned_workers_do_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process may come too late for so little; then this one does all."""
    score = plan.score
    monkeypatch.setattr(plan, "score", lambda *given: (time.sleep(0.2), score(*given))[1])
    assert by("spawned", "--workers", "2") == 0
    same("one", "spawned")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.slow
def test_a_spawned_worker_takes_its_part(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    """This one is slowed down until the other one, which imports torch first, has made some."""
    score, scored = plan.score, []

    def slow(*given: Any) -> Any:
        scored.append(1)
        until = time.monotonic() + 60
        while len(scored) == 1 and not list(Path("store-part").rglob("shards/*.parquet")) and time.monotonic() < until:
            time.sleep(0.1)
        return score(*given)

    monkeypatch.setattr(plan, "score", slow)
    assert by("part", "--workers", "2") == 0
    assert len(scored) < shards
    same("one", "part")


def test_the_hand_that_leads_dies_and_the_other_ends_it() -> None:
    def dies() -> int:
        keep, kept = plan.keep, []

        def dying(*given: Any) -> None:
            keep(*given)
            kept.append(1)
            if len(kept) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        plan.keep = dying
        return by("led", "--workers", "join")

    first = forked(dies)
    while not list(Path("store-led").rglob("lead.lease")):
        time.sleep(0.01)
    second = forked(lambda: by("led", "--workers", "join"))
    assert ended(first) == -signal.SIGKILL
    assert ended(second) == 0
    same("one", "led")


@pytest.mark.parametrize("which", [0, 1])
def test_a_rank_that_dies_ends_the_others_and_its_shards_are_kept(
    in_ranks: Start, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shards: int, which: int
) -> None:
    name = f"rank{which}"

    def dies(rank: int) -> int:
        console.quiet = False
        leading.FAREWELL = leading.LINGER = 0.5  # this process is a fork
        keep = plan.keep

        def dying(*given: Any) -> None:
            keep(*given)
            if rank == which:
                os.kill(os.getpid(), signal.SIGKILL)

        plan.keep = dying  # type: ignore[assignment]
        return by(name)

    codes = in_ranks(dies)
    assert codes[which] == -signal.SIGKILL
    assert codes[1 - which] == 2
    said = capfd.readouterr().err
    assert said.count("ended without a word") == 1
    assert "the same command goes on where it was" in said
    made = len(list(Path(f"store-{name}").rglob("shards/*.parquet")))
    scored: list[int] = []
    score = plan.score
    monkeypatch.setattr(plan, "score", lambda *given: (scored.append(1), score(*given))[1])
    assert by(name) == 0
    assert 1 <= made == shards - len(scored)
    same("one", name)


# ---- texts that models write, ranked candidates, proposed words ------------------------------------------------------

PERSONAL = {
    name: [f"please write to {who}{i * 7919 % 997}@mail.example about the order {i}, in the mail" for i in range(12)]
    for name, who in (("trained", "ann"), ("untouched", "bob"))
}
WRITTEN = ["audit", "--model", "model", "--reference", "base", "--members", "trained.jsonl", "--held_out"]
WRITTEN = [*WRITTEN, "untouched.jsonl", "--attacks", "loss,neighbourhood", "--dtype", "float32", "--device", "cpu"]
WRITTEN = [*WRITTEN, "--extraction", "true", "--extraction_samples", "1", "--max_tokens", "64"]


def written_by(name: str, *more: str) -> int:
    """An audit with all that is made in shards."""
    os.environ["RETICENT_CACHE"] = f"store-{name}"
    return main([*WRITTEN, "--out", name, *more])


@pytest.fixture(scope="module")
def written(scene: tuple[Path, int]) -> dict[str, bytes]:
    """What an audit of one process keeps, by name."""
    with pytest.MonkeyPatch.context() as patch:
        small(patch, scene[0])
        smaller(patch)
        for name, texts in PERSONAL.items():
            Path(f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        assert written_by("alone") == 0
        kept = kept_of("alone")
    assert {Path(name).parent.name for name in kept} == {"candidates", "generations", "proposals", "tables"}
    return kept


def smaller(patch: pytest.MonkeyPatch) -> None:
    for module, name, size in ((generate, "_SHARD_TOKENS", 900), (cached, "SHARD", 3), (render, "_BLOCK", 40)):
        patch.setattr(module, name, size)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller(monkeypatch)


def kept_of(name: str) -> dict[str, bytes]:
    """All files of a store, but for compiled kernels: only a process that was started new compiles."""
    store = Path(f"store-{name}")
    files = {path.relative_to(store): path for path in store.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in files.items() if name.parts[0] != "kernels"}


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_hands_share_what_models_write(written: dict[str, bytes]) -> None:
    children = [forked(lambda: written_by("shared", "--workers", "join")) for _ in range(2)]
    assert [ended(child) for child in children] == [0, 0]
    assert outcome("shared") == outcome("alone")
    assert kept_of("shared") == written


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_ranks_share_what_models_write(written: dict[str, bytes], in_ranks: Start) -> None:
    assert in_ranks(lambda rank: written_by("shared out")) == [0, 0]
    assert outcome("shared out") == outcome("alone")
    assert kept_of("shared out") == written


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_spawned_workers_share_what_models_write(written: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    make = generate._generate
    monkeypatch.setattr(generate, "_generate", lambda *given: (time.sleep(1), make(*given))[1])
    assert written_by("started", "--workers", "2") == 0
    assert outcome("started") == outcome("alone")
    assert kept_of("started") == written


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_kills_while_models_write_lose_nothing(written: dict[str, bytes]) -> None:
    began, rng, killed = time.monotonic(), random.Random(3), 0
    assert written_by("timed too") == 0
    seconds = time.monotonic() - began
    for number in range(4):
        name, moments = f"killed{number}", {hand: rng.uniform(0, seconds) for hand in rng.choice([(0,), (1,), (0, 1)])}

        def takes_part(hand: int, name: str = name, moments: dict[int, float] = moments) -> int:
            if hand in moments:
                soon(moments[hand])
            return written_by(name, "--workers", "join")

        codes = [ended(child) for child in [forked(partial(takes_part, hand)) for hand in range(2)]]
        assert all(code == 0 or (code == -signal.SIGKILL and hand in moments) for hand, code in enumerate(codes)), codes
        killed += -signal.SIGKILL in codes
        assert written_by(name, "--workers", "join") == 0
        assert outcome(name) == outcome("alone")
        assert kept_of(name) == written
    assert killed, "some are killed before they are done"


# ---- kills at random moments -----------------------------------------------------------------------------------------


def soon(seconds: float) -> None:
    """Kill this process in a while, should it be there still."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()


def goes_on(name: str, shards: int, *more: str) -> None:
    """The same command ends what was begun: no shard that is there is scored again, and nobody is left."""
    there = sum(intact(path) for path in Path(f"store-{name}").rglob("shards/*.parquet"))
    score, scored = plan.score, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "score", lambda *given: (scored.append(1), score(*given))[1])
        assert by(name, *more) == 0
    assert len(scored) <= shards - there
    same("one", name)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture
def seconds() -> float:
    """Of one audit in one process."""
    started = time.monotonic()
    assert by("timed") == 0
    return time.monotonic() - started


@pytest.mark.slow
def test_kills_of_ranks_lose_nothing(in_ranks: Start, shards: int, seconds: float) -> None:
    rng, killed = random.Random(0), 0
    for number in range(15):
        name, moments = f"ranks{number}", {rank: rng.uniform(0, seconds) for rank in rng.choice([(0,), (1,), (0, 1)])}

        def dies(rank: int, name: str = name, moments: dict[int, float] = moments) -> int:
            leading.FAREWELL = leading.LINGER = 0.5  # this process is a fork
            leading.JOIN = timedelta(seconds=20)  # for one that dies before the others met it
            if rank in moments:
                soon(moments[rank])
            return by(name)

        codes = in_ranks(dies)
        assert set(codes) <= {0, 2, -signal.SIGKILL}, codes
        killed += -signal.SIGKILL in codes
        goes_on(name, shards)
    assert killed >= 5, "most are killed before they are done"


@pytest.mark.slow
def test_kills_of_hands_lose_nothing(shards: int, seconds: float) -> None:
    rng, killed = random.Random(1), 0
    for number in range(15):
        name, moments = f"hands{number}", {hand: rng.uniform(0, seconds) for hand in rng.choice([(0,), (1,), (0, 1)])}

        def takes_part(hand: int, name: str = name, moments: dict[int, float] = moments) -> int:
            if hand in moments:
                soon(moments[hand])
            return by(name, "--workers", "join")

        children = [forked(partial(takes_part, hand)) for hand in range(2)]
        codes = [ended(child) for child in children]
        assert all(code == 0 or (code == -signal.SIGKILL and hand in moments) for hand, code in enumerate(codes)), codes
        killed += -signal.SIGKILL in codes
        goes_on(name, shards, "--workers", "join")
    assert killed >= 5, "most are killed before they are done"


@pytest.mark.slow
def test_kills_of_spawned_workers_lose_nothing(shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the process that leads, or of the one that it started. That one imports torch first, so this one is slow."""
    score, rng, killed = plan.score, random.Random(2), 0
    for number in range(10):
        name, moment, leads = f"started{number}", rng.uniform(0, 4), rng.random() < 0.5
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan, "score", lambda *given: (time.sleep(0.3), score(*given))[1])
            leader = forked(lambda name=name: by(name, "--workers", "2"))  # type: ignore[misc]
        time.sleep(moment)
        others = children_of(leader)
        for process in [leader] if leads else others:
            os.kill(process, signal.SIGKILL)
            killed += 1
        assert ended(leader) == (-signal.SIGKILL if leads else 0)
        until = time.monotonic() + 30
        while any(is_worker(process) for process in others) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(is_worker(process) for process in others)
        goes_on(name, shards)
    assert killed >= 5, "most are killed before they are done"


def children_of(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_worker(process: int) -> bool:
    try:
        return b"reticent.score.workers.spawned" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_rank_that_was_asked_for_something_else_is_refused(
    in_ranks: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    assert in_ranks(lambda rank: by("apart", "--seed", str(rank))) == [2, 2]
    assert "process 1 of 2: was asked for something else than process 0 (reticent audit)" in capfd.readouterr().err
    assert not Path("apart").exists()


def test_a_hand_that_was_asked_for_something_else_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    score = plan.score

    def slow(*given: Any) -> Any:
        time.sleep(0.5)
        return score(*given)

    plan.score = slow
    try:
        first = forked(lambda: by("asked", "--workers", "join"))
    finally:
        plan.score = score
    while not list(Path("store-asked").rglob("lead.lease")):
        time.sleep(0.01)
    assert by("asked", "--workers", "join", "--seed", "3") == 2
    assert "the hand that leads was asked for something else, or has other versions" in capfd.readouterr().err
    assert ended(first) == 0


def test_what_cannot_be_shared_is_refused(
    capfd: pytest.CaptureFixture[str], in_ranks: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert by("refused", "--workers", "many") == 2
    assert "--workers many: is no number from 1" in capfd.readouterr().err
    assert in_ranks(lambda rank: by("refused", "--workers", "2")) == [2, 2]
    assert "a launcher started the workers already" in capfd.readouterr().err
    loaded = load("model", dtype="float32")
    objects = {"model": loaded.model, "tokenizer": loaded.tokenizer, **ROWS}
    with pytest.raises(BadInput, match="the model is in the memory of one process"):
        audit(out="refused", workers=2, **objects)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises((BadInput, EndedElsewhere), match="objects are in the memory of each process"):
        audit(out="refused", **objects)
    assert not Path("refused").exists()
