# SPDX-License-Identifier: Apache-2.0
"""Every number of the results as CSV, and nothing private."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.results import Results
from reticent.report.csv_files import LIST, write_csv
from reticent.report.results_file import digest, to_json, write_results


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8", newline="")))


@pytest.fixture
def results(sample: ModuleType) -> Results:
    return replace(sample.further(), promise=sample.private().promise)


def test_every_number_of_the_results_is_in_a_file(results: Results, tmp_path: Path) -> None:
    paths = write_csv(tmp_path, results)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths} | {LIST.name}
    findings = _rows(tmp_path / "findings.csv")
    content = to_json(results)
    flat = content["findings"] + content["sections"][0]["findings"]
    assert [float(row["value"]) for row in findings] == [row["value"] for row in flat]
    assert [row["hi"] for row in findings] == ["inf" if row["hi"] is None else str(row["hi"]) for row in flat]
    extraction = _rows(tmp_path / "extraction.csv")
    assert [row["target"] for row in extraction] == [
        str(row["target"]["value"]) for row in content["extraction"]["rows"]
    ]
    assert [row["randomized"] for row in extraction[:2]] == ["true", "true"]
    assert "fitted_lo" in _rows(tmp_path / "exposure.csv")[0]
    assert len(_rows(tmp_path / "promise-bounds.csv")) == 6
    assert len(_rows(tmp_path / "exposed.csv")) == len(results.exposed)
    (first, *_) = _rows(tmp_path / "forgetting-by-method.csv")
    assert (first["method"], first["left"], first["left_hi"], first["share"]) == (
        "Gradient ascent",
        "0.62",
        "0.69",
        "0.625",
    )
    card = json.loads((tmp_path / LIST.name).read_text(encoding="utf-8"))
    assert card["results_sha256"] == digest(results)
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths} == card["files"]


def test_no_text_of_a_record_is_written(results: Results, tmp_path: Path) -> None:
    told = replace(results, exposed=tuple(replace(unit, text="my secret is 12") for unit in results.exposed))
    for path in write_csv(tmp_path, told):
        assert "my secret" not in path.read_text(encoding="utf-8")
    assert not told.to_frame().astype(str).apply(lambda column: column.str.contains("my secret")).any(axis=None)


def test_what_a_spreadsheet_would_compute_is_quoted(results: Results, tmp_path: Path) -> None:
    runs = tuple(replace(run, summary="=cmd|'/c calc'!A1\x00\ud800") for run in results.attacks)
    write_csv(tmp_path, replace(results, attacks=runs))
    assert all(row["summary"].startswith("'=cmd") for row in _rows(tmp_path / "attacks.csv"))


def test_a_section_cannot_write_over_a_file_of_the_results(results: Results, tmp_path: Path) -> None:
    (section,) = results.sections
    taken = replace(section, tables=(replace(section.tables[0], name="findings"),))
    write_csv(tmp_path, replace(results, sections=(taken,)))
    assert "statement" in _rows(tmp_path / "findings.csv")[0]
    assert "probe" in _rows(tmp_path / "forgetting-findings.csv")[0]


def test_what_is_ours_is_written_again_and_what_is_not_stays(
    results: Results, sample: ModuleType, tmp_path: Path
) -> None:
    write_csv(tmp_path, results)
    write_csv(tmp_path, sample.leaking())
    mine = tmp_path / "findings.csv"
    mine.write_text("my own numbers\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BadInput, match="is no file of numbers that reticent wrote"):
        write_csv(tmp_path, results)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_results_of_nothing_give_a_file_of_no_findings(sample: ModuleType, tmp_path: Path) -> None:
    write_csv(tmp_path, sample.underpowered())
    assert _rows(tmp_path / "findings.csv") == []
    assert "attack,level,metric,value,lo,hi,n" in (tmp_path / "findings.csv").read_text(encoding="utf-8")


def test_the_frame_has_every_number_once(results: Results) -> None:
    frame = results.to_frame()
    findings = frame[frame.table == "findings"]
    assert findings.value.tolist() == [finding.estimate.value for finding in results.all_findings]
    rows = frame[(frame.table == "extraction") & (frame.metric == "target")]
    assert rows.value.tolist() == [row.target.value for row in results.extraction.rows]
    assert rows.n.tolist() == [row.target.n for row in results.extraction.rows]
    assert rows.attack.tolist() == [row.attack for row in results.extraction.rows]
    left = frame[(frame.table == "forgetting-by-method") & (frame.metric == "left")]
    assert left.row.tolist() == [0, 2]
    assert left.about.tolist()[0].startswith("Gradient ascent · loss_probe")


def test_the_command_writes_both_and_refuses_what_makes_no_sense(sample: ModuleType, tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", sample.leaking())
    run = str(tmp_path)
    assert main(["export", run, "--csv", str(tmp_path / "numbers"), "--figures", str(tmp_path / "figures")]) == 0
    assert (tmp_path / "numbers" / "findings.csv").is_file()
    assert (tmp_path / "figures" / "roc-record.svg").is_file()
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for arguments in ([], ["--csv", ""], ["--csv", str(tmp_path / "file")],
                      ["--csv", str(tmp_path / "x"), "--figures", str(tmp_path / "x")]):  # fmt: skip
        assert main(["export", run, *arguments]) == 2
    assert main(["export", str(tmp_path / "none"), "--csv", str(tmp_path / "y")]) == 2
    assert not (tmp_path / "y").exists()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
