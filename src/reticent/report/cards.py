# SPDX-License-Identifier: Apache-2.0
"""The key numbers of a report: one card each, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace

from markupsafe import Markup

from reticent.core.finding import Estimate
from reticent.core.results import GuaranteeAudit, Results
from reticent.report import number_format as numbers
from reticent.report import plots, summary
from reticent.report.number_format import FormattedEstimate

RELATIONS = {"add_or_remove": "added or removed", "zero_out": "zeroed out", "replace_one": "replaced"}
"""The change of one unit between data sets that the promise makes indistinguishable."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One key number, or why there is none."""

    label: str
    shown: FormattedEstimate | None
    prefix: str = ""
    caption: str
    gauge: Markup | None = None


def cards(results: Results) -> list[Card]:
    """The numbers to know first. Where nothing can be said about membership, only those that need no membership."""
    if results.verdict.status == "confounded":
        return [_blind_card(results), _exposure_card(results), *_pulled_cards(results)]
    return [
        _auc_card(results, "record"),
        _auc_card(results, "user"),
        _exposure_card(results),
        _epsilon_card(results),
        *_pulled_cards(results),
    ]


def _auc_card(results: Results, level: str) -> Card:
    finding = summary.best(results, level, "auc")
    label = f"Best {level} attack, AUC"
    if finding is None:
        missing = {
            "record": "No record-level attack could be measured.",
            "user": "No user-level attack ran: it needs a user field and users who were left out.",
        }
        return Card(label=label, shown=None, caption=missing[level])
    caption = f"How often a trained {level} scores above one that was not, by {finding.attack}; 0.5 is guessing."
    tpr = summary.best(results, level, "tpr@0.01")
    if tpr is not None:
        shown = numbers.show(tpr.estimate, tpr.metric)
        caption += f" At 1 % false alarms {tpr.attack} finds {shown.value}\u00a0% {shown.interval} of them."
    return Card(
        label=label,
        shown=numbers.show(finding.estimate, "auc"),
        caption=caption,
        gauge=auc_gauge(f"card-{level}", finding.estimate, label),
    )


def _exposure_card(results: Results) -> Card:
    label = "Planted secrets"
    for kind in ("record", "user"):
        most, controls = summary.planted(results, kind)
        if most is None:
            continue
        caption = f"Median exposure of {kind} canaries {most.tier}, n = {len(most.each)}. "
        if controls is not None:
            shown = numbers.show(controls.bits)
            caption += f"Controls: {shown.value} bits {shown.interval}."
        gauge = plots.gauge(
            "card-exposure",
            most.bits,
            low=0,
            high=round(max(most.ceiling, 1.0), 1),
            chance=controls.bits.value if controls else None,
            title=label,
        )
        shown = numbers.show(most.bits)
        return Card(label=label, shown=shown, caption=caption, gauge=gauge)
    return Card(
        label=label, shown=None, caption="No secrets were planted before training, so none could be looked for."
    )


def _epsilon_card(results: Results) -> Card:
    label = "Privacy loss (ε)"
    finding = summary.strongest_epsilon(results)
    if finding is None:
        promised = "" if results.promise is None else f"{_promised(results.promise)} "
        return Card(label=label, shown=None, caption=f"{promised}No ε audit ran.")
    estimate = finding.estimate
    shown = replace(numbers.show(estimate, finding.metric), unit="")
    stated = not estimate.unit or estimate.unit in finding.statement
    caption = finding.statement if stated else f"{estimate.unit}. {finding.statement}"
    if results.promise is not None:
        caption = f"{_promised(results.promise)} {caption}"
    return Card(label=label, shown=shown, prefix="ε ≥ ", caption=caption)


def _pulled_cards(results: Results) -> list[Card]:
    """A card for each family of attacks that was tried, with the share that comes out word for word."""
    if results.extraction is None:
        return []
    confounded = results.verdict.status == "confounded"
    shown_cards = []
    for family, label in (("extraction", "Pulled out word for word"), ("personal data", "Personal data pulled out")):
        row = results.extraction.strongest(family, only_planted=confounded)
        if row is None:
            continue
        caption = f"{row.units.capitalize()}, {row.group}, by {row.attack}, n = {row.n:,}."
        if row.base is not None:
            caption += f" From the base model: {_percent(row.base)}."
        if row.above_control is not None:
            shown = numbers.show(row.above_control, "share")
            caption += f" Above what was never trained on: {shown.value}\u00a0% {shown.interval}."
        shown_cards.append(Card(label=label, shown=numbers.show(row.target, "share"), caption=caption))
    return shown_cards


def _percent(estimate: Estimate) -> str:
    shown = numbers.show(estimate, "share")
    return f"{shown.value}\u00a0% {shown.interval}"


def _blind_card(results: Results) -> Card:
    blind = results.confound.blind_auc
    label = "Blind baseline, AUC"
    if blind is None:
        return Card(label=label, shown=None, caption="Too few units for a blind baseline.")
    caption = "Tells members from held-out by their text alone, without asking the model; 0.5 is guessing."
    return Card(
        label=label, shown=numbers.show(blind, "auc"), caption=caption, gauge=auc_gauge("card-blind", blind, label)
    )


def _promised(promise: GuaranteeAudit) -> str:
    """The promise as short as it can be without losing its meaning."""
    most = plots.epsilon(promise.epsilon, up=True)
    done = RELATIONS.get(promise.relation, promise.relation)
    return f"Promised: ε ≤ {most} nats (δ = {promise.delta:g}, one {promise.unit} {done})."


def auc_gauge(identity: str, estimate: Estimate | None, title: str) -> Markup | None:
    if estimate is None:
        return None
    low = 0.3 if estimate.lo >= 0.3 else 0.0
    return plots.gauge(identity, estimate, low=low, high=1.0, chance=0.5, title=title)
