# SPDX-License-Identifier: Apache-2.0
"""The kinds of attack that an audit tried, and those that it did not: read off its results, not off a list of features.

A kind counts as tried where the results hold something that only it leaves there. Switches of the audit and levels of
access that no kind here knows are listed by their own names, so that a new one is not passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reticent.core.results import Results

ELSEWHERE = "Attacks not yet invented: a lower bound on leakage is all that an audit gives."
"""Said of every audit."""

INSIDE = ("hidden", "grad", "weights")
"""The access of an attacker who looks into the model."""

NO_ATTACKS = {"show_text", "keep_shadows"}
"""Switches of an audit that try nothing."""


@dataclass(frozen=True, kw_only=True)
class AttackKind:
    """One kind of attack.

    Args:
        name: in plain words.
        asks: the question that it answers.
        try_it: how it would be tried, with the flag.
        tried: whether the results hold something of it.
        switch: the field of the audit's settings that switches it on; empty: none.
    """

    name: str
    asks: str
    try_it: str
    tried: Callable[[Results], bool]
    switch: str = ""

    def untried(self, *, asked: bool) -> str:
        """One line for what was not tested; ``asked``: it was switched on, and there was nothing to measure."""
        reason = "it was asked for, and there was too little to measure" if asked else self.try_it
        return f"{self.name}: {self.asks}; {reason}"


def _level(level: str, *metrics: str) -> Callable[[Results], bool]:
    return lambda results: any(
        finding.level == level and (not metrics or finding.metric.partition("@")[0] in metrics)
        for finding in results.all_findings
    )


def _family(family: str) -> Callable[[Results], bool]:
    return lambda results: (
        results.extraction is not None and any(row.family == family for row in results.extraction.rows)
    )


def _access(results: Results) -> set[str]:
    """The access that the attackers of this audit had."""
    seen = {run.access for run in results.attacks if run.ran} | {
        finding.threat.access for finding in results.all_findings
    }
    return seen | {row.access for row in results.extraction.rows} if results.extraction else seen


KINDS = (
    AttackKind(
        name="Membership, per record",
        asks="whether a record can be told to have been trained on",
        try_it="give at least 10 records on each side (--members, --held_out)",
        tried=_level("record", "auc", "tpr", "advantage"),
    ),
    AttackKind(
        name="Membership, per user",
        asks="whether a person can be told to have been trained on",
        try_it="it needs 10 users who were in and 10 who were not: tune with --user_field and --split_unit user",
        tried=_level("user", "auc", "tpr"),
    ),
    AttackKind(
        name="Extraction",
        asks="what the model writes of its training data word for word; it was only scored, not sampled",
        try_it="add --extraction",
        tried=_family("extraction"),
        switch="extraction",
    ),
    AttackKind(
        name="Personal data",
        asks="whether the model gives away addresses, numbers and names to somebody who asks",
        try_it="add --extraction, on records that hold some (`reticent prepare` marks them)",
        tried=_family("personal data"),
        switch="extraction",
    ),
    AttackKind(
        name="Identifiers",
        asks="whether numbers, keys and digests of the records are known among controls of the same form",
        try_it="add --identifiers",
        tried=_level("identifier"),
        switch="identifiers",
    ),
    AttackKind(
        name="Planted secrets",
        asks="how far up the model ranks made-up secrets that it was trained on",
        try_it="`reticent tune --canaries 100` plants some",
        tried=lambda results: bool(results.exposure),
    ),
    AttackKind(
        name="Planted users",
        asks="whether people with a phrase of their own are told",
        try_it="`reticent tune --canary_users 40` plants some",
        tried=_level("canary", "auc", "tpr"),
    ),
    AttackKind(
        name="Bound on ε",
        asks="how much privacy the training can have had at most",
        try_it="it needs coins of probability 0.5 that `reticent tune` threw",
        tried=lambda results: any(
            finding.metric in ("epsilon_lower", "epsilon_if") for finding in results.all_findings
        ),
    ),
    AttackKind(
        name="Privacy promise",
        asks="whether the model gives away more than differential privacy allows; none was promised",
        try_it="`reticent tune --epsilon 8 --unit user` makes a promise",
        tried=lambda results: results.promise is not None,
    ),
    AttackKind(
        name="The inside of the model (white box)",
        asks="what hidden states and gradients give away to somebody who has the weights",
        try_it="add --whitebox",
        tried=lambda results: bool(_access(results) & set(INSIDE)),
        switch="whitebox",
    ),
    AttackKind(
        name="Attackers who only read what the model writes",
        asks="whether membership shows in its answers alone",
        try_it="add --attacks all",
        tried=lambda results: any(
            run.ran and run.access == "text" and run.level in ("record", "user") for run in results.attacks
        ),
    ),
    AttackKind(
        name="Poisoning and backdoors",
        asks="what attackers gain who saw or changed the training itself",
        try_it="no flag of this audit tries it",
        tried=lambda results: "train_time" in _access(results),
    ),
)


def tried(results: Results) -> list[str]:
    """Names of the kinds that were tried, and of further kinds of evidence."""
    return [*(kind.name for kind in KINDS if kind.tried(results)), *(section.title for section in results.sections)]


def untried(results: Results) -> list[str]:
    """One line for each kind that was not tried, with what would try it."""
    on = {name for name, value in _settings(results).items() if value is True}
    missing = [kind.untried(asked=kind.switch in on) for kind in KINDS if not kind.tried(results)]
    return [*missing, *_unknown(results), ELSEWHERE]


def statistics(results: Results) -> list[str]:
    """The statistics that were refused, so not tested either. Each once, without the kinds of `untried` and without
    the attacks that the page lists as switched off."""
    elsewhere = {*untried(results), *(f"{run.name}: {run.why_not}" for run in results.attacks if not run.ran)}
    return [line for line in dict.fromkeys(results.not_tested) if line not in elsewhere]


def _settings(results: Results) -> Mapping[str, Any]:
    """The audit's settings, as far as the results hold them."""
    settings = results.provenance.get("audit")
    return settings if isinstance(settings, Mapping) else {}


def _unknown(results: Results) -> list[str]:
    """Switches of the audit that were off, and that no kind is known to be behind."""
    switches = {kind.switch for kind in KINDS} | NO_ATTACKS
    return [
        f"{name.replace('_', ' ').capitalize()}: not asked for; add --{name}"
        for name, value in sorted(_settings(results).items())
        if value is False and name not in switches
    ]
