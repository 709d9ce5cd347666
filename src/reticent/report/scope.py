# SPDX-License-Identifier: Apache-2.0
"""The kinds of attack that an audit tried, and those that it did not, as its results list them."""

from __future__ import annotations

from reticent.core.results import Results

ELSEWHERE = "Attacks not yet invented: a lower bound on leakage is all that an audit gives."
"""Said of every audit."""

NOT_LISTED = "Kinds of attack: results of this version do not list them; audit again."
"""Said where an older version of the file tells nothing."""


def tried(results: Results) -> list[str]:
    """Names of the kinds that were tried, and of further kinds of evidence."""
    kinds = (kind.name for kind in results.kinds if kind.tried)
    return [*dict.fromkeys((*kinds, *(section.title for section in results.sections)))]


def untried(results: Results) -> list[str]:
    """One line for each kind that was not tried, with what would try it."""
    lines = [kind.line for kind in results.kinds if not kind.tried]
    return [*(lines if results.kinds else [NOT_LISTED]), ELSEWHERE]


def statistics(results: Results) -> list[str]:
    """The statistics that were refused, so not tested either. Each once, without the kinds of `untried` and without
    the attacks that the page lists as switched off."""
    elsewhere = {*untried(results), *(f"{run.name}: {run.why_not}" for run in results.attacks if not run.ran)}
    return [line for line in dict.fromkeys(results.not_tested) if line not in elsewhere]
