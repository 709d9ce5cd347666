# SPDX-License-Identifier: Apache-2.0
"""Findings about records and users in words of somebody who knows no attack: what an attacker does how often.

The numbers follow in brackets, with interval, n and the attack's name.
"""

from __future__ import annotations

import math
import re

from reticent.core.finding import Estimate
from reticent.core.results import ExtractionRow, Power
from reticent.report import number_format as numbers

PAIR = {
    "record": "Shown a record that was trained on and one that was not",
    "user": "Shown texts of a user who was trained on and of one who was not",
    "canary": "Shown texts of two users with a phrase of their own, one who was trained on and one who was not",
}
"""Two units of a level, one from each side: the AUC is the chance to tell which is which."""
UNITS = {"record": "records", "user": "users", "canary": "canary users"}
ONES = {"record": "that were", "user": "who were", "canary": "who were"}
HOW = {"mean": "mean over a user's texts", "max": "largest over a user's texts", "min": "smallest over a user's texts"}


def numbered(count: int, words: str) -> str:
    """The count and after it the words, in which each ``{a|b}`` is ``a`` for one thing and ``b`` for several.

    >>> numbered(1, "{value|values} {was|were} left out"), numbered(1200, "{value|values} {was|were} left out")
    ('1 value was left out', '1,200 values were left out')
    """
    return f"{count:,} " + re.sub(r"\{([^|{}]*)\|([^|{}]*)\}", lambda form: form[1 if count == 1 else 2], words)


def readable(attack: str) -> str:
    """An attack's name as words.

    >>> readable("min_k_plus:mean"), readable("user_inference")
    ("min k plus, mean over a user's texts", 'user inference')
    """
    name, _, how = attack.partition(":")
    return ", ".join(part for part in (name.replace("_", " "), HOW.get(how, how.replace("_", " "))) if part)


def times(share: float, of: int = 100) -> str:
    """How often of a round number, never rounded to always or never.

    >>> times(0.974), times(1.0), times(0.999), times(0.002), times(0.0051, of=1000)
    ('97 times of 100', '100 times of 100', 'more than 99 times of 100', 'less than once of 100', '5 times of 1,000')
    """
    count = round(share * of)
    if count == of and share < 1:
        return f"more than {of - 1:,} times of {of:,}"
    if count == 0 and share > 0:
        return f"less than once of {of:,}"
    return f"{'once' if count == 1 else f'{count:,} times'} of {of:,}"


def many(share: float) -> str:
    """How many of 100, or of 1,000 where they are few; the same care as `times`.

    >>> many(0.506), many(0.004), many(0.9999)
    ('51 of 100', '4 of 1,000', 'more than 99 of 100')
    """
    counted = times(share, of=1000 if share < 0.1 else 100)
    return counted.replace(" times", "").replace("less than once", "less than 1").replace("once", "1")


def picks(level: str, attack: str, estimate: Estimate, *, found: bool) -> str:
    """An AUC: how often an attacker who is shown one unit of each side picks the right one.

    Args:
        level: "record", "user" or "canary".
        attack: its name in the registry.
        estimate: of the AUC.
        found: whether it counts as a leak.
    """
    right = times(estimate.value)
    if found:
        sentence = f"an attacker picks the right one {right}"
    elif estimate.hi < 0.5:
        sentence = f"an attacker is right only {right}, less often than a coin"
    else:
        sentence = f"an attacker was not seen to do better than a coin: right {right}"
    return f"{PAIR[level]}, {sentence} ({_auc(level, estimate)}; {readable(attack)})."


def names(level: str, attack: str, metric: str, estimate: Estimate, *, found: bool) -> str:
    """A true positive rate: how many units are named at a rate of false alarms; arguments as in `picks`."""
    alarm, units, ones = _alarm(level, metric), UNITS[level], ONES[level]
    shown = numbers.show(estimate, metric)
    rest = f"{numbers.metric_name(metric)}: {shown.value} % {shown.interval}, n = {estimate.n:,} {units}"
    if found:
        sentence = f"{many(estimate.value)} {units} {ones} trained on are named"
    else:
        sentence = f"no more of those {ones} were seen to be named than by chance: {many(estimate.value)}"
    return f"{alarm}, {sentence} ({rest}; {readable(attack)})."


def would_have_been_seen(power: Power) -> str:
    """The smallest effect that an audit of this size could see."""
    sides = f"{power.n_member:,} {UNITS[power.level]} {ONES[power.level]} trained on and {power.n_held_out:,} not"
    up = math.ceil(power.smallest * 1000 - 1e-6) / 1000
    often = math.ceil(power.smallest * 100 - 1e-6)
    name = numbers.metric_name(power.metric)
    audits = f"{round(power.power * 5)} of 5" if abs(power.power * 5 % 1) < 1e-9 else f"{power.power:.0%} of"
    if power.metric == "auc":
        what = f"An attacker who picks the right one of two {UNITS[power.level]} {often} times of 100"
        return f"{what} ({name} {up:.3f}) or more would have been seen in {audits} audits like this, with {sides}."
    what = f"{_alarm(power.level, power.metric)}, an attacker who names {often} of 100 {ONES[power.level]}"
    return f"{what} ({name} {often} %) or more would have been seen in {audits} audits like this, with {sides}."


def without_the_model(blind: Estimate) -> str:
    """The AUC of a classifier that sees the texts only."""
    shown = numbers.show(blind, "auc")
    return (
        "Shown a text of either side, a classifier that never asks the model picks the one of the members "
        f"{times(blind.value)} (AUC {shown.value} {shown.interval}, n = {blind.n:,})."
    )


def pulled_out(row: ExtractionRow) -> str:
    """The share of a group that comes out of this model, and of its base, and that of units never trained on."""
    how = "are found" if row.family == "personal data" else "come out in part" if row.partial else "come out"
    parts = [f"{_percent(row.target)} of {row.n:,} {row.units} ({row.group}) {how}"]
    if row.base is not None:
        parts.append(f"{_percent(row.base)} of them from the base model")
    if row.above_control is not None:
        control = max(row.target.value - row.above_control.value, 0.0)
        parts.append(f"{control * 100:.0f} % of those that were never trained on")
    return f"{', '.join(parts)} ({readable(row.attack)}: {row.summary.rstrip('.')})."


def _percent(estimate: Estimate) -> str:
    shown = numbers.show(estimate, "share")
    return f"{shown.value} % {shown.interval}"


def _auc(level: str, estimate: Estimate) -> str:
    shown = numbers.show(estimate, "auc")
    return f"AUC {shown.value} {shown.interval}, n = {estimate.n:,} {UNITS[level]}"


def _alarm(level: str, metric: str) -> str:
    every = round(1 / float(metric.removeprefix("tpr@")))
    return f"With one false alarm in {every:,} {UNITS[level]} {ONES[level]} not trained on"
