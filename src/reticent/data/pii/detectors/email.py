# SPDX-License-Identifier: Apache-2.0
"""E-mail addresses, plain and written out in brackets, of any script."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector
from reticent.data.pii.reading import LETTER, UNSPACED

_MARKS = ".!#$%&'*+/=?^`{|}~-"
_LABEL = rf"(?:{LETTER}|[_-]){{1,63}}"
_WIDE = rf"(?:{LETTER}|[{UNSPACED}-]){{1,63}}"
_ENDS = (
    "\u4e2d\u56fd|\u4e2d\u570b|\u516c\u53f8|\u7f51\u7edc|\u7db2\u7d61|\u7f51\u5740|\u7db2\u5740|\u5728\u7ebf|"
    "\u4e2d\u6587\u7f51|\u9999\u6e2f|\u53f0\u6e7e|\u53f0\u7063|\u81fa\u7063|\u65b0\u52a0\u5761|\u6fb3\u9580|\u516c\u76ca|"
    "\u653f\u52a1|\u673a\u6784|\u7f51\u7ad9|\u7ec4\u7ec7\u673a\u6784|\u79fb\u52a8|\u5546\u57ce|\u5e7f\u4e1c|\u4f5b\u5c71|"
    "\u4fe1\u606f|\u4f01\u4e1a|\u6211\u7231\u4f60|\ud55c\uad6d|\ub2f7\ucef4|\ub2f7\ub137|\u307f\u3093\u306a|"
    "\u30b3\u30e0|\u30b9\u30c8\u30a2|\u4e16\u754c|\u0e44\u0e17\u0e22|\u0e04\u0e2d\u0e21|\u0ea5\u0eb2\u0ea7"
)
"""Top-level domains in scripts without blanks: where one of them ends, the sentence goes on without a sign."""
_TOP = r"(?:xn--[a-z0-9-]{2,59}|(?:(?![0-9])" + LETTER + r"){2,24})(?!" + LETTER + r"|-)"
_PLAIN = re.compile(
    rf"(?P<local>(?:{LETTER}|[_.!#$%&'*+/=?^`{{|}}~-]){{1,64}}+|[{UNSPACED}]{{1,64}}+)"
    rf"@(?:[ \t]?\r?\n[ \t>]{{0,8}})?"
    rf"(?:(?:{_LABEL}\.){{1,8}}{_TOP}|(?:{_WIDE}\.){{1,8}}?(?:{_ENDS}|{_TOP}|[{UNSPACED}]{{1,24}}))",
    re.IGNORECASE,
)
_PART = rf"(?:{LETTER}|[_.+-]){{1,64}}+"
_HOST = rf"(?:{LETTER}|[_-]){{1,63}}+"
_SPELT = re.compile(
    rf"(?<!{LETTER})(?<![.+_-]){_PART}\s?[\[({{<]\s?at\s?[\])}}>]\s?{_HOST}"
    rf"(?:(?:\.|\s?[\[({{<]\s?dot\s?[\])}}>]\s?){_HOST}){{1,5}}",
    re.IGNORECASE,
)


@detector(
    "email",
    kinds=("EMAIL",),
    evidence=SpanEvidence.FORM,
    reads="even",
    example=("write to ana@example.org.", "ana@example.org"),
)
def email(text: str) -> Iterator[Span]:
    """E-mail addresses, also of internationalised domains, and as ``name (at) host (dot) org``."""
    for match in _PLAIN.finditer(text) if "@" in text else ():
        start, end = match.span()
        wrapped = text[end : end + 1] == "_"  # as in _ana@example.org_, which is how Markdown slants a word
        start += len(match["local"]) - len(match["local"].lstrip(_MARKS + "_" if wrapped else _MARKS))
        if text[start] != "@":
            yield Span(start=start, end=end, kind="EMAIL")
    for match in _SPELT.finditer(text):
        yield Span(start=match.start(), end=match.end(), kind="EMAIL")
