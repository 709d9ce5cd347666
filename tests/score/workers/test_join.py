# SPDX-License-Identifier: Apache-2.0
"""Hands that fill one store: the tables of one process byte for byte, whoever dies."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reticent.core import hands
from reticent.core.errors import BadInput
from reticent.core.lease import Leases
from reticent.core.record import Record
from reticent.models.load import LoadedModel, load
from reticent.score import cache as store
from reticent.score import engine
from reticent.score import make_tables as plan
from reticent.score import render as rendering
from reticent.score.cache import drop, lease_of
from reticent.score.make_tables import make_tables
from reticent.score.render import render
from reticent.score.requests import PLAIN, Request
from reticent.score.workers.job import Job, ModelPlace, OpenModels, read_job, write_job
from reticent.score.workers.join import HelpingHand, JoinedWorker, join, lead_or_help
from reticent.score.workers.shard_kinds import OpenShards
from reticent.score.workers.worker import HERE, WORKERS, Meeting, read_workers, worker, working
from reticent.testing.tiny import save_tiny

TABLE = Request(name="table")
RECORDS = [Record(id=f"r{i}", text=f"record {i * 7919 % 997} of the customer " * (1 + i % 4)) for i in range(24)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("models") / "target", seed=1))


@pytest.fixture(scope="module")
def target(folder: str) -> LoadedModel:
    return load(folder, dtype="float32")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(rendering, "_SHARD_TOKENS", 120)
    monkeypatch.setattr(hands, "PAUSE", 0.01)


@pytest.fixture
def whole(target: LoadedModel, tmp_path: Path) -> Path:
    return made(target, tmp_path / "whole")


def made(target: LoadedModel, cache: Path, records: list[Record] = RECORDS) -> Path:
    (path,) = make_tables([TABLE], records, target=target, cache=cache).values()
    return path


@contextmanager
def hand(meeting: Path, work: Callable[[], None] = lambda: None) -> Iterator[int]:
    """A fork of this process that helps until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
            helper = HelpingHand(meeting)
            while True:
                helper.help() or time.sleep(0.005)
        finally:
            os._exit(7)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def with_join(target: LoadedModel, cache: Path, records: list[Record] = RECORDS) -> Path:
    with join(Meeting(folder=cache / "jobs" / "one")) as opened, working(opened):
        return made(target, cache, records)


def clean(cache: Path) -> None:
    """Nothing is left but tables."""
    left = [path for path in cache.rglob("*") if path.is_file() and path.parent.name != "tables"]
    assert not left, left
    assert len(list((cache / "tables").iterdir())) == 2


def test_a_job_is_read_as_it_was_written(target: LoadedModel, folder: str, tmp_path: Path) -> None:
    texts = render(RECORDS, PLAIN, tokenizer=target.tokenizer, max_tokens=9)
    side = plan.ScoredModel(loaded=target, off=False, options=plan.ScoreOptions(max_tokens=9))
    files = [tmp_path / f"{i}.parquet" for i in range(len(texts.shards()))]
    work = OpenShards(kind=plan.TABLE_SHARDS, sides=(side,), parts=[*map(texts.part, texts.shards())], files=files)
    for shards in (range(len(files)), [1], [len(files) - 1, 0]):
        job = Job.of(work, shards)
        write_job(job, tmp_path / "job")
        again = read_job(tmp_path / "job")
        assert again is not None
        assert (again.kind, again.models) == (job.kind, job.models)
        assert [file.resolve() for file in again.files] == list(job.files)
        for place, shard in enumerate(shards):
            part, wanted = again.parts[place], work.parts[shard]
            for row, other in zip(part.rows, wanted.rows, strict=True):
                np.testing.assert_array_equal(row.token_id, other.token_id)
                np.testing.assert_array_equal(row.trained, other.trained)
            for name, column in wanted.about.items():
                np.testing.assert_array_equal(part.about[name], column)
                assert part.about[name].dtype == column.dtype
    assert read_job(tmp_path / "none") is None
    assert OpenModels().side(job.models[0]).key == side.key


