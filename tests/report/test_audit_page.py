# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jinja2 import ChoiceLoader, DictLoader

from reticent.core.codec import parts, unmarked
from reticent.core.field_types import OneOf
from reticent.core.finding import Estimate, Finding, Severity
from reticent.core.paper import paper_url
from reticent.core.results import Results
from reticent.core.section import Column, Mark, Section, Table, Words
from reticent.report.audit_page import _templates, render, write_report

HOSTILE = "</style></script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}&lt;"
KINDS = ["leaking", "not_detected", "confounded", "underpowered", "private", "broken", "extracted", "further"]
VOID = {"meta", "link", "br", "input", "img", "wbr", "hr"}


class Page(HTMLParser):
    """The page as a list of ``(tag, attributes, path of open tags)``; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes, _ in self.tags if tag in names]


def _hostile(value: Any, key: str = "", closed: bool = False) -> Any:
    """``value`` with every free text replaced by the hostile one; closed vocabularies stay."""
    if isinstance(value, Severity) or closed or key in ("access", "metric", "level"):
        return value
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, tuple | list):
        return tuple(_hostile(entry) for entry in value)
    if isinstance(value, dict):
        return {HOSTILE: {HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]}} if key != "counts" else {HOSTILE: 3}
    if is_dataclass(value) and not isinstance(value, type):
        changes = {}
        for field, hint in parts(type(value)):
            fixed = any(isinstance(mark, OneOf) for mark in unmarked(hint)[1]) or field.name in ("name", "address")
            fixed = fixed and not (field.name == "name" and type(value) not in (Section, Table, Column))
            changes[field.name] = _hostile(getattr(value, field.name), field.name, closed=fixed)
        return replace(value, **changes)
    return value


@pytest.fixture(scope="module", params=[*KINDS, "hostile"])
def html(sample: ModuleType, request: pytest.FixtureRequest) -> str:
    hostile = request.param == "hostile"
    results = getattr(sample, "broken" if hostile else request.param)()
    results = _hostile(replace(results, sections=sample.further().sections)) if hostile else results
    return render(results)


def test_hostile_text_is_shown_and_does_nothing(sample: ModuleType) -> None:
    leaking = sample.leaking()
    results = _hostile(replace(leaking, findings=(*leaking.findings, *sample.not_detected().findings)))
    results = replace(results, attacks=(*results.attacks, replace(results.attacks[0], ran=False)))
    page, plain = Page(render(results)), Page(render(leaking))
    assert page.all("script", "img", "iframe", "object", "form", "base") == []
    assert {tag for tag, _, _ in page.tags} <= {tag for tag, _, _ in plain.tags} | {"ul", "li"}
    assert not [name for _, attributes, _ in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) > 100
    assert "49" not in re.findall(r"onerror=alert\(2\)>(\d+)", page.text)


def test_the_policy_allows_the_pages_own_style_and_nothing_else(html: str) -> None:
    policy = next(meta["content"] for meta in Page(html).all("meta") if "http-equiv" in meta)
    style = html.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert "unsafe" not in policy
    assert not [attributes for _, attributes, _ in Page(html).tags if "style" in attributes]


def test_nothing_is_asked_of_any_network(html: str) -> None:
    page = Page(html)
    assert page.all("script") == []
    for attributes in page.all("link", "img", "image", "use"):
        assert (attributes.get("href") or attributes.get("src") or "").startswith(("data:", "#"))
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    links = [a.get("href") or "" for a in page.all("a")]
    assert all(re.fullmatch(r"#[a-z-]+|https://arxiv\.org/abs/\d{4}\.\d{4,5}", link) for link in links)


def test_the_structure_serves_a_screen_reader(html: str) -> None:
    page = Page(html)
    names = Counter(tag for tag, _, _ in page.tags)
    assert (names["h1"], names["main"], names["nav"], names["header"], names["footer"]) == (1, 1, 1, 1, 1)
    ids = [attributes["id"] for _, attributes, _ in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    pointed = [(a.get("href") or "")[1:] for a in page.all("a") if (a.get("href") or "").startswith("#")]
    pointed += [name for _, a, _ in page.tags for name in (a.get("aria-labelledby") or "").split()]
    assert set(pointed) <= set(ids)
    levels = [int(tag[1]) for tag, _, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip([0, *levels], levels, strict=False))
    for svg in page.all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and svg.get("aria-labelledby"))
    assert names["table"] == names["caption"]
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in page.all("th"))
    tables = [path for tag, _, path in page.tags if tag == "table"]
    boxes = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert len(boxes) == len(tables)
    assert all(box.get("tabindex") == "0" and box.get("aria-label") for box in boxes)
    inputs = [path for tag, _, path in page.tags if tag == "input"]
    assert all(path[-1] == "label" for path in inputs)


def test_the_verdict_comes_first_with_words_and_icon(sample: ModuleType) -> None:
    for kind in KINDS:
        results: Results = getattr(sample, kind)()
        html = render(results)
        start = html.index('id="verdict"')
        assert html.index("<h2") > start
        assert results.verdict.headline in html[start : start + 4000]
        assert 'class="icon"' in html[start : start + 4000]
    assert "safe" not in Page(render(sample.underpowered())).text


def test_key_numbers_have_intervals_and_units(sample: ModuleType) -> None:
    text = " ".join(Page(render(sample.leaking())).text.split())
    for shown in ("0.943 [0.933, 0.953]", "0.681 [0.627, 0.735]", "12.28 bits [11.38, 13.18]", "ε ≥ 3.10 [3.10, ∞)"):
        assert shown in text
    assert "δ = 1e-5" in text
    assert "Controls: 1.37 bits" in text


def test_a_promise_is_shown_beside_what_was_audited(sample: ModuleType) -> None:
    results = sample.private()
    text = " ".join(Page(render(results)).text.split())
    assert results.promise.sentence in text
    assert "Nothing above it was found." in text
    assert "no attack on a user has an AUC above 0.8635. Measured: 0.519 [0.478, 0.560]" in text
    assert "At 1 % false alarms, no attack finds more than 21.9 % of the users." in text
    assert "At 10 % false alarms, no attack finds more than 60.6 % of the users. Measured: 12 % [6, 19] by" in text
    assert "within Gaussian differential privacy with μ = 1.551" in text
    assert "Most true positives that the promise allows: at 1 % 21.9 %; at 10 % 60.6 %." in text
    assert "3 of 4 checks passed, the others could not be made." in text
    assert "Promised: at most 8.00. Audited by users, one run: at least 0.00" in text
    for line in (*results.promise.not_covered, *results.promise.together):
        assert line in text
    assert "With the runs on this data that lie beside it: 2 private trainings together" in text
    assert "Promise" not in Page(render(sample.leaking())).text


def test_a_broken_promise_is_called_so(sample: ModuleType) -> None:
    html = render(sample.broken())
    text = " ".join(Page(html).text.split())
    assert "No. The promise is broken." in text
    assert "1 of 5 checks failed." in text
    assert html.count('class="bar-broken"') == 3
    assert "planted secrets, one run: at least 3.10, more than promised" in text
    assert "it comes to ε = 41.30 per user" in text
    assert "canary users: no ε per user is known." in text
    assert text.count("Audited by") == 2  # canary users are held against nothing, so no bar says that they were


def test_a_promise_that_nothing_is_held_against_is_not_said_to_hold(sample: ModuleType) -> None:
    results = sample.private()
    alone = replace(results, promise=replace(results.promise, bounds=(), auc=None, auc_attack="", checks=()))
    text = Page(render(alone)).text
    assert "Unknown: nothing could be held against it." in text
    assert "No checks are on record." in text
    assert "Nothing above it" not in text


def test_what_can_be_pulled_out_is_shown_beside_the_base_and_what_was_never_trained_on(sample: ModuleType) -> None:
    page = Page(render(sample.extracted()))
    text = " ".join(page.text.split())
    assert "What can be pulled out" in text
    for said in ("Planted 16 times", "70 % [50, 90]", "pulled out", "E-mail of a person", "made up people", "top-k 40"):
        assert said in text, said
    assert text.index("Planted 16 times") < text.index("Controls: what was never trained on")
    assert "3 secrets were left out" in text
    assert "What can be pulled out" not in Page(render(sample.leaking())).text


def test_a_kind_of_evidence_that_the_page_does_not_know_is_drawn(sample: ModuleType) -> None:
    page = Page(render(sample.further()))
    text = " ".join(page.text.split())
    start = text.index("How much of what was asked to be forgotten")
    assert text.index("What can be pulled out") < start < text.index("AUC with its interval")
    for said in ("By method", "0.620 [0.550, 0.690]", "62.5 %", "1,200", "arXiv:2310.10683", "of the base",
                 "still known", "Retrained without them", "not shown", "Two seeds only."):  # fmt: skip
        assert said in text, said
    assert "#forgetting" in [link.get("href") for link in page.all("a")]
    assert "https://arxiv.org/abs/2310.10683" in [link.get("href") for link in page.all("a")]
    html = render(sample.further())
    (section,) = re.findall(r'<section id="forgetting".*?</section>', html, flags=re.DOTALL)
    assert section.count("<table") == 2
    assert "<details><summary>Every record</summary>" in section
    told = replace(sample.further(), verdict=replace(sample.further().verdict, status="confounded"))
    assert "For inspection only" in re.findall(r'<section id="forgetting".*?</section>', render(told), re.DOTALL)[0]


def test_a_section_may_bring_a_template_of_its_own(sample: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    templates = _templates()
    mine = '<section id="{{ anchor }}"><h2>{{ section.title }}, drawn by hand</h2></section>'
    loaders = ChoiceLoader([DictLoader({"sections/forgetting.html": mine}), templates.loader])
    monkeypatch.setattr(templates, "loader", loaders)
    html = render(sample.further())
    assert "What was forgotten, drawn by hand" in html
    assert "By method" not in html


def test_a_section_cannot_take_the_place_of_the_pages_own(sample: ModuleType) -> None:
    (section, *_) = sample.further().sections
    html = render(replace(sample.leaking(), sections=(replace(section, name="verdict"),)))
    assert html.count('id="verdict"') == 1
    assert 'id="verdict-evidence"' in html
    for name in ("Verdict", "../x", "a b", ""):
        with pytest.raises(ValueError, match="lower-case"):
            replace(section, name=name)


def test_a_table_refuses_what_is_not_of_its_columns() -> None:
    columns = (Column(name="who", label="Who"), Column(name="n", label="n", kind="count"))
    with pytest.raises(ValueError, match="2 columns and a row of 1"):
        Table(name="t", title="t", columns=columns, rows=(("a",),))
    for cell in (0.5, True, "1", Words(text="x"), Mark(text="x")):
        with pytest.raises(ValueError, match="of kind 'count'"):
            Table(name="t", title="t", columns=columns, rows=(("a", cell),))
    assert Table(name="t", title="t", columns=columns, rows=(("a", None),)).groups == ((None, (("a", None),)),)
    with pytest.raises(ValueError, match="two columns of one name"):
        Table(name="t", title="t", columns=columns[:1] * 2, rows=())
    for address in ("javascript:alert(1)", "http://x", "https://a b", '#x"onclick', "//x"):
        with pytest.raises(ValueError, match="neither https"):
            Words(text="x", address=address)


@pytest.mark.parametrize(
    ("paper", "address"),
    [
        ("arXiv:2112.03570", "https://arxiv.org/abs/2112.03570"),
        ("doi:10.1145/3411501.3419430", "https://doi.org/10.1145/3411501.3419430"),
        ("https://example.org/a/b.pdf", "https://example.org/a/b.pdf"),
        ("javascript:alert(1)", ""),
        ('https://example.org/"onclick', ""),
        ("http://example.org/", ""),
        ("see arXiv:2112.03570", ""),
    ],
)
def test_papers_have_addresses_and_nothing_else_has(paper: str, address: str) -> None:
    assert paper_url(paper) == address


def test_a_confounded_split_names_no_one_and_claims_nothing(sample: ModuleType) -> None:
    results = sample.confounded()
    text = Page(render(results)).text
    assert "No membership claim is made." in text
    assert "Best record attack, AUC" not in text
    assert not [unit.unit for unit in results.exposed if unit.unit in text]
    assert sample.leaking().exposed[0].unit in Page(render(sample.leaking())).text


def test_switched_off_attacks_are_named_with_the_reason(sample: ModuleType) -> None:
    text = Page(render(sample.leaking())).text
    assert "Switched off (1)" in text
    assert "Give --access weights to switch it on." in text


def test_private_text_is_shown_only_when_it_is_there(sample: ModuleType) -> None:
    leaking = sample.leaking()
    assert ">Text</th>" not in render(leaking)
    told = replace(leaking, exposed=(replace(leaking.exposed[0], text="my secret is 12"), *leaking.exposed[1:]))
    assert "my secret is 12" in render(told)


def test_long_rankings_are_cut_and_said_to_be(sample: ModuleType) -> None:
    one = sample.leaking().exposed[0]
    many = tuple(replace(one, unit=f"r-{i:04}", rank=i + 1) for i in range(1015))
    text = Page(render(replace(sample.leaking(), exposed=many))).text
    assert "r-0014" in text
    assert "r-0015" not in text
    assert "The other 1,000 are in" in text


def test_a_leak_that_cannot_be_seen_is_said_to_be_unseen(sample: ModuleType) -> None:
    assert "no effect of any size" in Page(render(sample.underpowered())).text
    assert "No one on it was shown to be exposed" in Page(render(sample.not_detected())).text


def test_every_curve_can_be_chosen_and_has_a_rule_of_its_own(sample: ModuleType) -> None:
    html = render(sample.leaking())
    for i in range(13):
        assert html.count(f'class="pick-{i}"') == (2 if i < 3 else 1)
        assert f".roc:has(.pick-{i}:checked) .line-{i} " in html
    assert html.count(" checked>") == 4 + 3


def test_equal_results_give_equal_bytes(sample: ModuleType, tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", sample.leaking())
    write_report(tmp_path / "b.html", sample.leaking())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_odd_metrics_levels_and_bounds_do_not_break_the_page(sample: ModuleType) -> None:
    leaking = sample.leaking()
    first: Finding = leaking.findings[0]
    unbounded = Estimate(value=-1e9, lo=float("-inf"), hi=float("inf"), n=0, method="", unit="nats")
    odd = replace(first, metric="tpr@new", estimate=unbounded)
    provenance = {"a": [], "b": {}, "c": None, "d": [1, 2], "e": [{"f": 1}], "g": "x" * 500, "h": True}
    Page(render(replace(leaking, findings=(odd,), provenance=provenance)))


def _themes(style: str) -> list[dict[str, str]]:
    """The colours of the light and the dark theme and on paper, by name."""
    light, dark, printed = (
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6})\b", block))
        for block in re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    )
    return [light, light | dark, light | printed]


def _contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, as in WCAG 2."""

    def luminance(colour: str) -> float:
        colour = colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_and_marks_have_the_contrast_of_wcag_aa(sample: ModuleType, theme: int) -> None:
    """Every colour of words on every ground that words stand on, in SVG too, where checkers in browsers see nothing."""
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    colour = _themes(render(sample.underpowered()))[theme]
    tones = ("leaks", "calm", "stop", "unsure")
    for text in ("ink", "muted", "accent", *tones):
        for ground in ("bg", "surface", "shade"):
            assert _contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
    for tone in tones:
        for text in (tone, "ink", "muted"):
            assert _contrast(colour[text], colour[f"{tone}-bg"]) >= 4.5, (text, tone)
    for mark in ("member", "held", "focus", *(f"s{i}" for i in range(6))):
        for ground in ("surface", "shade"):
            assert _contrast(colour[mark], colour[ground]) >= 3, (mark, ground)


