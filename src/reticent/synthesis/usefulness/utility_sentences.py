# SPDX-License-Identifier: Apache-2.0
"""The words of a measurement of usefulness: its answer, and what follows."""

from __future__ import annotations

from collections.abc import Sequence

from reticent.core.finding import Estimate
from reticent.core.text_utility import REAL, SYNTHETIC, UNTRAINED, TextUtility

NOT_COVERED = (
    "These numbers are measured on private text, so no promise of privacy covers them: they are for who holds it."
)
ONE_TRAINING = "Each model was trained once: intervals are over held-out texts, and not over another training."


def headline_of(rows: Sequence[TextUtility]) -> str:
    """The answer in one sentence."""
    synthetic = [row for row in rows if row.source == SYNTHETIC]
    shares = [(row.kept, row) for row in synthetic if row.kept is not None]
    if not shares:
        return "Real text teaches this model nothing beyond doubt, so of synthetic text nothing can be said"
    best, row = max(shares, key=lambda pair: pair[0].value)
    if best.hi <= 0:
        return "Synthetic text teaches this model nothing of what real text teaches"
    if best.lo <= 0:
        return "It cannot be told whether synthetic text teaches this model anything of what real text teaches"
    return f"Of what real text teaches this model, {named(row)} teaches {percent(best)}"


def sentences_of(rows: Sequence[TextUtility], *, judged: int) -> tuple[str, ...]:
    """The facts behind it, one a sentence."""
    untrained = next(row for row in rows if row.source == UNTRAINED)
    real = next(row for row in rows if row.source == REAL)
    said = [
        f"Judged on {judged} real texts that none of these was made from: loss {untrained.loss.value:.3f} nats a token "
        f"without training, {real.loss.value:.3f} after {real.texts} real texts."
    ]
    for row in rows:
        if row.source == SYNTHETIC:
            said.append(_sentence(row))
    return (*said, ONE_TRAINING, NOT_COVERED)


def _sentence(row: TextUtility) -> str:
    words = [f"{named(row)}: loss {row.loss.value:.3f}"]
    if row.kept is not None:
        words.append(f"{percent(row.kept)} of what real text teaches")
    if row.accuracy is not None:
        words.append(f"accuracy {percent(row.accuracy)}")
    if row.audit is not None:
        facts = []
        if row.audit.auc is not None:
            facts.append(f"AUC {row.audit.auc.value:.2f} [{row.audit.auc.lo:.2f}, {row.audit.auc.hi:.2f}]")
        if row.audit.epsilon is not None:
            facts.append(f"ε ≥ {row.audit.epsilon.value:.2f} {row.audit.epsilon.unit}")
        words.append(f"the audit of it found {' and '.join(facts) if facts else row.audit.status.replace('_', ' ')}")
    return f"{'; '.join(words)}."


def named(row: TextUtility) -> str:
    """The texts with their promise: ``mails (private_prediction, ε = 8.00 per user at …)``."""
    promise = "no promise" if row.promise is None else row.promise.sentence
    return f"{row.name} ({', '.join(part for part in (row.mechanism, promise) if part)})"


def percent(share: Estimate) -> str:
    """In per cent with its interval."""
    return f"{100 * share.value:.0f} % [{100 * share.lo:.0f}, {100 * share.hi:.0f}]"
