# SPDX-License-Identifier: Apache-2.0
"""Whatever is made of shards: the same bytes by whoever makes them, nothing twice, and a death costs one shard."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reticent.core import hands
from reticent.core.record import Message, Record
from reticent.models.load import LoadedModel, load
from reticent.score import render as rendering
from reticent.score.candidates import cached
from reticent.score.candidates.masked import MaskedSpan
from reticent.score.engine import ScoreOptions
from reticent.score.generation import generate
from reticent.score.generation.scheme import Scheme
from reticent.score.internals import gradients, hidden, internals
from reticent.score.internals.internals import cached_internals
from reticent.score.make_tables import _proposer
from reticent.score.requests import Variant
from reticent.score.scored_model import ScoredModel
from reticent.score.workers.job import Job, OpenModels, read_job, write_job
from reticent.score.workers.join import HelpingHand, join
from reticent.score.workers.shard_kinds import SHARD_KINDS, OpenShards, told_nobody
from reticent.score.workers.worker import HERE, WORKERS, Meeting, working
from reticent.testing.tiny import save_tiny
from reticent.train.leading import led
from reticent.train.ranks import ranks

KINDS = ("candidates", "generations", "proposals")
SAMPLED = Scheme(temperature=0.9, top_k=40, top_p=0.95)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(str(save_tiny(tmp_path_factory.mktemp("models") / "target", seed=1)), dtype="float32", device="cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(generate, "_SHARD_TOKENS", 24)
    monkeypatch.setattr(cached, "SHARD", 2)
    monkeypatch.setattr(rendering, "_BLOCK", 4)
    monkeypatch.setattr(hands, "PAUSE", 0.01)


def make(kind: str, target: LoadedModel, cache: Path) -> Any:
    """Seven or so shards of a kind, as an audit asks for them; and what it gets, in plain values."""
    side = ScoredModel(loaded=target, off=False, options=ScoreOptions(tokens_per_batch=64))
    if kind == "generations":
        made = generate.make_generations(
            side,
            [list(range(5, 7 + number % 4)) for number in range(12)],
            max_new_tokens=[4 + number % 3 for number in range(12)],
            samples=3,
            scheme=SAMPLED,
            seed=5,
            keys=[f"secret\ud800 {number}" for number in range(12)],
            cache=cache,
        )
        return [made.token_id.tolist(), made.logp.tolist(), made.offsets.tolist(), made.row.tolist()]
    if kind == "candidates":
        records = [Record(id=f"r{number}", text=f"order {number} goes to Ann by the river") for number in range(13)]
        spans = [
            MaskedSpan(record=record, start=at, end=at + 3, candidates=("Ann", "Bo", "Cornelius"))
            for record in records
            for at in [(record.text or "").index("Ann")]
        ]
        scores = cached.make_candidate_scores(side, spans, follow=2, before=True, cache=cache)
        return [[one.logp.tolist(), one.tokens.tolist(), one.before] for one in scores]
    records = [Record(id=f"r{number}", text=f"the order {number} is in the mail of the day") for number in range(12)]
    records += [Record(id="p", prompt="Where is it?", completion="On the way, Zoë — 東京 at last.", user="ana")]
    records += [Record(id="m", messages=(Message(role="user", content="hi"), Message(role="assistant", content="so")))]
    near = Variant(name="near", copies=2, render=lambda record, context: context.propose(record, 2, 0.3))
    texts = rendering.render(
        records, near, tokenizer=target.tokenizer, max_tokens=None, proposer=_proposer(side, cache)
    )
    return [row.token_id.tolist() for row in texts.rows]


def stored(cache: Path) -> dict[str, bytes]:
    """All that is kept; nothing else is left."""
    files = {path.name: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in files} == {".parquet", ".sha256"}, files.keys()
    return files


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[int]]:
    """The processes that made the shards, one for each that was made, in this process and its forks."""
    log, here = tmp_path / "made", os.getpid()
    waits = tmp_path / "waits"

    def counting(self: Any, part: Any, sides: Any, advance: Any, original: Any) -> Any:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        until = time.monotonic() + 60
        while os.getpid() == here and waits.exists() and time.monotonic() < until:
            if log.read_text().split()[-1] != str(here):
                waits.unlink()
            time.sleep(0.01)
        return original(self, part, sides, advance)

    for name in (*KINDS, "internals"):
        cls = type(SHARD_KINDS.get(name))
        monkeypatch.setattr(cls, "make", lambda *given, original=cls.make: counting(*given, original=original))
    return lambda: [int(line) for line in log.read_text().split()] if log.exists() else []


def forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def helped(meeting: Path, before: Callable[[], None] = lambda: None) -> None:
    before()
    helper = HelpingHand(meeting)
    while True:
        helper.help() or time.sleep(0.005)


@contextmanager
def hand(meeting: Path, before: Callable[[], None] = lambda: None) -> Iterator[int]:
    child = forked(partial(helped, meeting, before))
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def joined(kind: str, target: LoadedModel, cache: Path) -> Any:
    with join(Meeting(folder=cache / "jobs" / "one")) as opened, working(opened):
        return make(kind, target, cache)


class Noting:
    """Fills the store as one process does, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[OpenShards] = []

    def fill(self, work: OpenShards, advance: Any) -> None:
        self.asked.append(work)
        HERE.fill(work, advance)


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_makes_the_same_of_what_is_written_for_it(
    kind: str, target: LoadedModel, tmp_path: Path
) -> None:
    noting = Noting()
    with working(noting):
        make(kind, target, tmp_path / "cache")
    work = noting.asked[0]
    assert len(work.files) >= 6
    whole = stored(tmp_path / "cache")
    write_job(Job.of(work, range(len(work.files))), tmp_path / "job")
    job = read_job(tmp_path / "job")
    assert job is not None
    assert not job.passing
    again = job.opened(OpenModels())
    for shard, file in enumerate(work.files):
        assert again.size(shard) == work.size(shard)
        file.unlink()
        again.make(shard, told_nobody)
    assert stored(tmp_path / "cache") == whole


