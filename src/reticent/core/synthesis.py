# SPDX-License-Identifier: Apache-2.0
"""SynthesisResults: all that one making of synthetic text can say of itself, as plain data. No text is in here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from reticent.core.field_types import Count, FreeForm, InRange
from reticent.core.promise_check import PromiseCheck

NotNegative = Annotated[float, InRange(least=0)]


@dataclass(frozen=True, kw_only=True)
class SynthesisRelease:
    """One thing that left the private data, or went into the texts without having been in it.

    Args:
        what: it is.
        covered: how the promise covers it, or why it needs none.
    """

    what: str
    covered: str


@dataclass(frozen=True, kw_only=True)
class SynthesisResults:
    """The whole outcome.

    Args:
        title: of the page.
        created: ISO 8601, UTC.
        headline: one sentence.
        sentences: what to know first, one fact each.
        mechanism: of the registry.
        private: the part of the mechanism in which noise or chance protects.
        paper: where it was published.
        promise: the guarantee in a sentence; empty where nothing is promised.
        unit: whose traces are hidden, "record" or "user"; empty where nothing is promised.
        relation: the data sets that cannot be told apart; empty where nothing is promised.
        epsilon: upper bound; None where nothing is promised.
        delta: chance that it may fail; None where nothing is promised.
        rho: zero-concentrated differential privacy of one unit; None where it was not counted so.
        units: how many there are; known to all, as the promise takes it.
        texts: that were made.
        steps: that were spent, each before what it gave left.
        releases: what left the private data, and how that is covered.
        checks: of the self-check; none where nothing is promised.
        provenance: settings, versions, hardware.

    Examples:
        >>> results = SynthesisResults(
        ...     title="mails", created="", headline="", mechanism="none", private="nothing", units=9, texts=3
        ... )
        >>> results.promise == "" and results.epsilon is None
        True
    """

    title: str
    created: str
    headline: str
    sentences: tuple[str, ...] = ()
    mechanism: str
    private: str
    paper: str = ""
    promise: str = ""
    unit: str = ""
    relation: str = ""
    epsilon: NotNegative | None = None
    delta: NotNegative | None = None
    rho: NotNegative | None = None
    units: Count
    texts: Count
    steps: Count = 0
    releases: tuple[SynthesisRelease, ...] = ()
    checks: tuple[PromiseCheck, ...] = ()
    provenance: FreeForm = field(default_factory=dict)
