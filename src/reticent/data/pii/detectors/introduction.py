# SPDX-License-Identifier: Apache-2.0
"""Names that the words before them announce: "my name is", "Dear", a label "Name:". Needs no model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.context_words import NAME_PART
from reticent.data.pii.detector import SpanEvidence, detector

_NAME = rf"{NAME_PART}(?:[ ]{NAME_PART}){{0,3}}"
_NEW = (
    r"(?!(?:I|We|You|He|She|It|They|The|This|That|These|Those|My|Our|Your|His|Her|A|An|In|On|At|If|As|And|But|Or|So|Please|"
    r"Thanks|Thank|Regards|Best|Kind|Can|Could|Would|Will|Is|Are|Do|Not|No|Yes|From|To|Sent|Subject|Date|Cc)(?![\w'’]))"
)
"""Words that begin a sentence, so that a name does not go on over the end of its line."""
_FOLDED = rf"{_NAME}(?:[ ]?\r?\n[ \t>]{{0,4}}{_NEW}{NAME_PART}(?=[,.;:!?)]|[ ][a-z]|[ ]?\r?\n|$))?"
"""A name, whose last word may stand in the next line."""
_ANY = r"[^\W\d_][\w'’.-]{0,24}+"
ANNOUNCED = tuple(
    re.compile(form)
    for form in (
        rf"(?<!\w)(?i:(?:my|his|her|whose|maiden|full|first|last|middle|nick|sur)[ ]?name(?:['’]s| is| was)|calls? me|"
        rf"I(?:['’]?m| am) called)[ ](?P<name>{_FOLDED})",
        rf"(?m:^[ \t>*-]{{0,8}}(?i:hi|hello|hey|dear)(?:[ ]{NAME_PART}\.?)??[ ](?P<name>{_NAME})[ ]?[,!:\n])",
        rf"(?<!\w)(?:(?i:mr|mrs|ms|mx|dr|prof)|Miss)\.?(?:[ ]|[ ]?\r?\n[ \t>]{{0,4}})(?P<name>{_FOLDED})",
        rf"(?:\A|\n[ \t>]{{0,8}}\r?\n)[ \t>]{{0,8}}(?P<name>{NAME_PART}(?:[ ]{NAME_PART})?),[ \t]{{0,8}}\r?\n",
        r"(?m:^[ \t>*-]{0,8}(?i:(?:full |first |last |sur|sender'?s? |customer |patient |client |contact )?name)[ \t]?:"
        rf"[ \t]{{0,16}}(?P<name>{_ANY}(?:[ ]{_ANY}){{0,3}})[ \t]{{0,8}}\r?$)",
    )
)
"""After words that introduce; in a greeting; behind a title; alone above a text; after a label, in capitals or not."""
_NOBODY = re.compile(
    r"(?i:sir|sirs|madam|madams|all|team|there|customer|customers|support|friend|friends|colleague|colleagues|everyone|"
    r"everybody|people|ladies|gentlemen|folks|guys|member|members|user|users|client|clients|hiring|manager|service|desk|"
    r"department|editor|editors|god|lord|the|a|an|not|no|what|n/a|none|unknown|in|on|it|this|that|mr|mrs|ms|dr|"
    r"thanks|thank|you|regards|best|cheers|sincerely|yours|love|dear|hello|hi|hey|greetings|good|morning|afternoon|evening|"
    r"however|also|well|yes|ok|okay|sure|great|first|firstly|second|secondly|finally|again|otherwise|therefore|thus|"
    r"meanwhile|currently|please|additionally|furthermore|moreover|unfortunately|hopefully|so|now|then|but|and|or|ps|fyi|"
    r"note|warm|warmly|kind|respectfully|cordially|truly|faithfully|attached|attn|i|we|if|as|at|for|with|to|from)"
)
"""Words that are no name, though they stand where one would."""


@detector(
    "introduction",
    kinds=("PERSON",),
    evidence=SpanEvidence.CONTEXT,
    reads="even",
    example=("Well, my name is Ada Quill and", "Ada Quill"),
)
def introduction(text: str) -> Iterator[Span]:
    """Capitalised words after "my name is", a greeting or a title, and what stands behind a label "Name:"."""
    for form in ANNOUNCED:
        for match in form.finditer(text):
            words = match["name"].split()
            if not any(_NOBODY.fullmatch(word.strip(".")) for word in words):
                yield Span(start=match.start("name"), end=match.end("name"), kind="PERSON")
