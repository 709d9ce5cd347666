# SPDX-License-Identifier: Apache-2.0
"""``report.html`` of a comparison: one self-contained page that asks nothing of any network and runs no script."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from reticent.core.atomic import write_text
from reticent.core.comparison import Comparison, MatchedUtility, Point, Setting
from reticent.core.composed_epsilon import rounded_up
from reticent.core.finding import Estimate
from reticent.data.canaries import NOT_PLANTED
from reticent.report import comparison_plots as plots
from reticent.report import number_format as numbers
from reticent.report.page import environment, filled
from reticent.report.setting_to_take import which_to_take
from reticent.report.svg import called

SECTIONS = (
    ("verdict", "Answer"),
    ("settings", "Each at its best"),
    ("matched", "At the same utility"),
    ("audited", "Audits"),
    ("trade-off", "Trade-off"),
    ("pairs", "Who leaks less"),
    ("epochs", "While training"),
    ("users", "People"),
    ("secrets", "Planted secrets"),
    ("fairness", "Who is served"),
    ("not-said", "What is not said"),
    ("trainings", "Trainings"),
    ("provenance", "Provenance"),
)


def write_comparison_page(path: str | Path, comparison: Comparison) -> None:
    """Write the page, atomically."""
    write_text(path, render_comparison(comparison), private=False)


def render_comparison(comparison: Comparison) -> str:
    """The whole page. Equal comparisons give equal bytes."""
    content = _titled(_content(comparison), comparison.title)
    return filled(_templates(), "comparison.html", content, more="comparison.css")


def _titled(content: Any, title: str) -> Any:
    """With the comparison's title in that of every drawing, so that each can be told by itself."""
    if isinstance(content, Markup):
        return called(content, title) if title and content.startswith("<svg") else content
    if isinstance(content, dict):
        return {name: _titled(entry, title) for name, entry in content.items()}
    if isinstance(content, list):
        return [_titled(entry, title) for entry in content]
    return tuple(_titled(entry, title) for entry in content) if type(content) is tuple else content


@cache
def _templates() -> Environment:
    filters = {
        "perplexity": perplexity,
        "exp": math.exp,
        "between": between,
        "million": lambda count: f"{count / 1e6:.2f}" if count >= 5000 else f"{count / 1e6:.2g}",
        "up": rounded_up,
        "minutes": lambda seconds: f"{seconds / 60:.1f}",
    }
    return environment(filters, {"show": numbers.show})


def perplexity(loss: Estimate) -> Estimate:
    """The exponential of a mean loss, with its interval's ends."""
    return Estimate(
        value=math.exp(loss.value),
        lo=math.exp(loss.lo),
        hi=math.exp(min(loss.hi, 700.0)),
        n=loss.n,
        method=loss.method,
        confidence=loss.confidence,
        higher_is_worse=False,
    )


def between(matched: MatchedUtility) -> str:
    """The two looks that a matched value is read off between, in words."""
    first, second = sorted(matched.between, key=lambda look: (look[0], look[1]))
    if first == second:
        return f"step {first[1]} at rate {first[0]:g}, as trained"
    if first[0] == second[0]:
        return f"steps {first[1]} and {second[1]} at rate {first[0]:g}"
    return f"step {first[1]} at rate {first[0]:g} and step {second[1]} at {second[0]:g}"


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """A setting with its label, its number (for the colour) and its point with the best held-out loss."""

    number: int
    label: str
    setting: Setting
    best: Point | None


def labels(settings: tuple[Setting, ...]) -> list[str]:
    """As short as can be: what all have in common is left out, be it the method, the defence or the schedule."""
    one_method = len({(setting.method, str(setting.params)) for setting in settings}) == 1
    if not one_method or len(settings) == 1:
        return [setting.name for setting in settings]
    one_defence = len({setting.defence for setting in settings}) == 1
    schedules = len({setting.schedule for setting in settings}) > 1
    return [
        ", ".join(
            ([] if one_defence and schedules else [setting.defence.replace("_", " ")])
            + ([setting.schedule.replace("_", " ")] if schedules else [])
        )
        for setting in settings
    ]


