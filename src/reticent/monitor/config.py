# SPDX-License-Identifier: Apache-2.0
"""Settings of the monitor. No torch, so that command lines can show their help at once."""

from __future__ import annotations

from dataclasses import dataclass

from reticent.core import validate

STOPS = ("", "memorization", "ngrams")


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """How a training is watched for memorization while it runs.

    Args:
        monitor: look at a fixed panel of members, held-out records and planted secrets before training, after each
            epoch and at the end. Weights do not change by it. With torchrun it is called --watch.
        monitor_panel: records of the panel that are trained on, and as many held-out ones; left out, as many as keep
            the looks within 10 % of the training (`reticent.monitor.panel` has the formula).
        monitor_every: look every so many optimizer steps; left out, after each epoch.
        stop_at: end the training early: "memorization" as soon as held-out perplexity no longer falls while leakage
            rises, or perplexity rises; "ngrams" as soon as members are clearly more often said word for word than
            held-out records. The model is what it is at that moment. Empty never stops.
        risk_list: score each member early in training by how likely it is to be memorized, and write risk.jsonl.
        risk_at: when that is done, as a share of the first epoch.

    Examples:
        >>> MonitorConfig(stop_at="memorization").watches, MonitorConfig(risk_list=True).watches
        (True, False)
    """

    monitor: bool = False
    monitor_panel: int | None = None
    monitor_every: int | None = None
    stop_at: str = ""
    risk_list: bool = False
    risk_at: float = 0.3

    def __post_init__(self) -> None:
        validate.one_of(STOPS, stop_at=self.stop_at)
        for name in ("monitor_panel", "monitor_every"):
            if getattr(self, name) is not None:
                validate.positive(**{name: getattr(self, name)})
        validate.in_range(0, 1, risk_at=self.risk_at)

    @property
    def watches(self) -> bool:
        """True if looks are made: asked for, or needed to know when to stop."""
        return self.monitor or bool(self.stop_at)

    @property
    def is_on(self) -> bool:
        """True if anything is done while the model trains."""
        return self.watches or self.risk_list