def test_another_model_than_the_one_meant_is_refused(target: LoadedModel, tmp_path: Path) -> None:
    place = ModelPlace.of(plan.ScoredModel(loaded=target, off=False, options=plan.ScoreOptions()))
    other = str(save_tiny(tmp_path / "other", seed=3))
    with pytest.raises(BadInput, match="is another model in this process than in the one that leads"):
        OpenModels().side(replace(place, source=other))


def test_others_choose_as_the_one_that_leads(target: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are named by its choices, and on another machine others may be open."""
    with monkeypatch.context() as here:
        here.setattr(engine, "resolve_impl", lambda impl, device: ("torch", "no other can be had here"))
        side = plan.ScoredModel(loaded=target, off=False, options=plan.ScoreOptions(tokens_per_batch=64))
        place = ModelPlace.of(side)
    with monkeypatch.context() as there:
        there.setattr(engine, "resolve_impl", lambda impl, device: ("fused" if impl == "auto" else impl, ""))
        assert OpenModels().side(place).choices.key == side.choices.key == ("torch", side.choices.window, 64)


def test_two_hands_make_the_tables_of_one(target: LoadedModel, whole: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    helped = tmp_path / "helped"

    def count() -> None:
        keep = plan.keep
        plan.keep = lambda table, path: (keep(table, path), helped.open("a").write("x"))[0]  # type: ignore[func-returns-value]

    def slower(*given: object, score=plan.score) -> object:  # type: ignore[no-untyped-def]
        time.sleep(0.02)
        return score(*given)

    plan.score, before = slower, plan.score
    try:
        with hand(cache / "jobs" / "one", count):
            path = with_join(target, cache)
    finally:
        plan.score = before
    assert path.name == whole.name
    assert path.read_bytes() == whole.read_bytes()
    clean(cache)
    assert helped.exists(), "nobody helped"


def test_a_hand_that_dies_in_a_shard_loses_only_that(target: LoadedModel, whole: Path, tmp_path: Path) -> None:
    """The other hand dies in its first shard and leaves its lease; this one does all."""
    cache, died = tmp_path / "cache", tmp_path / "died"

    def dies() -> None:
        def die(*given: object) -> None:
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

        plan.score = die  # type: ignore[assignment]

    def waits(*given: object, score=plan.score) -> object:  # type: ignore[no-untyped-def]
        until = time.monotonic() + 20
        while not died.exists() and time.monotonic() < until:
            time.sleep(0.01)
        return score(*given)

    plan.score, before = waits, plan.score
    try:
        with hand(cache / "jobs" / "one", dies):
            path = with_join(target, cache)
    finally:
        plan.score = before
    assert died.exists()
    assert path.read_bytes() == whole.read_bytes()
    clean(cache)


def test_a_shard_whose_holder_is_on_another_machine_is_waited_for_and_then_taken(
    target: LoadedModel, whole: Path, tmp_path: Path
) -> None:
    cache, clock = tmp_path / "cache", [0.0]

    def later() -> float:
        clock[0] += 1.0
        return clock[0]

    class Watching(JoinedWorker):
        def fill(self, work: OpenShards, advance: Callable[[int], None]) -> None:
            self._leases = Leases(later)
            work.files[0].parent.mkdir(parents=True)
            lease_of(work.files[0]).write_text('{"holder": "there", "kernel": "there", "locked": true}')
            super().fill(work, advance)

    with working(Watching(cache / "jobs" / "one")):
        path = made(target, cache)
    assert clock[0] > 60
    assert path.read_bytes() == whole.read_bytes()
    clean(cache)


def test_a_hand_that_was_taken_for_dead_leaves_nothing(target: LoadedModel, tmp_path: Path) -> None:
    """It comes back with its shard when the table is whole and nobody wants it any more."""
    cache, meeting = tmp_path / "cache", tmp_path / "cache" / "jobs" / "one"
    texts = render(RECORDS, PLAIN, tokenizer=target.tokenizer, max_tokens=None)
    side = plan.ScoredModel(loaded=target, off=False, options=plan.ScoreOptions())
    files = [cache / "shards" / f"{i}.parquet" for i in range(len(texts.shards()))]
    files[0].parent.mkdir(parents=True)
    work = OpenShards(kind=plan.TABLE_SHARDS, sides=(side,), parts=[*map(texts.part, texts.shards())], files=files)
    write_job(Job.of(work, [0, 1]), meeting / "job.parquet")
    helper = HelpingHand(meeting)
    keep = plan.keep
    with pytest.MonkeyPatch.context() as patch:
        gone = [meeting / "job.parquet", *map(lease_of, files[:2])]
        patch.setattr(plan, "keep", lambda *given: (keep(*given), [path.unlink(missing_ok=True) for path in gone]))
        assert helper.help()
    assert not list(files[0].parent.iterdir())
    assert not helper.help()


def test_a_shard_that_the_one_that_leads_saw_at_once_is_left_to_it(target: LoadedModel, tmp_path: Path) -> None:
    """It asks no more, and has not read it yet."""
    cache, meeting = tmp_path / "cache", tmp_path / "cache" / "jobs" / "one"
    texts = render(RECORDS, PLAIN, tokenizer=target.tokenizer, max_tokens=None)
    side = plan.ScoredModel(loaded=target, off=False, options=plan.ScoreOptions())
    files = [cache / "shards" / f"{i}.parquet" for i in range(len(texts.shards()))]
    files[0].parent.mkdir(parents=True)
    work = OpenShards(kind=plan.TABLE_SHARDS, sides=(side,), parts=[*map(texts.part, texts.shards())], files=files)
    write_job(Job.of(work, [0]), meeting / "job.parquet")
    keep = plan.keep
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "keep", lambda *given: (keep(*given), (meeting / "job.parquet").unlink()))
        assert HelpingHand(meeting).help()
    assert store.intact(files[0])


def test_two_tables_that_share_a_shard_do_not_trip_each_other(
    target: LoadedModel, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other audit drops it between the check and the read."""
    looked: list[Path] = []

    def dropping(path: Path, intact: Callable[[Path], bool] = store.intact) -> bool:
        there = intact(path)
        if there and path.parent.name == "shards":
            looked.append(path)
            drop(path)
        return there

    monkeypatch.setattr(store, "intact", dropping)
    path = made(target, tmp_path / "cache")
    assert looked
    assert path.read_bytes() == whole.read_bytes()


def test_two_audits_at_one_time_on_one_cache(
    target: LoadedModel, tmp_path: Path, in_a_fork: Callable[..., int]
) -> None:
    """Their tables begin with the same shards, and each drops those when it is done."""
    records = [RECORDS, [*RECORDS, Record(id="more", text="one more text of this kind")]]
    wanted = [made(target, tmp_path / f"alone{i}", records[i]).read_bytes() for i in range(2)]
    for attempt in range(2):
        cache = tmp_path / f"cache{attempt}"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                made(target, cache, records[1])
                code = 0
            finally:
                os._exit(code)
        assert made(target, cache, records[0]).read_bytes() == wanted[0]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert made(target, cache, records[1]).read_bytes() == wanted[1]
        assert not [path for path in (cache / "shards").iterdir() if path.suffix == ".parquet"]


def test_one_leads_and_the_other_gets_its_outcome(target: LoadedModel, whole: Path, tmp_path: Path) -> None:
    meeting, outcome = tmp_path / "cache" / "jobs" / "one", tmp_path / "outcome"
    began, led = tmp_path / "began", tmp_path / "led"

    def lead() -> str:
        began.touch()
        with led.open("a") as file:
            file.write("x")
        time.sleep(0.1)
        outcome.write_bytes(made(target, tmp_path / "cache").read_bytes())
        return "led"

    def take_part() -> str:
        return lead_or_help(meeting, asked="a", lead=lead, done=lambda: "told" if outcome.exists() else None)

    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if take_part() == "led" else 3
        finally:
            os._exit(code)
    while not began.exists():
        time.sleep(0.005)
    assert take_part() == "told"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert led.read_text() == "x"
    assert outcome.read_bytes() == whole.read_bytes()
    clean(tmp_path / "cache")
    assert not (tmp_path / "cache" / "jobs").exists()


def test_when_the_one_that_leads_dies_another_takes_its_place(target: LoadedModel, whole: Path, tmp_path: Path) -> None:
    meeting, began = tmp_path / "cache" / "jobs" / "one", tmp_path / "began"

    def dies() -> str:
        began.touch()
        keep = plan.keep

        def dying(*given: object) -> None:
            keep(*given)  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGKILL)

        plan.keep = dying  # type: ignore[assignment]
        made(target, tmp_path / "cache")
        return "never"

    child = os.fork()
    if child == 0:
        try:
            lead_or_help(meeting, asked="a", lead=dies, done=lambda: None)
        finally:
            os._exit(1)
    while not began.exists():
        time.sleep(0.005)
    path = lead_or_help(meeting, asked="a", lead=lambda: made(target, tmp_path / "cache"), done=lambda: None)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert path.read_bytes() == whole.read_bytes()
    clean(tmp_path / "cache")
    assert not (tmp_path / "cache" / "jobs").exists()