def test_every_colour_of_words_is_among_those_that_are_checked(sample: ModuleType) -> None:
    style = re.sub(r"/\*.*?\*/", "", render(sample.underpowered()).partition("</style>")[0])
    used = set(re.findall(r"[{;]\s*color: var\(--([a-z0-9-]+)", style))
    assert used <= {"ink", "muted", "accent", "leaks", "stop", "tone", "sev"}
    tones = set(re.findall(r"--(?:tone|sev): var\(--([a-z0-9-]+)\)", style))
    assert tones <= {"leaks", "calm", "stop", "unsure"}


def test_the_answer_comes_first_then_what_to_do_then_the_evidence(sample: ModuleType) -> None:
    for kind in KINDS:
        html = render(getattr(sample, kind)())
        shown = re.findall(r'<section id="([a-z-]+)"', html)
        assert re.findall(r'<a href="#([a-z-]+)">', html.partition("</nav>")[0]) == shown
        assert shown[0] == "verdict"
        assert shown[1] == ("numbers" if kind in ("not_detected", "underpowered", "private") else "first"), kind


def test_each_advice_is_given_once_the_most_severe_first_and_only_for_what_was_found(sample: ModuleType) -> None:
    html = render(sample.leaking())
    (todo,) = re.findall(r'<section id="first".*?</section>', html, flags=re.DOTALL)
    said = re.findall(r'<span class="severity">(\w+)</span> (.*?)</li>', todo)
    order = [list(Severity).index(Severity(severity)) for severity, _ in said]
    assert order == sorted(order)
    assert len({words for _, words in said}) == len(said) == 3
    assert all(html.count(words) == 1 for _, words in said)
    assert "What to do first" not in render(sample.not_detected())


def test_what_was_not_tested_has_kinds_of_attack_first_and_refusals_folded(sample: ModuleType) -> None:
    html = render(replace(sample.leaking(), not_tested=("user level: too few users", "user level: too few users")))
    section = html[html.index('<section id="not-tested"') :].partition("</section>")[0]
    assert section.index("add <code") < section.index("<details>") < section.index("User level: too few users")
    assert section.count("too few users") == 1
    assert "Tried: Membership, per record; Membership, per user; Planted secrets; Bound on ε." in section
    assert '<a href="#switched-off">' in section
    assert 'id="switched-off"' in html


def test_every_drawing_is_titled_with_its_model(sample: ModuleType) -> None:
    html = render(sample.extracted())
    inside = re.findall(r"<figure.*?</figure>", html, flags=re.DOTALL)
    titles = [re.findall(r"<title[^>]*>(.*?)</title>", one)[0] for one in inside]
    assert len(titles) > 20
    assert all(title.endswith(" · runs/demo/model") for title in titles)
