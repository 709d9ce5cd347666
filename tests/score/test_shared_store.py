# SPDX-License-Identifier: Apache-2.0
"""A store behind an address: what one machine made another does not make again, to the same bytes."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from reticent.cli.main import main
from reticent.core import sealed
from reticent.core.errors import BadInput, Unusable
from reticent.core.record import Record
from reticent.core.shared_store import SharedStore, _opened, store_address
from reticent.core.user_cache import user_cache
from reticent.models.load import LoadedModel, load
from reticent.score import cache as kept_files
from reticent.score import make_tables as plan
from reticent.score import render as rendering
from reticent.score.engine import ScoreOptions
from reticent.score.generation.generate import make_generations
from reticent.score.make_tables import make_tables
from reticent.score.requests import Request
from reticent.score.scored_model import ScoredModel
from reticent.score.workers import join as joining
from reticent.testing.tiny import save_tiny

RECORDS = [Record(id=f"r{i}", text=f"record {i * 7919 % 997} of the customer " * (1 + i % 4)) for i in range(24)]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> LoadedModel:
    return load(str(save_tiny(tmp_path_factory.mktemp("models") / "target", seed=1)), dtype="float32")


@pytest.fixture(autouse=True)
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each shard that is scored."""
    score, counted = plan.score, []
    monkeypatch.setattr(plan, "score", lambda *given: (counted.append(1), score(*given))[1])
    monkeypatch.setattr(rendering, "_SHARD_TOKENS", 120)
    _opened.cache_clear()
    return counted


