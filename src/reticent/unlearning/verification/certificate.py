# SPDX-License-Identifier: Apache-2.0
"""The certificate of an unlearning, made of its results alone."""

from __future__ import annotations

from reticent.core.unlearning import (
    AFTER,
    BEFORE,
    RETRAINED,
    Certificate,
    Measurement,
    UnlearningCheck,
    UnlearningResults,
)
from reticent.core.unlearning_words import NOT_CLAIMED


def certificate_of(results: UnlearningResults, *, results_sha256: str) -> Certificate:
    """The certificate: what was shown, with what it rests on, and what was not.

    Args:
        results: of the verification.
        results_sha256: SHA-256 (hex) of their file.
    """
    oracle = () if results.oracle != "none" else ("No model retrained without the forget set was at hand.",)
    return Certificate(
        title=results.title,
        created=results.created,
        verdict=results.verdict,
        request=results.request,
        earlier=results.earlier,
        method=results.method,
        oracle=results.oracle,
        measured=tuple(number for check in results.checks for number in _chosen(check)),
        could_have_seen=tuple(check.could_have_seen for check in results.checks if check.could_have_seen),
        controls=tuple(line for check in results.checks for line in _controls(check)),
        models=results.models,
        counts=results.counts,
        not_run=tuple(f"{check.section.title}: {check.why_not}." for check in results.checks if not check.ran),
        not_claimed=(*NOT_CLAIMED, *oracle),
        promise=results.promise,
        provenance=results.provenance,
        results_sha256=results_sha256,
    )


def _chosen(check: UnlearningCheck) -> list[Measurement]:
    """Numbers of the unlearned model that carry a word; else its differences to a control; else all of its numbers."""
    mine = [number for number in check.measured if number.role == AFTER]
    worded = [number for number in mine if number.word]
    return worded or [number for number in mine if number.chance == 0.0] or mine


def _controls(check: UnlearningCheck) -> list[str]:
    """How untouched and retrained models did, for the number of the unlearned model that is furthest from chance."""
    aucs = [number for number in check.measured if number.metric == "auc"]
    mine = [number for number in aucs if number.role == AFTER]
    if not mine:
        if check.knew is None:
            return []
        told = "lies outside of" if check.knew else "lies within"
        return [f"{check.section.title}: the untouched model {told} the intervals of the retrained ones."]
    furthest = max(mine, key=lambda number: abs(number.estimate.value - 0.5))
    parts = []
    for role, name in ((BEFORE, "untouched"), (RETRAINED, "retrained")):
        values = [number.estimate.value for number in aucs if (number.role, number.what) == (role, furthest.what)]
        if values:
            ends = f"{values[0]:.2f}" if len(values) == 1 else f"{min(values):.2f} to {max(values):.2f}"
            parts.append(f"{name} {ends}")
    return [f"{check.section.title} ({furthest.what}): AUC {', '.join(parts)}."] if parts else []
