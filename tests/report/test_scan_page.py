# SPDX-License-Identifier: Apache-2.0
"""scan.json, the page of a scan, SARIF and JUnit."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reticent.core.errors import BadInput
from reticent.core.scan import ScanEvidence, ScannedFile, ScanOutcome, ScanResults, ScanVerdict
from reticent.core.section import Column, Section, Table
from reticent.report.scan_ci_files import sarif_of, write_sarif, write_scan_junit
from reticent.report.scan_file import read_scan, scan_schema, write_scan
from reticent.report.scan_page import render_scan, write_scan_page
from reticent.report.scan_plots import score_at, strip

HOSTILE = "</style></script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}&lt;"
CLOSED = ("word", "kind", "null", "name", "anchor")
VOID = {"meta", "link", "br", "input", "img", "wbr", "hr"}


def outcome(name: str, word: str, **more: Any) -> ScanOutcome:
    given: dict[str, Any] = {
        "title": name.capitalize(), "kind": "files", "null": "rule", "sentence": f"{name}: {word}.",
        "blind_to": "What it does not look at.",
    }  # fmt: skip
    return ScanOutcome(name=name, word=word, **given | more)


PICKLES = outcome(
    "pickles",
    "found",
    evidence=(
        ScanEvidence(
            score=2,
            where="a b.bin › archive/data.pkl",
            note="loading it calls os.system",
            certain=True,
            remedy="Do not.",
        ),
        ScanEvidence(score=0.5, where="c.bin", note="a note"),
    ),
    score=2.0,
)
TEMPLATES = outcome(
    "templates", "suspicious", evidence=(ScanEvidence(score=1, where="t.jinja, line 7", note="writes words"),)
)
BESIDE = outcome(
    "beside", "suspicious", kind="weights", null="clean", score=5.0, p=0.02, p_adjusted=0.04, smallest_p=0.02,
    clean_scores=tuple(number / 10 for number in range(49)),
    section=Section(name="spectra", title="Spectra", tables=(
        Table(name="spectra", title="Spectra", columns=(Column(name="module", label="Module"),), rows=(("q_proj",),)),
    )),
)  # fmt: skip
ABSENT = outcome("absent", "could not look", why_not="no sibling was given (--base)")
BROKEN = outcome("broken", "could not look", why_not="it failed (ValueError)", failed=True)
CALM = outcome("calm", "nothing found")
RESULTS = ScanResults(
    title="model",
    created="2026-01-01T00:00:00+00:00",
    verdict=ScanVerdict(word="found", headline="Found: pickles", sentences=("one", "two")),
    level=0.05,
    outcomes=(PICKLES, TEMPLATES, BESIDE, ABSENT, BROKEN, CALM),
    files=(ScannedFile(path="a b.bin", bytes=10, sha256="", content="pickle"),),
    clean=49,
    provenance={"claims": {"license": "MIT"}, "seed": 0},
)
BARE = replace(
    RESULTS,
    outcomes=(CALM,),
    files=(),
    clean=0,
    provenance={},
    verdict=ScanVerdict(word="nothing found", headline="Nothing"),
)


@pytest.mark.parametrize("results", [RESULTS, BARE], ids=["full", "bare"])
def test_the_file_gives_back_what_was_written(results: ScanResults, tmp_path: Path) -> None:
    write_scan(tmp_path / "scan.json", results)
    assert read_scan(tmp_path / "scan.json") == results
    jsonschema.validate(json.loads((tmp_path / "scan.json").read_text()), scan_schema())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "reticent.results"}, "no scan that reticent wrote"),
        ({"schema_version": 9}, "newer"),
        ({"schema_version": None}, "again"),
        ({"verdict": {}}, "broken"),
        ({"level": 2}, "broken"),
        ({"outcomes": [{}]}, "broken"),
    ],
)
def test_damaged_files_are_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write_scan(tmp_path / "scan.json", RESULTS)
    content = json.loads((tmp_path / "scan.json").read_text()) | change
    (tmp_path / "scan.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=reason):
        read_scan(tmp_path / "scan.json")


class Page(HTMLParser):
    """Tags and text; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def hostile(value: Any, name: str = "") -> Any:
    """The same with every free text replaced."""
    if isinstance(value, str):
        return value if name in CLOSED or not value else HOSTILE
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{field.name: hostile(getattr(value, field.name), field.name) for field in fields(value)}
        )
    if isinstance(value, tuple):
        return tuple(hostile(part, name) for part in value)
    if isinstance(value, dict):
        return {HOSTILE if isinstance(part, str) else key: hostile(part) for key, part in value.items()}
    return value


