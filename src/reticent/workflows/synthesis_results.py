# SPDX-License-Identifier: Apache-2.0
"""The results of synthetic text: what is promised, what left the private data, and what to know first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reticent.core.manifest import environment, now
from reticent.core.synthesis import SynthesisResults
from reticent.synthesis.synthesis_mechanism import SynthesisMechanism, SynthesisOutcome, SynthesisPlan

NOTHING = (
    "Nothing is promised: these texts come from a model that learned the private texts, and may repeat them word for "
    "word. Treat them as the private texts themselves."
)
NOT_ANONYMOUS = (
    "Synthetic text is not anonymous by being synthetic: what it keeps back is what this promise says, and no more."
)
OTHERS = "A {unit} whose texts lie in this data more than once under other names has no promise as one."


def results_of(
    mechanism: SynthesisMechanism,
    outcome: SynthesisOutcome,
    plan: SynthesisPlan,
    config: Mapping[str, Any],
    *,
    title: str,
) -> SynthesisResults:
    """The results for the file and the page."""
    promise = outcome.promise
    return SynthesisResults(
        title=title,
        created=now(),
        headline=_headline(mechanism, outcome),
        sentences=_sentences(outcome, config["synthesis"]["unit"]),
        mechanism=mechanism.name,
        private=mechanism.private,
        paper=mechanism.paper,
        promise=promise.sentence() if promise else "",
        unit=promise.unit if promise else "",
        relation=promise.relation if promise else "",
        epsilon=promise.epsilon if promise else None,
        delta=promise.delta if promise else None,
        rho=promise.rho if promise else None,
        units=plan.units,
        texts=len(outcome.texts),
        steps=plan.steps,
        releases=outcome.releases,
        checks=outcome.checks,
        # Not the fingerprint of the data: no promise covers it.
        provenance={**{name: config[name] for name in ("base", "synthesis", "training")}, **environment()},
    )


def _headline(mechanism: SynthesisMechanism, outcome: SynthesisOutcome) -> str:
    texts = f"{len(outcome.texts)} synthetic texts"
    if outcome.promise is None:
        return f"{texts} of a model that learned the private ones, with no promise to anybody"
    return f"{texts} by {mechanism.name}, under a promise to each {outcome.promise.unit}"


def _sentences(outcome: SynthesisOutcome, unit: str) -> tuple[str, ...]:
    empty = sum(not text.strip() for text in outcome.texts)
    left_out = (f"{empty} of them came out empty and are not in the file.",) if empty else ()
    if outcome.promise is None:
        return (NOTHING, *left_out)
    return (outcome.promise.sentence(), NOT_ANONYMOUS, OTHERS.format(unit=unit), *left_out)