def test_a_hand_with_another_command_or_other_versions_is_refused(tmp_path: Path) -> None:
    meeting = tmp_path / "jobs" / "one"

    def lead() -> None:
        with pytest.raises(
            BadInput, match=r"--workers join: the hand that leads was asked for something else.*torch 9"
        ):
            lead_or_help(meeting, asked="torch 2", lead=lambda: None, done=lambda: None)

    lead_or_help(meeting, asked="torch 9", lead=lead, done=lambda: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "join:2", "ray:", "ray:0", "here", "ranks", "ray:x", "9" * 60, "²"])
def test_what_names_no_workers_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"--workers .* and neither join nor ray") as refused:
        read_workers(text)
    assert len(str(refused.value)) < 400


def test_the_usual_worker_is_this_process_and_takes_away_what_was_left(tmp_path: Path) -> None:
    assert worker() is HERE
    (tmp_path / "jobs" / "one").mkdir(parents=True)
    (tmp_path / "jobs" / "one" / "job.parquet").touch()
    with WORKERS.get("here")(Meeting(folder=tmp_path / "jobs" / "one")) as opened:
        assert opened is worker()
    assert not (tmp_path / "jobs" / "one").exists()


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(target: LoadedModel, whole: Path, tmp_path: Path) -> None:
    """A hand that helps, or the one that leads, at twenty moments; a third one ends it."""
    rng = random.Random(0)
    for number in range(20):
        cache = tmp_path / f"cache{number}"
        meeting = cache / "jobs" / "one"

        def take_part(cache: Path = cache, meeting: Path = meeting) -> int:
            child = os.fork()
            if child == 0:
                try:
                    lead_or_help(meeting, asked="a", lead=lambda: made(target, cache), done=lambda: None)
                finally:
                    os._exit(0)
            return child

        children = [take_part() for _ in range(2)]
        time.sleep(rng.uniform(0, 0.5))
        for child in rng.sample(children, k=rng.choice([1, 1, 2])):
            os.kill(child, signal.SIGKILL)
        path = lead_or_help(meeting, asked="a", lead=lambda cache=cache: made(target, cache), done=lambda: None)
        for child in children:
            os.waitpid(child, 0)
        assert path.read_bytes() == whole.read_bytes(), number
        made(target, cache)  # opens the store, which takes away what a killed process left half-written
        clean(cache)
