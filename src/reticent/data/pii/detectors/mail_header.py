# SPDX-License-Identifier: Apache-2.0
"""Names in the headers that mails quote: "From:", "To:", "On Monday, ... wrote:". Needs no model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.context_words import NAME_PART
from reticent.data.pii.detector import SpanEvidence, detector

_LINE = re.compile(
    r"^[ \t>|*]{0,8}(?i:from|to|cc|bcc|sender|reply-to|sent by|forwarded by|von|an|kopie|de|para)[*]?:[ \t*]{1,8}"
    r"(?P<value>[^\n]{1,400})",
    re.MULTILINE,
)
_ADDRESS = re.compile(r"<[^<>\n]{0,200}>|\[[^\[\]\n]{0,200}\]|[^\s,;:<>]{1,100}@[^\s,;<>]{1,200}|/[^\s,;]{1,100}")
_NAME = re.compile(rf"(?<![\w.@/'’-])(?P<name>{NAME_PART}(?:[ ]{NAME_PART}){{0,4}})(?![\w@/])")
_WROTE = re.compile(
    r"(?<![\w.@/'’-])(?P<name>(?:(?!(?:AM|PM|GMT|UTC|On|At)\b|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|"
    rf"Sep|Oct|Nov|Dec)[a-z]{{0,6}}\b){NAME_PART}[ ]?){{1,4}})(?:[ ]?(?:<[^<>\n]{{1,100}}>|\[[^\[\]\n]{{1,100}}\]))?"
    r"[ ]?(?:\r?\n[ \t>]{0,8})?(?:wrote|writes|schrieb|a \u00e9crit|escribi\u00f3):"
)
_NOBODY = re.compile(
    r"(?:Team|Support|Sent|Customer|Service|Services|Office|Department|Staff|The|All|List|Group|Undisclosed|Recipients|"
    r"Admin|Administrator|Mail|Mailer|Daemon|Newsletter|Info|Sales|Re|Fwd?|Page|Part|Section|You|Me|Us|It|This|That|My|"
    r"Your|Our|A|An|What|When|Where|Who|I|We|They|He|She|"
    r"Somebody|Someone|Everyone|Everybody|Nobody|People|Anyone)",
    re.IGNORECASE,
)


@detector(
    "mail_header",
    kinds=("PERSON",),
    evidence=SpanEvidence.CONTEXT,
    reads="even",
    example=("> From: Ada Quill <a@example.org>", "Ada Quill"),
)
def mail_header(text: str) -> Iterator[Span]:
    """Names of senders and receivers in quoted headers, and of whoever "wrote" what is quoted."""
    for line in _LINE.finditer(text):
        value = _ADDRESS.sub(lambda match: "/" * len(match[0]), line["value"])
        names = list(_NAME.finditer(value))
        if len(_words(value)) > sum(len(person["name"].split()) for person in names):
            continue  # a sentence, no list of names
        for person in names:
            if not any(_NOBODY.fullmatch(word) for word in person["name"].split()):
                start = line.start("value")
                yield Span(start=start + person.start("name"), end=start + person.end("name"), kind="PERSON")
    for match in _WROTE.finditer(text):
        name = match["name"].rstrip()
        if not any(_NOBODY.fullmatch(word) for word in name.split()):
            yield Span(start=match.start("name"), end=match.start("name") + len(name), kind="PERSON")


def _words(value: str) -> list[str]:
    return [word for word in re.split(r"[\s,;:/\"'()<>]+", value) if any(char.isalpha() for char in word)]