@pytest.fixture(params=["memory", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/there"
    fsspec.filesystem("memory").store.clear()
    return "memory://there"


def on(machine: Path, address: str, patch: pytest.MonkeyPatch) -> None:
    """Work as another machine with the same store."""
    patch.setenv("RETICENT_CACHE", address)
    patch.setenv("XDG_CACHE_HOME", str(machine))


def table(target: LoadedModel, cache: Path | None = None) -> bytes:
    (path,) = make_tables([Request(name="t")], RECORDS, target=target, cache=cache or user_cache() / "tables").values()
    return path.read_bytes()


def names(address: str) -> list[str]:
    files, place = fsspec.core.url_to_fs(address)
    return sorted(name.removeprefix(place).lstrip("/") for name in files.find(place))


def test_what_one_machine_made_another_does_not_make_again(
    target: LoadedModel, address: str, scored: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = table(target, tmp_path / "alone")
    count = len(scored)
    assert count > 3
    on(tmp_path / "one", address, monkeypatch)
    assert user_cache() == tmp_path / "one" / "reticent"
    assert table(target) == alone
    assert len(scored) == 2 * count
    assert [name.split("/")[:2] for name in names(address)] == [["tables", "tables"]] * 2, "shards went with the table"
    on(tmp_path / "two", address, monkeypatch)
    assert table(target) == alone
    assert len(scored) == 2 * count
    kept = [path for path in (tmp_path / "two").rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)


def test_shards_of_a_machine_that_went_are_taken_over(
    target: LoadedModel, address: str, scored: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = table(target, tmp_path / "alone")
    count = len(scored)
    on(tmp_path / "one", address, monkeypatch)
    with pytest.MonkeyPatch.context() as patch:
        score = plan.score
        patch.setattr(plan, "score", lambda *given: score(*given) if len(scored) < count + 2 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            table(target)
    on(tmp_path / "two", address, monkeypatch)
    assert table(target) == alone
    assert len(scored) == 2 * count


@pytest.mark.parametrize("what", ["cut", "seal", "no seal"])
def test_a_file_that_is_not_whole_is_made_again(
    target: LoadedModel, address: str, what: str, scored: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(tmp_path / "one", address, monkeypatch)
    whole = table(target)
    count = len(scored)
    files, place = fsspec.core.url_to_fs(address)
    for name in files.find(place):
        is_table = name.endswith(".parquet")
        if what == "no seal" and not is_table:
            files.rm_file(name)
        elif what == ("cut" if is_table else "seal"):
            files.pipe_file(name, files.cat_file(name)[:20])
    on(tmp_path / "two", address, monkeypatch)
    assert table(target) == whole
    assert len(scored) == 2 * count
    on(tmp_path / "three", address, monkeypatch)
    assert table(target) == whole
    assert len(scored) == 2 * count, "and the store has it whole again"


def test_generations_are_shared_too(target: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reticent.score.generation import generate

    side = ScoredModel(loaded=target, off=False, options=ScoreOptions())
    fsspec.filesystem("memory").store.clear()
    written = []
    make = generate._generate
    monkeypatch.setattr(generate, "_generate", lambda *given: (written.append(1), make(*given))[1])
    for machine in ("one", "two"):
        on(tmp_path / machine, "memory://there", monkeypatch)
        made = make_generations(side, [[1, 2, 3]], max_new_tokens=4, cache=user_cache() / "tables", title="x")
        assert len(made) == 1
    assert len(written) == 1


def test_files_outside_the_cache_stay_here(
    target: LoadedModel, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(tmp_path / "one", address, monkeypatch)
    table(target, tmp_path / "elsewhere")
    assert names(address) == []


def test_an_address_that_cannot_be_opened_is_refused(
    target: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(tmp_path / "one", "nosuch://user:secret@there", monkeypatch)
    with pytest.raises(BadInput, match=r"RETICENT_CACHE=nosuch://…@there: cannot be used \(ValueError"):
        table(target)


def test_a_store_that_cannot_be_written_says_so(
    target: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: Any, **more: Any) -> None:
        raise PermissionError("access denied")

    on(tmp_path / "one", "memory://there", monkeypatch)
    fsspec.filesystem("memory").store.clear()
    monkeypatch.setattr(fsspec.filesystem("memory"), "put_file", refused)
    with pytest.raises(Unusable, match=r"cannot be used \(PermissionError: access denied\)"):
        table(target)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The files of an empty store that is asked for."""
    on(tmp_path / "one", "memory://there", monkeypatch)
    files = fsspec.filesystem("memory")
    files.store.clear()
    return files


def a_file() -> Path:
    path = user_cache() / "tables" / "shards" / "a.parquet"
    path.parent.mkdir(parents=True)
    path.write_text("text")
    return path


def test_a_store_that_is_not_there_says_so(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*given: Any, **more: Any) -> None:
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr(store, "put_file", missing)
    with pytest.raises(Unusable, match=r"RETICENT_CACHE=memory://there: cannot be used .*bucket does not exist"):
        kept_files.seal(a_file())


def test_a_bucket_that_was_mistyped_is_not_made(store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As stores of buckets do it: a file in a bucket that is not there is refused, and making a folder makes it."""
    made: list[str] = []

    class Buckets(type(store)):  # type: ignore[misc]
        def put_file(self, source: str, name: str, **more: Any) -> None:
            raise FileNotFoundError("The specified bucket does not exist")

        def exists(self, name: str, **more: Any) -> bool:
            return False

        def makedirs(self, name: str, exist_ok: bool = False) -> None:
            made.append(name)

    there = SharedStore(address="s3://mistyped/place", files=Buckets(), place="mistyped/place", local=tmp_path)
    with pytest.raises(Unusable, match=r"s3://mistyped/place: cannot be used .*there is no mistyped"):
        there.offer(tmp_path / "a.parquet")
    assert made == []
    assert list(tmp_path.glob(".probe*")) == []


def test_a_folder_is_made_though_a_store_tells_of_it_in_words_of_its_own(tmp_path: Path) -> None:
    """As stores over FTP, SMB and WebDAV do it, whose errors are no FileNotFoundError."""

    class Strict(LocalFileSystem):  # type: ignore[misc]
        cachable = False

        def put_file(self, source: str, name: str, **more: Any) -> None:
            if not Path(name).parent.is_dir():
                raise OSError("550 Requested action not taken")
            super().put_file(source, name, **more)

    local, place = tmp_path / "here", tmp_path / "there"
    path = local / "tables" / "a.parquet"
    path.parent.mkdir(parents=True)
    path.write_text("text")
    sealed.seal(path)
    SharedStore(address="ftp://there", files=Strict(), place=str(place), local=local).offer(path)
    assert sorted(kept.name for kept in place.rglob("*.*")) == ["a.parquet", "a.sha256"]


def test_a_store_without_the_right_to_remove_is_refused_before_anything_is_sent(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: Any, **more: Any) -> None:
        raise PermissionError(errno.EACCES, "Access Denied")

    monkeypatch.setattr(store, "rm_file", refused)
    with pytest.raises(Unusable, match="rights to read, write and remove"):
        kept_files.seal(a_file())
    assert [name for name in names("memory://there") if "probe" not in name] == []


def test_a_store_that_cannot_be_read_is_not_taken_for_the_folder_here(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: Any, **more: Any) -> None:
        raise PermissionError(errno.EACCES, "Access Denied")

    path = a_file()
    kept_files.seal(path)
    sealed.drop(path)
    monkeypatch.setattr(store, "get_file", refused)
    with pytest.raises(Unusable, match=r"RETICENT_CACHE=memory://there: cannot be used .*Access Denied"):
        kept_files.intact(path)


def test_looking_for_what_is_not_there_makes_no_folder(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that were made and taken away again would go from under another process that writes into it."""
    path, seen = user_cache() / "tables" / "shards" / "a.parquet", []
    for name in ("cat_file", "get_file"):
        asked = getattr(store, name)
        monkeypatch.setattr(store, name, lambda *given, asked=asked: (seen.append(path.parent.exists()), asked(*given)))
    assert not kept_files.intact(path)
    assert seen == [False]


@pytest.mark.parametrize("part", [0, 1])
def test_what_another_process_drops_while_it_is_sent_is_not_left_there(
    part: int, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, put, parts = a_file(), store.put_file, []

    def dropped(*given: Any) -> None:
        if len(parts) == part:
            sealed.drop(path)
        parts.append(given)
        put(*given)

    monkeypatch.setattr(store, "put_file", dropped)
    kept_files.seal(path)
    assert names("memory://there") == []


def test_a_shard_that_a_late_hand_makes_stays_nowhere(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_file()
    work = SimpleNamespace(make=lambda shard, advance: kept_files.seal(path))
    job = SimpleNamespace(opened=lambda models: work, passing=True, files=[path])
    joining.HelpingHand(path.parent)._make(path.parent / "asked.parquet", job, 0, SimpleNamespace(held=False))
    assert not path.exists()
    assert names("memory://there") == []


def test_a_folder_that_is_made_as_a_store_is_for_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("new", "team"):
        on(tmp_path / "one", f"file://{tmp_path}/{name}", monkeypatch)
        if name == "team":
            (tmp_path / name).mkdir(mode=0o750)
        kept_files.seal(a_file())
        sealed.drop(user_cache() / "tables" / "shards" / "a.parquet")
        (user_cache() / "tables" / "shards").rmdir()
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "team")] == [0o700, 0o750]


def test_messages_hold_no_password(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "memory://ann:pass/word@there?sig=abc"
    monkeypatch.setenv("RETICENT_CACHE", address)

    def refused(*given: Any, **more: Any) -> None:
        raise OSError(f"403, url={address}, user ann, pass/word")

    monkeypatch.setattr(store, "cat_file", refused)
    with pytest.raises(Unusable) as told:
        kept_files.intact(user_cache() / "tables" / "a.parquet")
    assert "RETICENT_CACHE=memory://…@there?…: cannot be used (OSError: 403" in str(told.value)
    assert not any(secret in str(told.value) for secret in ("word", "abc"))


def test_hands_that_take_leases_need_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save_tiny(tmp_path / "model")
    for name in ("in", "out"):
        rows = [f'{{"text": "some words of text {number} that is {name}"}}\n' for number in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    monkeypatch.setenv("RETICENT_CACHE", "memory://ann:secret@there")
    monkeypatch.chdir(tmp_path)
    command = ["audit", "--model", "model", "--members", "in.jsonl", "--held_out", "out.jsonl", "--out", "run"]
    assert main([*command, "--workers", "join"]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "hands take turns by leases, which are files of one file system" in said
    assert "secret" not in said
    assert not (tmp_path / "run").exists()


def test_a_folder_is_no_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path))
    assert store_address() == ""
    assert user_cache() == tmp_path
    assert "fsspec.implementations.s3" not in sys.modules
