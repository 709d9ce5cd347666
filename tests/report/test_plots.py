# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from types import ModuleType

import pytest
from markupsafe import Markup

from reticent.core.finding import Estimate
from reticent.core.results import CanaryExposure, Curve, Distribution
from reticent.report import plots


def _parsed(drawing: Markup) -> ET.Element:
    """The drawing as XML, with a name and a description that it is labelled by."""
    root = ET.fromstring(drawing)
    assert root.get("role") == "img"
    ids = {part.get("id"): (part.text or "") for part in root}
    assert [bool(ids.get(name)) for name in (root.get("aria-labelledby") or "").split()] == [True, True]
    return root


def _with_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [part for part in root.iter() if name in (part.get("class") or "").split()]


def _curve(n_held_out: int) -> Curve:
    return Curve(
        attack="loss",
        level="record",
        fpr=(0.0, 0.0, 0.5, 1.0),
        tpr=(0.0, 0.25, 0.75, 1.0),
        n_member=4,
        n_held_out=n_held_out,
    )


def test_roc_draws_every_curve_and_the_chance_line(sample: ModuleType) -> None:
    curves = [curve for curve in sample.leaking().curves if curve.level == "record"]
    root = _parsed(plots.roc("a", curves))
    assert len(_with_class(root, "line")) == len(curves) == 13
    assert len({part.get("class") for part in _with_class(root, "line")}) == 13
    assert len(_with_class(root, "chance")) == 1


@pytest.mark.parametrize(("units", "floor"), [(2, 1.0), (10, 1.0), (100, 0.1), (2000, 0.005), (0, 1.0)])
def test_what_few_units_decide_is_shaded(units: int, floor: float) -> None:
    assert plots.fpr_floor([_curve(units)]) == pytest.approx(floor)
    shade = _with_class(_parsed(plots.roc("a", [_curve(units)])), "shade")
    lowest = 1e-2 if units < 1000 else 1e-3
    share = float(shade[0].get("width") or 0) / 376
    log_share = {1.0: 1.0, 0.1: 0.5, 0.005: 0.233}[floor]
    assert share == pytest.approx(log_share, abs=0.01), lowest


def test_a_curve_enters_at_its_height_on_the_left_edge() -> None:
    line = _with_class(_parsed(plots.roc("a", [_curve(100)])), "line")[0]
    start_y = float((line.get("d") or "")[1:].split("H")[0].split()[1])
    assert start_y == pytest.approx(300 + (34 - 300) * (1 + 0.301 - 0.602 + 0.699) / 2, abs=0.2)


def test_histograms_show_shares_not_counts() -> None:
    unequal = Distribution(attack="loss", level="record", edges=(0.0, 1.0, 2.0), member=(1, 1), held_out=(500, 500))
    root = _parsed(plots.histogram("a", unequal))
    member, held_out = (_with_class(root, name)[0].get("d") for name in ("member", "held-out"))
    assert member == held_out


def test_histograms_of_nothing_and_of_one_value_are_drawn() -> None:
    for counts in ((0,), (3,)):
        one = Distribution(attack="loss", level="user", edges=(1.0, 1.0), member=counts, held_out=(0,))
        _parsed(plots.histogram("a", one))


def test_exposure_has_a_dot_for_every_canary(sample: ModuleType) -> None:
    tiers = sample.leaking().exposure
    root = _parsed(plots.exposure("a", tiers))
    assert len(_with_class(root, "canary")) == sum(len(tier.each) for tier in tiers)
    heights = [float(part.get("cy") or 0) for part in _with_class(root, "canary")]
    assert all(34 <= height <= 280 for height in heights)
    assert len(_with_class(root, "ceiling")) == 1


def test_one_tier_alone_is_drawn(sample: ModuleType) -> None:
    alone: CanaryExposure = replace(sample.leaking().exposure[0], each=(), ceiling=0.0)
    _parsed(plots.exposure("a", [alone]))


def test_forest_tells_intervals_that_exclude_chance() -> None:
    def estimate(lo: float, hi: float) -> Estimate:
        return Estimate(value=(lo + hi) / 2, lo=lo, hi=hi, n=9, method="any")

    rows = [("a", estimate(0.6, 0.8)), ("b", estimate(0.4, 0.7)), ("a_name_that_is_very_long", estimate(0.1, 0.2))]
    root = _parsed(plots.forest("f", rows))
    assert [("away" in (part.get("class") or "")) for part in _with_class(root, "mark")] == [True, False, False]
    places = [float(part.get("cx") or 0) for part in _with_class(root, "mark")]
    assert places[0] > places[1] > places[2]
    assert "a_name_that_is_ve…" in [part.text for part in root]


def test_bars_repeat_a_number_so_they_are_hidden() -> None:
    root = ET.fromstring(plots.bar(0.25))
    assert root.get("aria-hidden") == "true"
    assert [part.get("width") for part in root] == ["80", "20"]
    assert [part.get("width") for part in ET.fromstring(plots.bar(7.0))] == ["80", "80"]


def test_the_extraction_curve_draws_model_and_base_and_says_where_they_end(sample: ModuleType) -> None:
    curves = sample.extracted().extraction.curves
    root = _parsed(plots.extraction("pulled", curves))
    paths = _with_class(root, "line-swatch")
    assert len(paths) == 2 * len(curves)
    assert len([path for path in paths if "d2" in (path.get("class") or "").split()]) == len(curves)
    assert "planted 16 times (n = 40): 100 % within 1,000,000 samples, base 3 %" in (root[1].text or "")
    alone = [replace(curve, base=()) for curve in curves]
    assert len(_with_class(_parsed(plots.extraction("pulled", alone)), "line-swatch")) == len(curves)
