# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them: as many digits as the interval supports, never without the interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reticent.core.finding import Estimate
from reticent.core.metrics import metric as entry


@dataclass(frozen=True, kw_only=True)
class FormattedEstimate:
    """An estimate as text: ``value`` and ``interval`` without unit, ``unit``, and the interval's ``confidence``."""

    value: str
    interval: str
    unit: str
    confidence: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.value, self.unit, self.interval) if part)


def metric_name(metric: str) -> str:
    """``tpr@0.01`` as "TPR at 1 % FPR"; unknown metrics as they are."""
    return entry(metric).label


def show(estimate: Estimate, metric: str = "") -> FormattedEstimate:
    """``estimate`` with two significant digits of its uncertainty; in percent where `reticent.core.metrics` says so."""
    percent = entry(metric).percent
    scale = 100.0 if percent else 1.0
    places = decimals(estimate, scale)
    lo = f"[{_fixed(estimate.lo * scale, places)}" if math.isfinite(estimate.lo) else "(−∞"
    hi = f"{_fixed(estimate.hi * scale, places)}]" if math.isfinite(estimate.hi) else "∞)"
    sided = "" if math.isfinite(estimate.lo) and math.isfinite(estimate.hi) else ", one-sided"
    return FormattedEstimate(
        value=_fixed(estimate.value * scale, places),
        interval=f"{lo}, {hi}",
        unit="%" if percent else estimate.unit,
        confidence=f"{estimate.confidence * 100:g} %{sided}"
        if estimate.joint is None
        else f"{estimate.joint * 100:g} % jointly{sided}",
    )


def decimals(estimate: Estimate, scale: float = 1.0) -> int:
    """Decimal places that show two significant digits of the interval's half width, in percent of its width; from 0 to
    4."""
    ends = [end for end in (estimate.lo, estimate.hi) if math.isfinite(end)]
    half = (max(ends) - min(ends)) / 2 * scale if ends else 0.0
    if half <= 0:
        return 1 if scale > 1 else 2
    if scale > 1:
        return min(max(1 - math.floor(math.log10(2 * half)), 0), 4)
    return min(max(1 - math.floor(math.log10(half)), 1), 4)


def p_value(p: float) -> str:
    """A p-value with two significant digits, small ones as ``< 0.0001``."""
    if p < 0.0001:
        return "< 0.0001"
    return f"{p:.4f}" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def signed(value: float, places: int = 2) -> str:
    """A score, with a true minus sign."""
    return _fixed(value, places) if abs(value) < 1e5 else f"{value:.3g}".replace("-", "−")


def plain(value: float) -> str:
    """A number of which nothing is known, with four digits.

    >>> plain(0.12345), plain(-1234567.0), plain(1e-9)
    ('0.1235', '−1.235e+06', '1e-09')
    """
    return f"{value:.4g}".replace("-", "−", 1) if value < 0 else f"{value:.4g}"


def up(value: float, places: int = 2) -> str:
    """A limit that is promised, rounded up: never in the flattering direction.

    >>> up(0.58411, 3), up(0.5, 3)
    ('0.585', '0.500')
    """
    return _fixed(math.ceil(value * 10**places - 1e-7) / 10**places, places)


def percent_up(share: float) -> str:
    """A share that is promised as per cent, rounded up to a tenth."""
    return up(100 * share, 1)


def _fixed(value: float, places: int) -> str:
    text = f"{value:,.{places}f}"
    if not text.strip("-0.,"):
        text = text.removeprefix("-")
    return text.replace("-", "−").replace(",", "\u202f")
