# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.report.audit_page import render, write_report
from reticent.report.match import verify
from reticent.report.results_file import digest, read_results, write_results

KINDS = ["leaking", "not_detected", "confounded", "underpowered", "private", "broken", "extracted"]


@pytest.fixture
def run(sample: ModuleType, tmp_path: Path) -> Path:
    write_results(tmp_path / "results.json", sample.leaking())
    write_report(tmp_path / "report.html", sample.leaking())
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_the_digits_on_the_page_are_those_of_the_file(sample: ModuleType, tmp_path: Path, kind: str) -> None:
    """What ``sha256sum results.json`` gives, also after the results were read again."""
    path = tmp_path / "results.json"
    write_results(path, getattr(sample, kind)())
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest(read_results(path)) == digest(getattr(sample, kind)()) == own
    assert f'<code class="digest">{own}</code>' in render(read_results(path))


def test_a_page_and_printed_digits_match_their_results(run: Path) -> None:
    own = digest(read_results(run / "results.json"))
    for given in (run / "report.html", own, own[:16], own.upper(), f"SHA256:{own[:20]}", f"{own[:32]} {own[32:]}"):
        assert verify(run / "results.json", given).matches, given


def test_other_results_an_edited_page_and_other_digits_do_not_match(sample: ModuleType, run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    edited = run / "edited.html"
    edited.write_text(page.replace("0.943", "0.543"), encoding="utf-8")
    assert "not the page that they give" in verify(run / "results.json", edited).outcome
    write_report(run / "other.html", sample.not_detected())
    assert "made of other results" in verify(run / "results.json", run / "other.html").outcome
    assert not verify(run / "results.json", "0" * 64).matches
    content = json.loads((run / "results.json").read_text(encoding="utf-8"))
    content["title"] = "another"
    (run / "results.json").write_text(json.dumps(content), encoding="utf-8")
    assert not verify(run / "results.json", run / "report.html").matches


def test_a_page_made_of_results_of_an_older_version_matches_them(run: Path) -> None:
    path, page = run / "results.json", run / "report.html"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["sections"]
    path.write_text(json.dumps(content | {"schema_version": 6}), encoding="utf-8")
    assert main(["report", str(run)]) == 0
    assert verify(path, page).matches
    assert verify(path, digest(read_results(path))[:20]).matches
    assert verify(path, hashlib.sha256(path.read_bytes()).hexdigest()[:20]).matches
    path.write_text(json.dumps(content | {"schema_version": 6, "title": "another"}), encoding="utf-8")
    assert not verify(path, page).matches


def test_what_cannot_be_told_is_refused(run: Path) -> None:
    page = run / "old.html"
    text = (run / "report.html").read_text(encoding="utf-8")
    mark = '<meta name="reticent-version" content="'
    page.write_text(text.replace(mark, f"{mark}0.0.0-"), encoding="utf-8")
    with pytest.raises(BadInput, match=r"made by reticent 0\.0\.0-"):
        verify(run / "results.json", page)
    page.write_text("<p>mine</p>", encoding="utf-8")
    with pytest.raises(BadInput, match="names no results"):
        verify(run / "results.json", page)
    page.write_bytes(b"\xff\xfe\x00")
    for given in (page, run / "missing.html", "abc123", run):
        with pytest.raises(BadInput, match="cannot be read"):
            verify(run / "results.json", given)


def test_the_command_says_it_by_its_exit_code(run: Path) -> None:
    assert main(["report", str(run), "--verify", str(run / "report.html")]) == 0
    assert main(["report", str(run / "results.json"), "--verify", digest(read_results(run / "results.json"))]) == 0
    assert main(["report", str(run), "--verify", "0" * 20]) == 1
    assert main(["report", str(run), "--verify", str(run / "nothing.html")]) == 2
    assert main(["report", str(run / "nothing"), "--verify", str(run / "report.html")]) == 2