def _content(comparison: Comparison) -> dict[str, Any]:
    names = labels(comparison.settings)
    rows = [
        SettingRow(
            number=i,
            label=names[i],
            setting=setting,
            best=None if setting.best is None else comparison.points[setting.best],
        )
        for i, setting in enumerate(comparison.settings)
    ]
    return {
        "comparison": comparison,
        "take": which_to_take(comparison),
        "rows": rows,
        "names": names,
        "sections": [pair for pair in SECTIONS if pair[0] != "audited" or comparison.audited],
        "audited": [(rows[row.setting], row) for row in comparison.audited],
        "phases": [(name, words) for name, words in plots.PHASE_WORDS.items() if name != "start"],
        "trade_offs": _trade_offs(comparison, rows),
        "matched_plot": _matched(rows),
        "epochs": [(row, *_by_epoch(comparison, row)) for row in rows if row.best is not None],
        "users": _users(comparison, rows),
        "exposure": _exposure(rows),
        "tiers": sorted({tier for row in rows if row.best for tier in row.best.exposure}, key=_times),
        "fair_plot": _fair(rows),
        "lost": [cell for cell in comparison.cells if cell.status != "done"],
        "seeds": max((setting.seeds for setting in comparison.settings), default=0),
    }


def _trade_offs(comparison: Comparison, rows: list[SettingRow]) -> list[Markup]:
    lines = []
    base = math.exp(comparison.base_loss.value)
    matched = next((row.setting.matched.loss for row in rows if row.setting.matched), None)
    for name, leak, chance in (("auc", "AUC", 0.5), ("tpr_at_10pct_fpr", "TPR at 10 % FPR", 0.1)):
        clouds = []
        for row in rows:
            best = getattr(row.best, name) if row.best else None
            if row.best is None or best is None:
                continue
            dots = [
                plots.Dot(math.exp(point.loss.value), getattr(point, name).value, point.on_frontier)
                for point in comparison.points
                if point.setting == row.number and getattr(point, name) is not None
                and point.step > 0
            ]  # fmt: skip
            at = math.exp(row.best.loss.value)
            clouds.append(plots.Cloud(number=row.number, name=row.label, dots=tuple(dots), best=(at, best)))
        if clouds:
            lines.append(
                plots.trade_off(
                    f"trade-off-{name}",
                    clouds,
                    base=base,
                    leak=leak,
                    chance=chance,
                    matched=None if matched is None else math.exp(matched),
                )
            )
    return lines


def _matched(rows: list[SettingRow]) -> Markup | None:
    points = [(row.label, row.number, row.setting.matched.auc) for row in rows if row.setting.matched]
    if not points:
        return None
    return plots.forest(
        "matched-auc", points, title="AUC at the same held-out loss", axis="AUC (0.5 = guessing)", chance=0.5
    )


def _by_epoch(comparison: Comparison, row: SettingRow) -> tuple[Markup, list[tuple[int, float, bool]]]:
    """The drawing, and ``(index, rate, best)`` of its lines."""
    assert row.best is not None
    tracks = []
    for rate in row.setting.learning_rates:
        points = [p for p in comparison.points if p.setting == row.number and p.learning_rate == rate]
        steps = tuple(
            plots.PlotPoint(epoch=p.epoch, perplexity=math.exp(p.loss.value), auc=p.auc.value, phase=p.phase)
            for p in sorted(points, key=lambda point: point.step)
        )
        tracks.append(plots.PlotTrack(rate=rate, steps=steps, best=rate == row.best.learning_rate))
    key = [(i % 3, track.rate, track.best) for i, track in enumerate(tracks)]
    return plots.by_epoch(f"epochs-{row.number}", row.label, tracks), key


def _users(comparison: Comparison, rows: list[SettingRow]) -> Markup | None:
    curves = []
    for row in rows:
        if row.best is None:
            continue
        points = sorted(
            (p for p in comparison.points if p.setting == row.number and p.learning_rate == row.best.learning_rate),
            key=lambda point: point.step,
        )
        user_points = [(point.epoch, point.user_auc) for point in points if point.user_auc is not None]
        if user_points:
            curves.append((row.label, row.number, user_points))
    return plots.lines("users-auc", curves, title="AUC of user inference", chance=0.5) if curves else None


def _exposure(rows: list[SettingRow]) -> Markup | None:
    entries = []
    for row in rows:
        tiers = dict(row.best.exposure) if row.best else {}
        never = tiers.pop(NOT_PLANTED, None)
        if tiers:
            most = max(tiers, key=_times)
            entries.append((row.label, row.number, tiers[most], never))
    return plots.exposure("exposure", entries) if entries else None


def _times(tier: str) -> int:
    """How often secrets of the tier are planted."""
    if tier == NOT_PLANTED:
        return 0
    return next((int(word) for word in tier.split() if word.isdecimal()), 1)


def _fair(rows: list[SettingRow]) -> Markup | None:
    entries = [(row.label, row.number, row.setting.fairness.records) for row in rows if row.setting.fairness]
    if not entries:
        return None
    return plots.forest(
        "fairness-records", entries, chance=0.0, axis="nats a token (0 = even)",
        title="How much more easy texts gained than hard ones",
    )  # fmt: skip