@pytest.mark.parametrize("results", [RESULTS, BARE, hostile(RESULTS)], ids=["full", "bare", "hostile"])
def test_the_page_holds_no_script_and_nests(results: ScanResults) -> None:
    html = render_scan(results)
    page = Page(html)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "iframe", "object"}
    assert not any(key.startswith("on") or key == "style" for _, attributes in page.tags for key in attributes)
    anchors = {attributes["id"] for _, attributes in page.tags if attributes.get("id")}
    links = {
        str(attributes["href"])[1:]
        for tag, attributes in page.tags
        if tag == "a" and str(attributes.get("href")).startswith("#")
    }
    assert links <= anchors
    assert render_scan(results) == html


def test_the_page_says_what_was_looked_at_and_what_not() -> None:
    html = render_scan(RESULTS)
    for words in (
        "found",
        "suspicious",
        "could not look",
        "nothing found",
        "no sibling was given",
        "it failed",
        "Spectra",
    ):
        assert words in html
    assert "Beside clean models" not in render_scan(BARE)


def test_the_strip_plot_marks_the_level_and_the_suspect() -> None:
    drawing = str(strip("s", BESIDE, 0.05))
    assert drawing.count('class="clean"') == 49
    assert 'class="suspect raised"' in drawing
    assert 'class="stop"' in drawing
    assert 'class="stop"' not in str(strip("s", replace(BESIDE, clean_scores=(1.0, 2.0)), 0.05))
    assert strip("s", CALM, 0.05) is None


@pytest.mark.parametrize("level", [0.02, 0.05, 0.1, 0.5])
def test_a_score_above_the_line_has_a_p_value_below_the_level(level: float) -> None:
    clean = list(BESIDE.clean_scores)
    line = score_at(clean, level)
    assert line is not None
    for score in (*clean, 5.0, -1.0):
        p = (1 + sum(other >= score for other in clean)) / (len(clean) + 1)
        assert (p <= level) == (score > line)


def test_sarif_names_files_and_lines(tmp_path: Path) -> None:
    (run,) = sarif_of(RESULTS)["runs"]
    by_rule = {row["ruleId"]: row for row in run["results"]}
    assert set(by_rule) == {"pickles", "templates", "beside"}
    place = by_rule["pickles"]["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], by_rule["pickles"]["level"]) == ("a%20b.bin", "error")
    assert by_rule["templates"]["locations"][0]["physicalLocation"]["region"] == {"startLine": 7}
    assert run["invocations"][0]["executionSuccessful"] is False
    write_sarif(tmp_path / "scan.sarif", RESULTS)
    write_sarif(tmp_path / "scan.sarif", BARE)
    (tmp_path / "mine.sarif").write_text('{"version": "2.1.0"}')
    with pytest.raises(BadInput, match="is there already"):
        write_sarif(tmp_path / "mine.sarif", RESULTS)


@pytest.mark.parametrize("results", [RESULTS, hostile(RESULTS)], ids=["full", "hostile"])
def test_junit_counts_failures_errors_and_skips(results: ScanResults, tmp_path: Path) -> None:
    write_scan_junit(tmp_path / "scan.xml", results)
    root = ET.parse(tmp_path / "scan.xml").getroot()
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["6", "3", "1", "1"]
    assert [len(root.findall(f".//{tag}")) for tag in ("failure", "error", "skipped")] == [3, 1, 1]
    write_scan_junit(tmp_path / "scan.xml", BARE)


def test_pages_of_others_are_not_replaced(tmp_path: Path) -> None:
    write_scan_page(tmp_path / "report.html", RESULTS)
    write_scan_page(tmp_path / "report.html", BARE)
    assert re.search("Nothing", (tmp_path / "report.html").read_text())
    (tmp_path / "mine.html").write_text("<html>mine</html>")
    with pytest.raises(BadInput, match="is there already"):
        write_scan_page(tmp_path / "mine.html", RESULTS)
