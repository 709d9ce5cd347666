# SPDX-License-Identifier: Apache-2.0
"""unlearning.json, certificate.json, and their pages."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import math
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reticent.core.errors import BadInput
from reticent.core.unlearning import Certificate, UnlearningResults
from reticent.core.unlearning_words import HEADLINES, NOT_CLAIMED, STATUSES
from reticent.report.certificate_page import render_certificate, write_certificate_page
from reticent.report.make_schemas import schemas
from reticent.report.unlearning_file import (
    certificate_schema,
    read_certificate,
    read_unlearning,
    unlearning_digest,
    unlearning_schema,
    write_certificate,
    write_unlearning,
)
from reticent.report.unlearning_page import render_unlearning, short_table, write_unlearning_page
from reticent.unlearning.verification.certificate import certificate_of

HOSTILE = "</style></script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}&lt;"
CLOSED = ("status", "role", "word", "kind", "address")
VOID = {"meta", "link", "br", "input", "img", "wbr", "hr"}


def load_sample() -> Any:
    spec = importlib.util.spec_from_file_location("unlearning_sample", Path(__file__).with_name("unlearning_sample.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RESULTS: UnlearningResults = load_sample().unlearning()
CERTIFICATE: Certificate = certificate_of(RESULTS, results_sha256=unlearning_digest(RESULTS))
BARE = replace(
    RESULTS, checks=RESULTS.checks[1:], looks=(), tried=(), stopped_at=None, method={}, request={}, earlier=(),
    promise=None, oracle="none", counts={},
)  # fmt: skip


class Page(HTMLParser):
    """Tags with attributes, and the text; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def hostile(value: Any, name: str = "") -> Any:
    """The same with every free text replaced."""
    if isinstance(value, str):
        return (
            value
            if not value or name in CLOSED or (name == "name" and re.fullmatch(r"[a-z0-9_-]+", value))
            else HOSTILE
        )
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: hostile(getattr(value, f.name), f.name) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(hostile(entry, name) for entry in value)
    if isinstance(value, dict):
        return {HOSTILE if isinstance(entry, str) else key: hostile(entry, name) for key, entry in value.items()}
    return value


@pytest.mark.parametrize("results", [RESULTS, BARE], ids=["full", "bare"])
def test_files_give_back_what_was_written(tmp_path, results):
    digest = write_unlearning(tmp_path / "unlearning.json", results)
    assert read_unlearning(tmp_path / "unlearning.json") == results
    assert digest == unlearning_digest(results)
    assert digest == hashlib.sha256((tmp_path / "unlearning.json").read_bytes()).hexdigest()
    certificate = certificate_of(results, results_sha256=digest)
    write_certificate(tmp_path / "certificate.json", certificate)
    assert read_certificate(tmp_path / "certificate.json") == certificate
    for name, schema in (("unlearning", unlearning_schema()), ("certificate", certificate_schema())):
        jsonschema.validate(json.loads((tmp_path / f"{name}.json").read_text()), schema)


def test_schemas_are_those_of_the_types():
    assert schemas()["unlearning.schema.json"] == unlearning_schema()
    assert schemas()["certificate.schema.json"] == certificate_schema()
    for schema in (unlearning_schema(), certificate_schema()):
        for name, about in schema["properties"].items():
            assert about["description"], name
        for name, kind in schema["$defs"].items():
            assert all(entry["description"] for entry in kind["properties"].values()), name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "reticent.comparison"}, "is no unlearning"),
        ({"schema_version": 99}, "this reticent reads 1"),
        ({"schema_version": None}, "this reticent reads 1"),
        ({"verdict": {"status": "clean", "headline": "", "sentences": []}}, "is broken"),
        ({"further": 1}, "is broken"),
        ({"margin": 2}, "is broken"),
    ],
)
def test_other_files_are_refused(tmp_path, change, reason):
    write_unlearning(tmp_path / "unlearning.json", RESULTS)
    content = json.loads((tmp_path / "unlearning.json").read_text())
    (tmp_path / "unlearning.json").write_text(json.dumps(content | change))
    with pytest.raises(BadInput, match=reason):
        read_unlearning(tmp_path / "unlearning.json")


