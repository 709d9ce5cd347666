# SPDX-License-Identifier: Apache-2.0
"""From the outcomes of all checks to one verdict. Pure; its words are those of `reticent.core.unlearning_words`.

What some check shows goes before what none could have shown. Where retrained models are there, they lead: their check
is the one with power for a single person, and it also decides that there is enough to tell. The membership check does
so where there are none. All other checks can show that something is left, and never that nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence

from reticent.core.unlearning import UnlearningCheck, UnlearningVerdict
from reticent.core.unlearning_words import (
    AMONG_RETRAINED,
    HEADLINES,
    LIKE_UNSEEN,
    MARKED,
    NOT_DETECTED,
    STATUS_OF_WORD,
    STILL_KNOWN,
)

LEADING = ("among_retrained", "membership")
"""Checks of the forget set as a whole, the one that leads first."""


def verdict_of(checks: Sequence[UnlearningCheck]) -> UnlearningVerdict:
    """The verdict of checks in their order.

    Examples:
        >>> from reticent.core.section import Section
        >>> section = Section(name="membership", title="Membership")
        >>> few = UnlearningCheck(name="membership", word="too few to tell", section=section)
        >>> verdict_of([few]).headline
        'Too few to tell.'
    """
    by_name = {check.name: check for check in checks}
    leaders = [by_name[name] for name in LEADING if name in by_name and by_name[name].ran]
    status = _status(checks, leaders)
    others = [check for check in checks if check not in leaders]
    sentences = [check.sentence for check in (*leaders, *others) if check.sentence]
    missing = next((by_name[name] for name in LEADING[:1] if name in by_name and not by_name[name].ran), None)
    if missing is not None:
        sentences.append(f"Not held against retrained models: {missing.why_not}.")
    return UnlearningVerdict(status=status, headline=HEADLINES[status], sentences=tuple(sentences))


def _status(checks: Sequence[UnlearningCheck], leaders: Sequence[UnlearningCheck]) -> str:
    words = [check.word for check in checks]
    for word in (STILL_KNOWN, MARKED):
        if word in words:
            return STATUS_OF_WORD[word]
    if leaders and not any(check.knew for check in leaders):
        told = [check for check in leaders if check.word in (LIKE_UNSEEN, AMONG_RETRAINED)]
        return "never_known" if told else "too_few"
    shown = [check for check in leaders if check.word in (LIKE_UNSEEN, AMONG_RETRAINED) and check.knew]
    return NOT_DETECTED if shown else "too_few"
