# SPDX-License-Identifier: Apache-2.0
"""comparison.json and the page of a comparison."""

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
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from reticent.core.comparison import Comparison, MatchedUtility
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.report.comparison_console import print_comparison
from reticent.report.comparison_file import read_comparison, write_comparison
from reticent.report.comparison_page import between, labels, render_comparison
from reticent.report.listing import runs

HOSTILE = "</style></script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}&lt;"
CLOSED = ("status", "kind", "phase")
VOID = {"meta", "link", "br", "input", "img", "wbr", "hr"}


def load_sample() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sample", Path(__file__).with_name("comparison_sample.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMPARISON: Comparison = load_sample().comparison()
ALONE = replace(COMPARISON, settings=COMPARISON.settings[:1], pairs=(), associations=())
NOTHING = replace(
    COMPARISON,
    points=(),
    pairs=(),
    associations=(),
    settings=tuple(
        replace(setting, best=None, matched=None, fairness=None, why_not="no training was finished")
        for setting in COMPARISON.settings
    ),
)


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

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open[-1] == tag
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def hostile(value: Any, key: str = "") -> Any:
    """``value`` with every free text replaced by the hostile one."""
    if isinstance(value, str):
        return value if key in CLOSED else HOSTILE
    if isinstance(value, tuple | list):
        return tuple(hostile(entry, key) for entry in value)
    if isinstance(value, dict):
        return {HOSTILE: hostile(next(iter(value.values())))} if value else {}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: hostile(getattr(value, one.name), one.name) for one in fields(value)})
    return value


@pytest.mark.parametrize("comparison", [COMPARISON, ALONE, NOTHING])
def test_the_file_gives_back_what_was_written(comparison: Comparison, tmp_path: Path) -> None:
    write_comparison(tmp_path / "comparison.json", comparison)
    found = read_comparison(tmp_path / "comparison.json")
    assert found == replace(comparison, provenance=json.loads(json.dumps(comparison.provenance)))


def test_no_number_is_left_infinite(tmp_path: Path) -> None:
    write_comparison(tmp_path / "comparison.json", COMPARISON)
    text = (tmp_path / "comparison.json").read_text()
    assert "Infinity" not in text
    assert "NaN" not in text
    broken = replace(COMPARISON, base_loss=replace(COMPARISON.base_loss, value=math.inf, hi=math.inf))
    with pytest.raises(ValueError, match="JSON"):
        write_comparison(tmp_path / "broken.json", broken)


OLDER = {"tpr_at_10pct_fpr": "recall", "each_tpr_at_10pct_fpr": "each_recall"}


def as_version_3(content: object) -> object:
    """What version 3 wrote: the TPR at FPR 0.1 under its older name."""
    if isinstance(content, list):
        return [as_version_3(entry) for entry in content]
    if isinstance(content, dict):
        return {OLDER.get(name, name): as_version_3(entry) for name, entry in content.items()}
    return content


@pytest.mark.parametrize("comparison", [COMPARISON, ALONE, NOTHING])
@pytest.mark.parametrize("version", [2, 3])
def test_files_of_older_versions_are_read(comparison: Comparison, version: int, tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    write_comparison(path, comparison)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(as_version_3(content) | {"schema_version": version}))
    assert read_comparison(path) == replace(comparison, provenance=content["provenance"])


