# SPDX-License-Identifier: Apache-2.0
"""A store behind an address: what one machine made another does not make again, to the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput, Unusable
from reticent.core.record import Record
from reticent.core.shared_store import _opened, store_address
from reticent.core.user_cache import user_cache
from reticent.models.load import LoadedModel, load
from reticent.score import make_tables as plan
from reticent.score import render as rendering
from reticent.score.engine import ScoreOptions
from reticent.score.generation.generate import make_generations
from reticent.score.make_tables import make_tables
from reticent.score.requests import Request
from reticent.score.scored_model import ScoredModel
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


def test_hands_that_take_leases_need_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save_tiny(tmp_path / "model")
    for name in ("in", "out"):
        rows = [f'{{"text": "some words of text {number} that is {name}"}}\n' for number in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    monkeypatch.setenv("RETICENT_CACHE", "memory://there")
    monkeypatch.chdir(tmp_path)
    command = ["audit", "--model", "model", "--members", "in.jsonl", "--held_out", "out.jsonl", "--out", "run"]
    assert main([*command, "--workers", "join"]) == 2
    assert "hands take turns by leases, which are files of one file system" in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_folder_is_no_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path))
    assert store_address() == ""
    assert user_cache() == tmp_path
    assert "fsspec.implementations.s3" not in sys.modules
