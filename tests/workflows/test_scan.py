# SPDX-License-Identifier: Apache-2.0
"""`reticent scan` from folder to exit code: bad input is refused with nothing written, outputs are whole."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import time
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save_file

import reticent
from reticent.cli.main import main
from reticent.core.errors import BadInput, Underpowered
from reticent.data import help_desk
from reticent.report.scan_file import read_scan, scan_schema
from reticent.scanning.bill_of_materials import bill_of_materials
from reticent.testing.malicious_files import make_malicious
from reticent.testing.tiny import save_tiny
from reticent.workflows.scan import scan


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("model", "sibling"):
        save_tiny(folder / name)
    shutil.copytree(folder / "model", folder / "wide")
    config = json.loads((folder / "wide" / "config.json").read_text())
    (folder / "wide" / "config.json").write_text(json.dumps(config | {"hidden_size": 2 * config["hidden_size"]}))
    return folder


def bomb(folder: Path) -> None:
    with (
        zipfile.ZipFile(folder / "model.bin", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("archive/data.pkl", "w") as member,
    ):
        for _ in range(70):
            member.write(bytes(1 << 20))


def cut(folder: Path) -> None:
    save_file({"a": np.ones(100)}, folder / "model.safetensors")
    os.truncate(folder / "model.safetensors", 300)


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "nobody/has-this"}))


def words(folder: Path) -> None:
    content = {"model": {"type": "WordLevel", "vocab": {f"other{n}": n for n in range(50)}}}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "config.json").write_text("{}")


BAD: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "empty": (lambda folder: None, {}, "is empty"),
    "no model": (lambda folder: (folder / "notes.md").write_text("mine"), {}, "holds no model"),
    "a link that leaves": (lambda folder: (folder / "model.bin").symlink_to("/etc/hostname"), {}, "leaves the folder"),
    "a link to nothing": (lambda folder: (folder / "model.bin").symlink_to("nowhere"), {}, "leads nowhere"),
    "a pipe": (lambda folder: os.mkfifo(folder / "model.bin"), {}, "neither a file nor a folder"),
    "a bomb": (bomb, {}, "unpacks to 73,400,320 bytes"),
    "cut": (cut, {}, "is cut"),
    "an adapter without its base": (adapter, {}, "is not here"),
    "another vocabulary": (words, {"base": "sibling"}, "another vocabulary"),
    "a level": (lambda folder: (folder / "config.json").write_text("{}"), {"level": 1.5}, "level"),
    "a kind": (lambda folder: (folder / "config.json").write_text("{}"), {"only": "wishes"}, "neither a kind"),
    "data without a sibling": (
        lambda folder: (folder / "config.json").write_text("{}"),
        {"data": help_desk(users=2, mails_per_user=2)},
        "without a trusted sibling",
    ),
    "no clean models": (
        lambda folder: (folder / "config.json").write_text("{}"),
        {"clean": "model"},
        "holds no folders",
    ),
    "an output within the model": (
        lambda folder: (folder / "config.json").write_text("{}"),
        {"out": "suspect/scan"},
        "lies within the model",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_nothing_is_written(
    case: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, given, why = BAD[case]
    folder = tmp_path / "suspect"
    folder.mkdir()
    make(folder)
    given = {"out": "out"} | given
    for name in ("base", "clean"):
        if name in given:
            given[name] = models / given[name]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match=why):
        scan(folder, **given)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sibling_of_another_architecture_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="another architecture: hidden_size"):
        scan(models / "model", base=models / "wide")
    with pytest.raises(BadInput, match="is the suspect itself"):
        scan(models / "model", base=models / "model")
    with pytest.raises(BadInput, match="is a file"):
        scan(models / "model" / "config.json")


def test_fewer_clean_models_than_the_level_needs_are_refused(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = tmp_path / "clean"
    clean.mkdir()
    for number in range(3):
        save_tiny(clean / f"clean{number}", seed=100 + number)
    given = {"only": ["whole_spectrum"], "base": models / "sibling", "out": tmp_path / "out"}
    with pytest.raises(Underpowered, match="19 clean models"):
        scan(models / "model", clean=clean, **given)
    with pytest.raises(BadInput, match="no scanner that was chosen"):
        scan(models / "model", clean=clean, only=["files"])
    (clean / "again").symlink_to(clean / "clean0")
    with pytest.raises(Underpowered, match="3 clean models"):  # the copy does not count
        scan(models / "model", clean=clean, **given)
    assert "left out of the clean models: clean0, which is a copy of again" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_an_adapter_may_have_its_files_scanned_without_a_base(tmp_path: Path) -> None:
    adapter(tmp_path)
    assert scan(tmp_path, only=["files"]).verdict.word == "nothing found"


@pytest.mark.parametrize(
    ("kind", "code"), [(None, 0), ("exec_in_checkpoint", 1), ("code_by_auto_map", 1), ("missing", 2)]
)
def test_exit_codes_and_outputs(
    kind: str | None, code: int, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models / "model" if kind is None else tmp_path / "suspect"
    if kind not in (None, "missing"):
        make_malicious(str(kind), folder, tmp_path / "written")
    out, sarif, junit = tmp_path / "out", tmp_path / "out.sarif", tmp_path / "out.xml"
    argv = ["scan", str(folder), "--only", "files", "--out", str(out), "--sarif", str(sarif), "--junit", str(junit)]
    assert main(argv) == code
    said = "".join(capsys.readouterr())
    if code == 2:
        assert "error: " in said
        assert not any(path.exists() for path in (out, sarif, junit))
        return
    jsonschema.validate(json.loads((out / "scan.json").read_text()), scan_schema())
    results = read_scan(out / "scan.json")
    assert results.verdict.headline in said
    assert results.verdict.headline in (out / "report.html").read_text()
    levels = [row["level"] for row in json.loads(sarif.read_text())["runs"][0]["results"]]
    assert bool(levels) == (code == 1)
    assert len(ET.parse(junit).getroot().findall(".//failure")) == (1 if code else 0)
    assert main(argv) == code  # what it wrote itself it replaces


def test_files_of_others_are_not_replaced(models: Path, tmp_path: Path) -> None:
    for name in ("scan.json", "report.html"):
        out = tmp_path / name.partition(".")[0]
        out.mkdir()
        (out / name).write_text("mine")
        with pytest.raises(BadInput, match="is there already"):
            scan(models / "model", only=["files"], out=out)
        assert (out / name).read_text() == "mine"


def test_a_gigabyte_of_files_is_scanned_in_less_than_a_second_of_this_process(models: Path, tmp_path: Path) -> None:
    """Weights are mapped and not read: a sparse file of a gigabyte costs as little as a small one."""
    folder = save_tiny(tmp_path / "model")
    header = json.dumps({"a": {"dtype": "U8", "shape": [1 << 30], "data_offsets": [0, 1 << 30]}}).encode()
    with (folder / "large.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + (1 << 30))
    scan(folder, only=["files"])  # imports are done
    begun = time.process_time()
    results = scan(folder, only=["files"])
    assert time.process_time() - begun < 1.0
    assert results.verdict.word == "nothing found"


def test_the_bill_of_materials_says_content_and_hash(models: Path, tmp_path: Path) -> None:
    import hashlib

    folder = make_malicious("pickle_called_safetensors", tmp_path / "suspect", tmp_path / "written")
    (file,) = bill_of_materials(folder)
    assert (file.path, file.content) == ("model.safetensors", "pickle")
    assert file.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "large.bin").write_bytes(bytes(2 << 20))
    assert next(row.sha256 for row in bill_of_materials(folder)) == ""
    assert all(row.sha256 for row in bill_of_materials(folder, hashes=True))


def test_the_package_can_be_called_whatever_was_imported() -> None:
    importlib.import_module("reticent.scanning.scanner")
    assert callable(reticent.scan)
    with pytest.raises(BadInput, match="is no folder here"):
        reticent.scan("nowhere")