@pytest.mark.parametrize("kind", KINDS)
def test_two_hands_make_what_one_process_does_and_nothing_twice(
    kind: str, target: LoadedModel, tmp_path: Path, counted: Callable[[], list[int]]
) -> None:
    plain = make(kind, target, tmp_path / "whole")
    shards = len(counted())
    cache = tmp_path / "cache"
    (tmp_path / "waits").touch()  # this process for the other, which opens the model first
    with hand(cache / "jobs" / "one") as other:
        assert joined(kind, target, cache) == plain
        made = counted()[shards:]
    assert len(made) == shards, "each once"
    assert set(made) == {os.getpid(), other}, "and both took part"
    assert stored(cache) == stored(tmp_path / "whole")
    assert joined(kind, target, cache) == plain
    assert len(counted()) == 2 * shards


@pytest.mark.parametrize("kind", KINDS)
def test_a_hand_that_dies_in_a_shard_loses_only_that(kind: str, target: LoadedModel, tmp_path: Path) -> None:
    plain, cache, died = make(kind, target, tmp_path / "whole"), tmp_path / "cache", tmp_path / "died"
    cls = type(SHARD_KINDS.get(kind))

    def dies() -> None:
        def die(*given: object) -> None:
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

        cls.make = die  # type: ignore[method-assign]

    def waits(*given: Any, original: Any = cls.make) -> Any:
        until = time.monotonic() + 60
        while not died.exists() and time.monotonic() < until:
            time.sleep(0.01)
        return original(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cls, "make", waits)
        with hand(cache / "jobs" / "one", dies):
            assert joined(kind, target, cache) == plain
    assert died.exists()
    assert stored(cache) == stored(tmp_path / "whole")


@pytest.mark.parametrize("way", ["here", "join"])
def test_two_at_one_time_make_nothing_twice(
    way: str, target: LoadedModel, tmp_path: Path, counted: Callable[[], list[int]]
) -> None:
    """Two commands that know nothing of each other; the other one is alone or has a meeting of its own."""
    make("generations", target, tmp_path / "whole")
    shards, cache = len(counted()), tmp_path / "cache"

    def other() -> None:
        with WORKERS.get(way)(Meeting(folder=cache / "jobs" / "other")) as opened, working(opened):
            make("generations", target, cache)

    child = forked(other)
    make("generations", target, cache)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(counted()) == 2 * shards
    assert stored(cache) == stored(tmp_path / "whole")


