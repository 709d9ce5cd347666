# SPDX-License-Identifier: Apache-2.0
"""UtilityResults: how useful synthetic text is, beside what is promised and what an audit found. No text is in here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from reticent.core.field_types import Count, FreeForm, OneOf
from reticent.core.finding import Estimate
from reticent.core.stated_epsilon import StatedEpsilon

UNTRAINED, REAL, SYNTHETIC, HALF = "untrained", "real", "synthetic", "half"
SOURCES = (UNTRAINED, REAL, SYNTHETIC, HALF)
"""Texts that a model learned from: none, real ones, synthetic ones, half of each."""


@dataclass(frozen=True, kw_only=True)
class AuditedText:
    """The findings of an audit of synthetic texts, in two numbers.

    Args:
        status: the audit's verdict, as in `reticent.core.results.Verdict`.
        attack: the one with the largest AUC; empty where none had one.
        auc: its chance to tell a record or user that was read from one that was not; 0.5 is chance.
        epsilon: the largest one-run lower bound on ε, with δ and the unit that it is for; None where none was made.

    Examples:
        >>> AuditedText(status="not_detected").epsilon is None
        True
    """

    status: str
    attack: str = ""
    auc: Estimate | None = None
    epsilon: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class TextUtility:
    """One source of texts: what a model that learned from it is worth on real held-out text, and how like it they are.

    Args:
        name: of the synthetic texts; of real ones "real".
        source: what the model learned from, see ``SOURCES``.
        mechanism: that made the texts, where it is on record.
        promise: of these texts; None where nothing is promised.
        texts: that the model learned from.
        loss: on real held-out text, nats a token; lower is more useful.
        over_real: that loss less the loss of the model that learned from real text; paired by text.
        kept: share of what real text teaches (untrained less real) that these texts teach; None where real text
            teaches nothing beyond doubt.
        accuracy: share of held-out texts whose own label the model finds the likeliest; None without labels.
        likeness: area under the divergence frontier of these texts and real held-out ones, 1 is alike; of "real" it
            says how alike two samples of real text are. None for no texts and for halves.
        labels: share that both samples have in common of how often each label is there; None without labels.
        lengths: the same of lengths.
        topics: share of real held-out texts that lie in a group of texts in which these have one, too.
        audit: what an audit of the texts found; None where none lies beside them.

    Examples:
        >>> loss = Estimate(value=3.1, lo=3.0, hi=3.2, n=90, method="ratio of sums")
        >>> TextUtility(name="untrained", source="untrained", loss=loss).texts
        0
    """

    name: str
    source: Annotated[str, OneOf(*SOURCES)]
    mechanism: str = ""
    promise: StatedEpsilon | None = None
    texts: Count = 0
    loss: Estimate
    over_real: Estimate | None = None
    kept: Estimate | None = None
    accuracy: Estimate | None = None
    likeness: Estimate | None = None
    labels: Estimate | None = None
    lengths: Estimate | None = None
    topics: Estimate | None = None
    audit: AuditedText | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source {self.source!r} is not one of {SOURCES}")


@dataclass(frozen=True, kw_only=True)
class UtilityResults:
    """The whole outcome.

    Args:
        title: of the page.
        created: ISO 8601, UTC.
        headline: one sentence.
        sentences: what to know first, one fact each.
        rows: no training, real text, then each synthetic text by itself and by halves.
        refused: what cannot be said and why.
        counts: how many texts, records and users.
        provenance: model, settings, versions, hardware.

    Examples:
        >>> results = UtilityResults(title="mails", created="", headline="", rows=())
        >>> results.refused
        ()
    """

    title: str
    created: str
    headline: str
    sentences: tuple[str, ...] = ()
    rows: tuple[TextUtility, ...]
    refused: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    provenance: FreeForm = field(default_factory=dict)

    def row(self, source: str, name: str = "") -> TextUtility | None:
        """The row of a source, of the synthetic texts of that name where it is given; None where there is none."""
        return next((row for row in self.rows if row.source == source and name in ("", row.name)), None)