@pytest.mark.parametrize("broken", [{"points": 3}, {"pairs": [3]}, {"settings": {}}, {"settings": [{"matched": 3}]}])
def test_a_broken_file_of_an_older_version_is_refused(broken: dict, tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    write_comparison(path, COMPARISON)
    path.write_text(json.dumps(as_version_3(json.loads(path.read_text()) | {"schema_version": 3}) | broken))
    with pytest.raises(BadInput, match="broken"):
        read_comparison(path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": "reticent.comparison", "schema_version": 99}'])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    path.write_text(content)
    with pytest.raises(BadInput):
        read_comparison(path)
    with pytest.raises(BadInput, match="missing"):
        read_comparison(tmp_path / "none.json")


@pytest.mark.parametrize("comparison", [COMPARISON, ALONE, NOTHING, hostile(COMPARISON)])
def test_the_page_nests_runs_no_script_and_asks_no_network(comparison: Comparison) -> None:
    html = render_comparison(comparison)
    page = Page(html)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "iframe", "object", "form", "base")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    policy = next(one["content"] for tag, one in page.tags if tag == "meta" and "http-equiv" in one)
    style = html.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in style
    assert "@import" not in style
    ids = [one["id"] for _, one in page.tags if "id" in one]
    assert len(ids) == len(set(ids))
    for tag, one in page.tags:
        if tag == "a" and (one.get("href") or "").startswith("#"):
            assert (one["href"] or "")[1:] in ids


def test_hostile_text_is_shown_and_does_nothing() -> None:
    page = Page(render_comparison(hostile(COMPARISON)))
    assert page.text.count(HOSTILE) > 50
    assert "49" not in re.findall(r"onerror=alert\(2\)>(\d+)", page.text)


def test_what_was_refused_is_said_on_the_page() -> None:
    text = Page(render_comparison(COMPARISON)).text
    assert "not ranked: the interval of the difference covers 0." in text
    assert "diverged" in text
    assert "Intervals take records as independent" in text
    assert "did not" not in Page(render_comparison(ALONE)).text
    assert "no training was finished" in Page(render_comparison(NOTHING)).text


def test_what_private_trainings_cost_together_is_said_with_unit_delta_and_relation() -> None:
    text = " ".join(Page(render_comparison(COMPARISON)).text.split())
    (together,) = COMPARISON.together
    assert "Privacy spent: ε = 21.31 per user at δ = 1e-05 (add or remove one user) over all 6 private" in text
    assert together.sentence() in text
    assert "24 trainings on this data promised no privacy" in text
    assert "Privacy spent" not in Page(render_comparison(replace(COMPARISON, together=()))).text
    part = replace(COMPARISON, together=(replace(together, not_counted=1),))
    assert Page(render_comparison(part)).text.count("at least ε = 21.31 per user") == 2


def test_equal_comparisons_give_equal_pages() -> None:
    assert render_comparison(COMPARISON) == render_comparison(load_sample().comparison())


def test_labels_leave_out_what_all_share() -> None:
    one = COMPARISON.settings[0]
    defended = replace(one, name="full, dedup_users", defence="dedup_users")
    assert labels((one, defended)) == ["none", "dedup users"]
    assert labels((one, COMPARISON.settings[1])) == ["full", "head"]
    assert labels((one,)) == ["full"]


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        (((1e-4, 20), (1e-4, 20)), "step 20 at rate 0.0001, as trained"),
        (((1e-4, 20), (1e-4, 10)), "steps 10 and 20 at rate 0.0001"),
        (((3e-4, 20), (1e-4, 10)), "step 10 at rate 0.0001 and step 20 at 0.0003"),
    ],
)
def test_where_a_matched_value_is_read_off(looks: Any, words: str) -> None:
    auc = Estimate(value=0.6, lo=0.5, hi=0.7, n=10, method="")
    assert between(MatchedUtility(setting=0, loss=3.0, auc=auc, tpr_at_10pct_fpr=None, between=looks)) == words


def test_the_console_prints_the_answer_and_a_row_a_setting() -> None:
    console = Console(record=True, width=160, quiet=False)
    print_comparison(replace(COMPARISON, headline="[bold]not markup[/bold]"), console=console)
    text = console.export_text()
    assert "[bold]not markup[/bold]" in text
    assert "adapter(16)" in text
    assert "diverged" in text
    assert "6 private trainings together: ε = 21.31 per user at δ = 1e-05" in " ".join(text.split())


def test_comparisons_are_listed(tmp_path: Path) -> None:
    write_comparison(tmp_path / "one" / "comparison.json", COMPARISON)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "compare.yaml").write_text("")
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "comparison.json").write_text("{")
    rows = {row.id: row for row in runs(tmp_path)}
    assert (rows["one"].status, rows["one"].headline) == ("comparison", COMPARISON.headline)
    assert rows["two"].status == "unfinished"
    assert rows["three"].status == "unreadable"