def test_one_that_is_killed_leaves_whole_shards_and_a_lease_that_the_next_takes_over(
    target: LoadedModel, tmp_path: Path, counted: Callable[[], list[int]]
) -> None:
    plain, cache = make("generations", target, tmp_path / "whole"), tmp_path / "cache"
    shards = len(counted())

    def dies() -> None:
        run = generate._generate

        def dying(*given: Any) -> Any:
            if len(counted()) == shards + 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return run(*given)

        generate._generate = dying
        make("generations", target, cache)

    assert os.waitstatus_to_exitcode(os.waitpid(forked(dies), 0)[1]) == -signal.SIGKILL
    assert list(cache.rglob("*.lease"))
    assert make("generations", target, cache) == plain
    assert len(counted()) == shards + 3 + shards - 2
    assert stored(cache) == stored(tmp_path / "whole")


def test_a_late_hand_leaves_what_is_wanted_for_itself(
    target: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody took it for dead. A shard of a table would go; a text that was generated stays."""
    noting = Noting()
    with working(noting):
        make("generations", target, tmp_path / "cache")
    work, whole, path = noting.asked[0], stored(tmp_path / "cache"), tmp_path / "jobs" / "job.parquet"
    for file in work.files[:2]:
        file.unlink()
        file.with_suffix(".sha256").unlink()
    write_job(Job.of(work, [0, 1]), path)
    seal = generate.seal
    monkeypatch.setattr(generate, "seal", lambda file: (seal(file), path.unlink(missing_ok=True)))
    helper = HelpingHand(path.parent)
    assert helper.help()
    assert not helper.help()
    assert stored(tmp_path / "cache") == {
        name: content for name, content in whole.items() if work.files[0].stem not in name
    }


def test_how_many_take_part_decides_nothing_of_what_is_drawn(target: LoadedModel, tmp_path: Path) -> None:
    """Each text is drawn by uniforms of its own: shards that are made in another order are the same."""
    noting = Noting()
    with working(noting):
        make("generations", target, tmp_path / "cache")
    work, whole = noting.asked[0], stored(tmp_path / "cache")
    for shard in reversed(range(len(work.files))):
        work.files[shard].unlink()
        work.make(shard, told_nobody)
    assert stored(tmp_path / "cache") == whole


def test_ranks_write_what_one_process_writes(
    target: LoadedModel, tmp_path: Path, in_ranks: Callable[..., list[int]], counted: Callable[[], list[int]]
) -> None:
    for kind in KINDS:
        make(kind, target, tmp_path / "whole" / kind)
    shards = len(counted())

    def lead() -> None:
        with WORKERS.get("ranks")(Meeting(folder=tmp_path / "jobs" / "one", crew=ranks)) as opened, working(opened):
            for kind in KINDS:
                make(kind, target, tmp_path / "cache" / kind)

    assert in_ranks(lambda rank: led("audit", lambda: (), lead) and 0) == [0, 0]
    made = counted()[shards:]
    assert len(made) == shards
    assert len(set(made)) == 2
    for kind in KINDS:
        assert stored(tmp_path / "cache" / kind) == stored(tmp_path / "whole" / kind)


def read_inside(models: tuple[LoadedModel, LoadedModel], cache: Path) -> list[Any]:
    records = [Record(id=f"r{number}", text=f"the order {number} is in the mail") for number in range(9)]
    found = cached_internals(*models, records, cache=cache, options=ScoreOptions(max_tokens=30))
    return [list(columns.items()) for columns in (found.forward, found.backward)]


def test_hands_share_gradients_and_states(
    target: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Callable[[], list[int]]
) -> None:
    """Which are of two models at once; nothing is left but what they are joined to."""
    reference = load(str(save_tiny(tmp_path / "reference", seed=2)), dtype="float32", device="cpu")
    monkeypatch.setattr(hidden, "_AT_ONCE", 3)
    monkeypatch.setattr(gradients, "_TOKENS_PER_BATCH", {"cpu": 64, "cuda": 64})
    monkeypatch.setattr(internals, "_LOT_TOKENS", 64)
    read_inside((target, reference), tmp_path / "whole")
    shards = len(counted())
    assert shards >= 5
    cache = tmp_path / "cache"
    (tmp_path / "waits").touch()
    with (
        hand(cache / "jobs" / "one") as other,
        join(Meeting(folder=cache / "jobs" / "one")) as opened,
        working(opened),
    ):
        read_inside((target, reference), cache)
    made = counted()[shards:]
    assert len(made) == shards
    assert set(made) == {os.getpid(), other}
    assert stored(cache) == stored(tmp_path / "whole")
    assert len(stored(cache)) == 2
