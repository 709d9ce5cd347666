# SPDX-License-Identifier: Apache-2.0
"""Corpus curation: what spans mark is replaced by the name of its kind before anything is trained on (PrivacyMind,
section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reticent.core.record import Record
from reticent.data.pii import Scrubber
from reticent.train.objectives.objective import Objective, objective

TAKES_OUT = (
    "takes out the very spans that shall be protected",
    "Give one of them.",
)
"""Reason and fix where spans alone are protected."""
_SUBSTITUTION = Scrubber(style="placeholder")


@objective(
    "substitution",
    alters={"corpus.texts"},
    private="whole texts",
    watched=False,
    spans="records",
    flag="contextual='substitution'",
    why={"spans": TAKES_OUT},
    paper="arXiv:2310.02469",
)
@dataclass(frozen=True, kw_only=True)
class Substitution(Objective):
    """Texts are trained on with each marked stretch replaced by its kind."""

    def texts(self, records: Sequence[Record]) -> Sequence[Record]:
        """See `substitution`."""
        return [substitution(record) for record in records]


def substitution(record: Record) -> Record:
    """The record with each marked stretch replaced by its kind in brackets; spans mark the replacements."""
    return _SUBSTITUTION.scrub(record)
