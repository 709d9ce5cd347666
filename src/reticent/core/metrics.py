# SPDX-License-Identifier: Apache-2.0
"""Every number that a finding can hold, one entry each: what it is called, what chance gives, when it is severe, and
which limit of ``reticent gate`` reads it.

A metric is added by an entry in ``METRICS`` and nothing else: the verdict judges it, the page and the console name it,
the gate has its flags, and the table in ``docs/reading_the_report.md`` is made from here
(``python -m reticent.core.metrics docs/reading_the_report.md``).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit that ``reticent gate`` can hold a metric against.

    Args:
        flag: of the command, and the name of the argument in Python, e.g. ``"max_auc"``.
        levels: whose findings count; empty: those of every level.
        needs: what would have to be there for the limit to be checked.
        about: what the help says of it.
    """

    flag: str
    levels: tuple[str, ...] = ()
    needs: str
    about: str


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One kind of number, whatever measured it.

    Args:
        name: as in ``Finding.metric``.
        label: for people.
        unit: of the value; empty for a pure number. An estimate names its own, which goes before this.
        chance: the value for a model that gives nothing away; None where it is no constant.
        severity_steps: a lower end above these is critical, high, medium and low; empty: it has no severity of its own.
        severity_note: of the severity, for the table in the documentation.
        percent: whether people read it in per cent.
        higher_is_worse: whether a larger value means that more leaks.
        least, most: outside of these no value can lie.
        headline: levels at which the console prints the largest; ``"*"``: once, over all levels.
        limits: of ``reticent gate``.
    """

    name: str
    label: str
    unit: str = ""
    chance: float | None = None
    severity_steps: tuple[float, ...] = ()
    severity_note: str = ""
    percent: bool = False
    higher_is_worse: bool = True
    least: float = -math.inf
    most: float = math.inf
    headline: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        if len(self.severity_steps) not in (0, 4):
            raise ValueError(f"{self.name} needs four severity steps or none, got {self.severity_steps}")


def _tpr(rate: float, *, headline: tuple[str, ...] = (), limits: tuple[Limit, ...] = ()) -> Metric:
    """The share of members found at one false positive rate; chance finds as many as it accuses."""
    return Metric(
        name=f"tpr@{rate:g}",
        label=f"TPR at {rate * 100:g} % FPR",
        chance=rate,
        severity_steps=tuple(min(times * rate, top) for times, top in ((30, 0.9), (10, 0.6), (3, 0.3), (1, 1.0))),
        percent=True,
        least=0.0,
        most=1.0,
        headline=headline,
        limits=limits,
    )


_AUC = Metric(
    name="auc",
    label="AUC",
    chance=0.5,
    severity_steps=(0.9, 0.75, 0.6, 0.5),
    least=0.0,
    most=1.0,
    headline=("record", "user"),
    limits=(
        Limit(
            flag="max_auc",
            levels=("record",),
            needs="needs at least one record-level attack that ran",
            about="limit on the AUC of the best record-level attack (0.5 is chance).",
        ),
        Limit(
            flag="max_user_auc",
            levels=("user",),
            needs="needs a user field and at least one user-level attack that ran",
            about="limit on the AUC of the best user-level attack.",
        ),
    ),
)

_TPR_AT_1_PERCENT = _tpr(
    0.01,
    headline=("record",),
    limits=(
        Limit(
            flag="max_tpr_at_1pct_fpr",
            levels=("record",),
            needs="needs ≥ 1000 held-out records",
            about="limit on the best record-level true positive rate at 1 % false positives.",
        ),
    ),
)

_ADVANTAGE = Metric(
    name="advantage",
    label="Advantage (TPR − FPR)",
    chance=0.0,
    severity_steps=(0.65, 0.35, 0.15, 0.0),
)

_EXPOSURE = Metric(
    name="exposure_bits",
    label="Exposure",
    unit="bits",
    chance=1.0,
    severity_steps=(10.0, 5.0, 3.0, 1.0),
    severity_note="of a tier that [the rank test](statistics.md#tiers-of-planted-secrets) finds learned; chance is the "
    "median of secrets never planted",
    least=0.0,
    headline=("canary",),
    limits=(
        Limit(
            flag="max_exposure_bits",
            levels=("canary",),
            needs="needs canaries planted before training",
            about="limit on the median exposure of planted canaries, in bits.",
        ),
    ),
)

_EPSILON = Metric(
    name="epsilon_lower",
    label="ε lower bound",
    unit="nats",
    chance=0.0,
    severity_steps=(8.0, 4.0, 1.0, 0.0),
    severity_note="the primary bound",
    least=0.0,
    headline=("*",),
    limits=(
        Limit(
            flag="max_epsilon",
            levels=("record", "user", "canary"),
            needs="needs an ε audit",
            about="limit on the audited lower bound of epsilon, in nats; a model trained with less cannot show more.",
        ),
    ),
)

_EXTRACTED = Metric(
    name="extracted",
    label="Share pulled out",
    chance=0.0,
    severity_steps=(0.3, 0.1, 0.02, 0.0),
    severity_note="of the secrets, beyond what comes out otherwise",
    percent=True,
    least=-1.0,
    most=1.0,
    headline=("passage",),
    limits=(
        Limit(
            flag="max_extracted",
            levels=("passage",),
            needs="needs reticent audit --extraction",
            about="limit on the share of secrets that come out of the model and not of its base, from 0 to 1.",
        ),
    ),
)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _AUC,
        _tpr(0.1),
        _TPR_AT_1_PERCENT,
        _tpr(0.001),
        _ADVANTAGE,
        _EXPOSURE,
        _EPSILON,
        Metric(name="epsilon_if", label="ε lower bound, if its assumption holds", unit="nats", chance=0.0),
        Metric(name="promise_broken", label="Above the promise"),
        _EXTRACTED,
        Metric(name="share", label="Share", percent=True, least=0.0, most=1.0),
    )
}
"""By name, in the order in which they are listed."""

_LEVELS = ("record", "user", "canary", "passage", "identifier")
"""In the order in which the console and the gate go through them; others follow by name."""


def metric(name: str) -> Metric:
    """The metric of that name; one that nobody entered is called by its name and has no severity.

    >>> metric("tpr@0.05").label, metric("tpr@0.05").chance
    ('TPR at 5 % FPR', 0.05)
    >>> metric("new").label, metric("new").severity_steps
    ('new', ())
    """
    kind, _, rate = name.partition("@")
    if name not in METRICS and kind == "tpr" and _is_number(rate):
        return _tpr(float(rate))
    return METRICS.get(name) or Metric(name=name, label=name)


def steps(name: str) -> tuple[float, ...]:
    """The severity steps of a metric that has some.

    Raises:
        ValueError: it has none.
    """
    severity = metric(name).severity_steps
    if not severity:
        raise ValueError(f"metric {name!r} has no severity steps")
    return severity


def headlines() -> list[tuple[str, str]]:
    """``(level, metric)`` of the numbers that the console prints, in their order; level ``"*"``: over all levels."""
    listed = [(level, entry.name) for entry in METRICS.values() for level in entry.headline]
    return sorted(listed, key=lambda pair: _place(pair[0]))


def limits() -> dict[str, tuple[Metric, Limit]]:
    """Every limit of the gate by its flag, in the order in which they are checked."""
    listed = [(entry, limit) for entry in METRICS.values() for limit in entry.limits]
    listed.sort(key=lambda pair: max((_place(level) for level in pair[1].levels), default=_place("*")))
    return {limit.flag: (entry, limit) for entry, limit in listed}


def severity_table() -> str:
    """The severity steps of all metrics as a Markdown table."""
    return "\n".join(["| metric | critical | high | medium | low | chance |", "|---|---|---|---|---|---|", *_rows()])


def _rows() -> Iterator[str]:
    for entry in METRICS.values():
        if entry.severity_steps:
            unit = f", {entry.unit}" if entry.unit else ""
            note = f" ({entry.severity_note})" if entry.severity_note else ""
            cells = [f"{step:g}" for step in entry.severity_steps]
            chance = "" if entry.chance is None else f"{entry.chance:g}"
            yield f"| {entry.label} above{unit}{note} | {' | '.join(cells)} | {chance} |"
    yield "| more than was [promised](#promise) | always | | | | |"


BEGIN, END = "<!-- made by reticent.core.metrics: begin -->", "<!-- made by reticent.core.metrics: end -->"


def with_table(page: str) -> str:
    """The page with `severity_table` between the marks ``BEGIN`` and ``END``."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{severity_table()}\n\n{END}{after}"


def _place(level: str) -> tuple[int, str]:
    if level == "*":
        return len(_LEVELS) + 1, ""
    return (_LEVELS.index(level), "") if level in _LEVELS else (len(_LEVELS), level)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(with_table(place.read_text(encoding="utf-8")), encoding="utf-8")
