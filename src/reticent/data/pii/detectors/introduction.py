# SPDX-License-Identifier: Apache-2.0
"""Names that the words before them announce: "my name is", "Dear", a label "Name:". Needs no model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.context import NAME_PART
from reticent.data.pii.detector import Evidence, detector

_NAME = rf"{NAME_PART}(?:[ ]{NAME_PART}){{0,3}}"
_ANY = r"[^\W\d_][\w'’.-]{0,24}+"
ANNOUNCED = tuple(
    re.compile(form)
    for form in (
        rf"(?<!\w)(?i:(?:my|his|her|whose|maiden|full|first|last|middle|nick|sur)[ ]?name(?:['’]s| is| was)|calls? me|"
        rf"I(?:['’]?m| am) called)[ ](?P<name>{_NAME})",
        rf"(?m:^[ \t>*-]{{0,8}}(?i:hi|hello|hey|dear)(?:[ ]{NAME_PART}\.?)??[ ](?P<name>{_NAME})[ ]?[,!:\n])",
        rf"(?<!\w)(?:(?i:mr|mrs|ms|mx|dr|prof)|Miss)\.?[ ](?P<name>{_NAME})",
        r"(?m:^[ \t>*-]{0,8}(?i:(?:full |first |last |sur|sender'?s? |customer |patient |client |contact )?name)[ \t]?:"
        rf"[ \t]{{0,16}}(?P<name>{_ANY}(?:[ ]{_ANY}){{0,3}})[ \t]{{0,8}}\r?$)",
    )
)
"""After words that introduce; in a greeting; behind a title; after a label, in capitals or not."""
_NOBODY = re.compile(
    r"(?i:sir|sirs|madam|madams|all|team|there|customer|customers|support|friend|friends|colleague|colleagues|everyone|"
    r"everybody|people|ladies|gentlemen|folks|guys|member|members|user|users|client|clients|hiring|manager|service|desk|"
    r"department|editor|editors|god|lord|the|a|an|not|no|what|n/a|none|unknown|in|on|it|this|that|mr|mrs|ms|dr)"
)
"""Words that are no name, though they stand where one would."""


@detector("introduction", kinds=("PERSON",), evidence=Evidence.CONTEXT)
def introduction(text: str) -> Iterator[Span]:
    """Capitalised words after "my name is", a greeting or a title, and what stands behind a label "Name:"."""
    for form in ANNOUNCED:
        for match in form.finditer(text):
            words = match["name"].split()
            if not any(_NOBODY.fullmatch(word.strip(".")) for word in words):
                yield Span(start=match.start("name"), end=match.end("name"), kind="PERSON")
