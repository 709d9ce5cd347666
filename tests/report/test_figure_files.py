# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.report.audit_page import render
from reticent.report.figure_files import LIST, export, standalone, table
from reticent.report.figures import figures
from reticent.report.heading import model_name
from reticent.report.results_file import digest, write_results

SVG = "{http://www.w3.org/2000/svg}"


def test_every_figure_of_the_page_is_a_file_with_its_numbers(sample: ModuleType, tmp_path: Path) -> None:
    for results in (sample.extracted(), sample.broken()):
        folder = tmp_path / results.verdict.headline[:9]
        made, page = figures(results), render(results)
        assert len(export(folder, results)) == len(made) == len({one.name for one in made})
        assert page.count("<figure") == len(made)
        for one in made:
            root = ET.parse(folder / f"{one.name}.svg").getroot()
            title = root.find(f"{SVG}title")
            assert title is not None
            assert title.text is not None
            assert title.text.endswith(f" · {model_name(results)}")
            assert title.text in page
            shown = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
            assert one.title in shown
            assert model_name(results) in shown
            assert all(key.words in shown for key in one.key)
            rows = list(csv.reader((folder / f"{one.name}.csv").open(encoding="utf-8")))
            assert tuple(rows[0]) == one.columns
            assert len(rows) == 1 + len(one.rows) > 1
        said = json.loads((folder / LIST.name).read_text(encoding="utf-8"))
        assert said["results_sha256"] == digest(results)
        assert [row["name"] for row in said["figures"]] == [one.name for one in made]


def test_a_file_needs_no_page(sample: ModuleType) -> None:
    for one in figures(sample.extracted()):
        text = standalone(one, "m")
        assert "var(" not in text
        assert "color-mix" not in text
        assert "<script" not in text
        assert not re.search(r"(?:href|src)=|url\(", text)
        classes = {name for found in re.findall(r'class="([^"]+)"', text) for name in found.split()}
        styled = set(re.findall(r"\.([a-z][\w-]*)", text.partition("</style>")[0]))
        drawn = classes - {"d0", "tick", "line", "away", *(f"line-{i}" for i in range(40))}
        assert drawn <= styled | {"planted", "member", "control"}, drawn - styled


def test_numbers_keep_all_their_digits(sample: ModuleType) -> None:
    (one,) = [figure for figure in figures(sample.leaking()) if figure.name == "auc-user"]
    rows = list(csv.DictReader(table(one).splitlines()))
    known = {f.attack: f.estimate for f in sample.leaking().findings if (f.level, f.metric) == ("user", "auc")}
    assert {row["attack"]: float(row["auc"]) for row in rows} == {name: found.value for name, found in known.items()}
    assert all(float(row["low"]) == known[row["attack"]].lo for row in rows)
    (open_above,) = [figure for figure in figures(sample.broken()) if figure.name == "promise-user"]
    assert all(math.isfinite(float(row["at_least"])) for row in csv.DictReader(table(open_above).splitlines()))


def test_hostile_names_stay_names(sample: ModuleType, tmp_path: Path) -> None:
    leaking = sample.leaking()
    bad = "=cmd|'/c calc'!A1</title><script>x</script>\x1b[1m\x00]]>--"
    curves = tuple(replace(curve, attack=bad) for curve in leaking.curves)
    spread = tuple(
        replace(one, attack=name) for one, name in zip(leaking.distributions, (bad, "../../x"), strict=False)
    )
    hostile = replace(leaking, curves=curves, distributions=spread, title=bad, provenance={})
    for path in export(tmp_path / "a", hostile):
        assert path.parent == tmp_path / "a"
        ET.parse(path)
        assert "<script" not in path.read_text(encoding="utf-8")
    cells = [row[0] for row in csv.reader((tmp_path / "a" / "roc-record.csv").open(encoding="utf-8"))]
    assert not any(cell.startswith("=") for cell in cells)


def test_what_is_ours_is_written_again_and_what_is_not_stays(sample: ModuleType, tmp_path: Path) -> None:
    export(tmp_path, sample.leaking())
    export(tmp_path, sample.not_detected())
    said = json.loads((tmp_path / LIST.name).read_text(encoding="utf-8"))
    assert said["results_sha256"] == digest(sample.not_detected())
    mine = tmp_path / "auc-record.csv"
    mine.write_text("my own numbers\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BadInput, match="is no file of numbers that reticent wrote"):
        export(tmp_path, sample.leaking())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    for name in ("roc-record.svg", LIST.name):
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        (folder / name).write_text("{}", encoding="utf-8")
        with pytest.raises(BadInput, match="is there already"):
            export(folder, sample.leaking())
        assert [path.name for path in folder.iterdir()] == [name]


def test_results_without_a_figure_give_an_empty_list(sample: ModuleType, tmp_path: Path) -> None:
    assert export(tmp_path / "none", sample.underpowered()) == []
    assert [path.name for path in (tmp_path / "none").iterdir()] == [LIST.name]


def test_the_command_exports_and_refuses_two_wishes_at_once(sample: ModuleType, tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", sample.leaking())
    assert main(["report", str(tmp_path), "--export", str(tmp_path / "figures")]) == 0
    assert (tmp_path / "figures" / "roc-record.svg").is_file()
    assert not (tmp_path / "report.html").exists()
    assert main(["report", str(tmp_path), "--export", str(tmp_path / "more"), "--out", str(tmp_path / "x.html")]) == 2
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert main(["report", str(tmp_path), "--export", str(tmp_path / "file")]) == 2
    assert main(["report", str(tmp_path), "--export", ""]) == 2
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
