# SPDX-License-Identifier: Apache-2.0
"""Detectors of one's own: a regular expression for what only one's own data has, such as order numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from reticent.core.errors import BadInput
from reticent.core.record import Span
from reticent.data.pii.detector import Detector, SpanEvidence

FORM = 'Give a name in capitals and a regular expression, for example {"ORDER": "BW-[0-9]{6}"}.'
_KIND = re.compile(r"[A-Z][A-Z0-9_]*")


def pattern_detectors(patterns: Mapping[str, str]) -> list[Detector]:
    """A detector for each kind of span. What they find goes before what others take the same characters for.

    Args:
        patterns: kind of span → regular expression as `re` reads it; where it has a group, the first one is marked.

    Raises:
        BadInput: a kind that is no name in capitals, or an expression that is none or matches nothing but emptiness.
    """
    return [
        Detector(
            name=f"pattern {kind}",
            kinds=(kind,),
            evidence=SpanEvidence.TOLD,
            find=_finder(kind, expression),
            missing=lambda: "",
            default=False,
            summary=f"What matches {expression}.",
        )
        for kind, expression in patterns.items()
    ]


def _finder(kind: str, expression: str) -> Callable[[str], Iterable[Span]]:
    if not _KIND.fullmatch(kind):
        raise BadInput(f"the kind {kind!r}", "is no name in capitals", FORM)
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise BadInput(f"the pattern {expression!r} of {kind}", f"is no regular expression ({error})", FORM) from error
    if pattern.match(""):
        raise BadInput(f"the pattern {expression!r} of {kind}", "matches the empty text, so it marks nothing", FORM)
    group = 1 if pattern.groups else 0

    def find(text: str) -> Iterator[Span]:
        for match in pattern.finditer(text):
            start, end = match.span(group)
            if 0 <= start < end:
                yield Span(start=start, end=end, kind=kind)

    return find