def test_a_file_that_is_missing_or_no_json(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        read_unlearning(tmp_path / "unlearning.json")
    (tmp_path / "unlearning.json").write_text("[1")
    with pytest.raises(BadInput, match="is not valid JSON"):
        read_unlearning(tmp_path / "unlearning.json")
    (tmp_path / "unlearning.json").write_text("[]")
    with pytest.raises(BadInput, match="is no unlearning"):
        read_unlearning(tmp_path / "unlearning.json")


@pytest.mark.parametrize("status", STATUSES)
def test_each_verdict_has_a_page_and_a_certificate(status):
    results = load_sample().unlearning(status)
    for page in (render_unlearning(results), render_certificate(certificate_of(results, results_sha256="0"))):
        assert Page(page).text.count(HEADLINES[status]) == 1


@pytest.mark.parametrize("results", [RESULTS, BARE], ids=["full", "bare"])
def test_pages_nest_link_to_what_is_there_and_repeat(results):
    certificate = certificate_of(results, results_sha256="0")
    for html in (render_unlearning(results), render_certificate(certificate)):
        page = Page(html)
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
        assert all(link[1:] in ids for link in links if link.startswith("#"))
        assert not [tag for tag, _ in page.tags if tag in ("script", "img", "iframe")]
        assert not [attributes for _, attributes in page.tags if "style" in attributes]
        style = re.search(r"<style>(.*?)</style>", html, flags=re.DOTALL)[1]
        assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in html
        assert not re.search(r"\bnan\b|\binf\b|None", page.text)
    assert render_unlearning(results) == render_unlearning(results)
    assert render_certificate(certificate) == render_certificate(certificate)


def test_nothing_in_the_results_becomes_markup():
    results = hostile(RESULTS)
    plain = [tag for tag, _ in Page(render_unlearning(RESULTS)).tags]
    page = Page(render_unlearning(results))
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert "{{ 7*7 }}" in page.text
    certificate = certificate_of(results, results_sha256="0")
    assert not [tag for tag, _ in Page(render_certificate(certificate)).tags if tag in ("script", "img")]
    assert len(plain) > 100


def test_the_page_shows_the_plots_with_band_stop_and_controls():
    html = render_unlearning(RESULTS)
    text = Page(html).text
    assert "kept: step 80" in text
    assert html.count('class="aim"') == 3
    for words in ("unlearned", "untouched", "retrained (2)", "base", "ascent", "8 bits, merged weights"):
        assert words in text, words
    drawings = {name: f'id="{name}-plot-title"' in render_unlearning(BARE) for name in ("looks", "plane", "robustness")}
    assert not any(drawings.values())


def test_the_first_table_has_untouched_and_retrained_columns():
    table = short_table(RESULTS)
    assert [column.name for column in table.columns] == [
        "check", "number", "unlearned", "untouched", "retrained", "base",
    ]  # fmt: skip
    _, number, unlearned, untouched, retrained, _ = table.rows[0]
    assert number.text == "loss"
    assert (unlearned.value, untouched.value) == (0.52, 0.97)
    assert math.isclose(retrained.value, 0.5)
    assert (retrained.lo, retrained.hi) == pytest.approx((0.43, 0.57))


def test_the_certificate_says_what_it_rests_on_and_what_it_does_not_claim():
    text = Page(render_certificate(CERTIFICATE)).text
    for words in (*NOT_CLAIMED, "ε ≤ 8.0", "unlearned-print", "further than 0.06", "--whitebox", "n"):
        assert words in text, words
    assert "untouched 0.97, retrained 0.49 to 0.51" in " ".join(CERTIFICATE.controls)
    assert CERTIFICATE.results_sha256 in text
    assert {number.role for number in CERTIFICATE.measured} == {"after"}
    bare = certificate_of(BARE, results_sha256="0")
    assert "No model retrained" in bare.not_claimed[-1]
    assert "Nothing could be measured" in Page(render_certificate(bare)).text


def test_files_of_others_are_not_replaced(tmp_path):
    for write, value in ((write_unlearning_page, RESULTS), (write_certificate_page, CERTIFICATE)):
        place = tmp_path / "page.html"
        place.write_text("<html>mine</html>")
        with pytest.raises(BadInput, match="is there already"):
            write(place, value)
        assert place.read_text() == "<html>mine</html>"
        place.unlink()
        write(place, value)
        write(place, value)
        place.unlink()
