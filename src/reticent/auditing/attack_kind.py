# SPDX-License-Identifier: Apache-2.0
"""Kinds of attack that an audit tries, as its families declare them: what was tried, and what would try the rest.

A kind counts as tried where the results hold something that only it leaves there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reticent.core.results import KindOfAttack, Results

NO_ATTACKS = {"show_text", "keep_shadows", "one_at_a_time"}
"""Switches of an audit that try nothing."""


@dataclass(frozen=True, kw_only=True)
class AttackKind:
    """One kind of attack.

    Args:
        name: in plain words.
        asks: the question that it answers.
        try_it: how it would be tried, with the flag.
        tried: true where the results hold something of it.
        switch: the field of the audit's settings that switches it on; empty: none.
        applies: false for results of which there is nothing to ask, such as no federation's.
    """

    name: str
    asks: str
    try_it: str
    tried: Callable[[Results], bool]
    switch: str = ""
    applies: Callable[[Results], bool] = lambda results: True

    def of(self, results: Results, settings: Mapping[str, Any]) -> KindOfAttack:
        """The kind as these results have it; ``settings`` of the audit tell what was asked for."""
        if self.tried(results):
            return KindOfAttack(name=self.name, tried=True)
        asked = settings.get(self.switch) is True
        reason = "it was asked for, and there was too little to measure" if asked else self.try_it
        return KindOfAttack(name=self.name, tried=False, line=f"{self.name}: {self.asks}; {reason}")


def at_level(level: str, *metrics: str) -> Callable[[Results], bool]:
    """True for results with a finding of the level, in one of the metrics where some are given."""
    return lambda results: any(
        finding.level == level and (not metrics or finding.metric.partition("@")[0] in metrics)
        for finding in results.all_findings
    )


def with_metric(*metrics: str) -> Callable[[Results], bool]:
    """True for results with a finding in one of the metrics."""
    return lambda results: any(finding.metric in metrics for finding in results.all_findings)


def with_rows(family: str) -> Callable[[Results], bool]:
    """True for results with rows of that family in the tables of extraction."""
    return lambda results: (
        results.extraction is not None and any(row.family == family for row in results.extraction.rows)
    )


def with_access(*levels: str) -> Callable[[Results], bool]:
    """True for results of an attacker with one of these levels of access."""

    def seen(results: Results) -> bool:
        accesses = {run.access for run in results.attacks if run.ran}
        accesses |= {finding.threat.access for finding in results.all_findings}
        accesses |= {row.access for row in results.extraction.rows} if results.extraction else set()
        return bool(accesses & set(levels))

    return seen


def _changed(results: Results) -> bool:
    """True for results of an attacker in the training who does more than read what clients of a federation send."""
    findings = tuple(finding for finding in results.findings if finding.threat.access == "train_time")
    return bool(findings) or any(run.ran and run.access == "train_time" for run in results.attacks)


POISONING = AttackKind(
    name="Poisoning and backdoors",
    asks="what attackers gain who changed the training itself",
    try_it="no flag of this audit tries it",
    tried=_changed,
)
"""The kind that no family tries."""


def unknown_switches(settings: Mapping[str, Any], switches: set[str]) -> Iterator[KindOfAttack]:
    """Switches of the audit that were off, and that no kind is known to be behind, so that none is passed over.

    Args:
        settings: of the audit.
        switches: of the kinds that are known.
    """
    for name, value in sorted(settings.items()):
        if value is False and name not in switches | NO_ATTACKS:
            words = name.replace("_", " ").capitalize()
            yield KindOfAttack(name=words, tried=False, line=f"{words}: not asked for; add --{name}")
