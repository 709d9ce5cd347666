# SPDX-License-Identifier: Apache-2.0
"""Every malicious kind is refused in words, none of them runs, and no clean artefact raises an alarm."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from reticent.core.printable import printable
from reticent.core.scan_results import ScanResults
from reticent.testing.clean_artefacts import clean_artefacts
from reticent.testing.malicious_files import make_malicious, malicious_kinds
from reticent.workflows.scan import exit_code, scan

LOADED = (
    *("no_extension", "name_from_the_memo", "numpy_builtins", "second_pickle_appended", "text_protocol"),
    *("fifth_protocol", "partial_with_a_state"),
)
"""Kinds of which the control below shows that the payload would run."""


@pytest.mark.parametrize("kind", malicious_kinds())
def test_a_malicious_kind_is_refused_in_words_and_does_not_run(kind: str, tmp_path: Path) -> None:
    written = tmp_path / "written"
    folder = make_malicious(kind, tmp_path / kind, written)
    results = scan(folder, only=["files"])
    assert not written.exists()
    assert exit_code(results) == 1, results.verdict
    counted = [row for outcome in results.outcomes for row in outcome.evidence if row.score >= 1]
    files = {printable(path.relative_to(folder).as_posix()) for path in folder.rglob("*")}
    assert all(row.where.partition(" › ")[0].partition(", line")[0] in files for row in counted)
    assert all(row.note and row.remedy for row in counted)


@pytest.mark.parametrize("kind", LOADED)
def test_the_payloads_are_live(kind: str, tmp_path: Path) -> None:
    """The control: a loader in a process of its own does write the file."""
    written = tmp_path / "written"
    folder = make_malicious(kind, tmp_path / kind, written)
    (file,) = (path for path in folder.iterdir() if path.name != "config.json")
    program = "import pickle, sys\nf = open(sys.argv[1], 'rb')\nfor _ in range(2): pickle.load(f)"
    subprocess.run([sys.executable, "-c", program, str(file)], check=False, capture_output=True)
    assert written.exists()


@pytest.mark.parametrize("kind", ["forged_dtype", "objects_from_a_buffer"])
def test_forged_types_do_read_numbers_as_objects(kind: str, tmp_path: Path) -> None:
    """The control: with the place 0, which NumPy takes for None, an array of eight bytes holds an object."""
    folder = make_malicious(kind, tmp_path / kind, tmp_path / "written")
    content = (folder / "array.pkl").read_bytes()
    core = b"numpy.core.multiarray" if hasattr(np, "core") else b"numpy._core.multiarray"
    content = content.replace(struct.pack("<Q", 4096), bytes(8)).replace(b"numpy.core.multiarray", core)
    array = pickle.loads(content)
    assert list(array if array.dtype == object else array["a"]) == [None]


def test_there_are_the_kinds_of_the_reports_and_some_of_our_own() -> None:
    origins = list(malicious_kinds().values())
    assert origins.count("reported") >= 12
    assert origins.count("own") >= 4


def named(results: ScanResults) -> set[str]:
    return {row.note for outcome in results.outcomes for row in outcome.evidence}


def test_the_words_name_member_and_global(tmp_path: Path) -> None:
    folder = make_malicious("bin_in_tar", tmp_path / "model", tmp_path / "written")
    (pickles,) = (row for row in scan(folder, only=["pickles"]).outcomes if row.name == "pickles")
    places = {row.where: row.note for row in pickles.evidence}
    inner = places["checkpoint.tar › a/pytorch_model.bin › archive/data.pkl"]
    assert inner == "loading it calls builtins.exec, which is not on the list of harmless names"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return clean_artefacts(tmp_path_factory.mktemp("clean"))


def test_clean_artefacts_of_many_writers_raise_no_alarm(clean: Mapping[str, Path]) -> None:
    assert len(clean) >= 40
    assert len({name.partition("/")[0] for name in clean}) >= 6
    alarms = {name: scan(folder, only=["files"]).verdict for name, folder in clean.items()}
    assert {name: verdict for name, verdict in alarms.items() if verdict.word != "nothing found"} == {}
