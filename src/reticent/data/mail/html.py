# SPDX-License-Identifier: Apache-2.0
"""The text that an HTML mail shows: without tags, styles, comments and what is hidden; entities read."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from reticent.data.mail.unreadable import Unreadable

LONGEST = 2_000_000
"""Characters. Nobody writes that much; what Python's parser does with broken HTML grows with its square."""

_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "center",
        "dd",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
        "body",
        "html",
    ]
)
_APART = frozenset(["p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "table", "pre"])
"""Blocks with a blank line around them."""
_CELLS = frozenset(("td", "th"))
_UNSEEN = frozenset(("script", "style", "title", "template", "object", "svg", "select", "textarea", "noframes"))
_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "wbr")
)
_BLANKS = re.compile(r"[ \t\r\n\f\v]+")
_KEPT = "\x00"
"""Stands for a blank that is shown as it is written."""
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all|font-size\s*:\s*0(?![.\d])")
_NO_BREAK = str.maketrans(
    {"\xa0": " ", "\u202f": " ", "\u200b": "", "\ufeff": "", "\xad": "", "\u034f": "", "\x00": ""}
)
"""Blanks that do not break become blanks; what shows nothing goes: programs strew both for looks."""


def html_to_text(html: str) -> str:
    """The text that a person sees of ``html``, blocks on lines of their own and paragraphs with a blank line between.

    >>> html_to_text("<style>p{}</style><p>Dear shop,</p><p>flat&nbsp;14 &amp; the bell.<br>Bo</p>")
    'Dear shop,\\n\\nflat 14 & the bell.\\nBo'

    Raises:
        Unreadable: it is too long.
    """
    if len(html) > LONGEST:
        raise Unreadable(f"has more than {LONGEST:,} characters of HTML")
    reader = _Reader()
    html = _without_comments(html)
    last = html.rfind(">") + 1  # no tag ends behind it, and the parser would look for the end of each over and over
    reader.feed(html[:last])
    reader.feed(html[last:].replace("<", "&lt;"))
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    """Puts lines together: ``_line`` is the one being written, ``_apart`` whether a blank one goes before it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._lines: list[str] = []
        self._line = ""
        self._apart = False
        self._as_is = 0
        self._unseen: list[str] = []
        """The outermost open tag that is not shown, and those of its name within it."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unseen:
            if tag == self._unseen[0]:
                self._unseen.append(tag)
            return
        self._tag(tag)
        self._as_is += tag == "pre"
        if tag not in _VOID and (tag in _UNSEEN or _is_hidden(dict(attrs))):
            self._unseen.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self._unseen:
            self._tag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag == self._unseen[-1]:
                self._unseen.pop()
            elif tag in ("body", "html"):  # a hidden element that was never closed
                self._unseen.clear()
            return
        if tag not in ("br", *_CELLS):
            self._tag(tag)
        self._as_is = max(0, self._as_is - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        data = data.translate(_NO_BREAK)
        if not self._as_is:
            self._write(_BLANKS.sub(" ", data))
            return
        first, *others = data.replace("\r\n", "\n").split("\n")
        self._write(first.replace(" ", _KEPT))
        for line in others:
            self._end_line()
            self._write(line.replace(" ", _KEPT))

    def text(self) -> str:
        if self._line.strip():
            self._end_line()
        return "\n".join(self._lines).strip("\n")

    def _tag(self, tag: str) -> None:
        if tag == "br":
            self._end_line()
        elif tag in _CELLS:
            self._write(" ")
        elif tag in _BLOCKS:
            if self._line.strip():
                self._end_line()
            self._apart |= tag in _APART

    def _write(self, text: str) -> None:
        if self._apart and text.strip():
            if self._lines and self._lines[-1]:
                self._lines.append("")
            self._apart = False
        self._line += text

    def _end_line(self) -> None:
        line = _BLANKS.sub(" ", self._line).strip()
        self._lines.append(line.replace(_KEPT, " ").rstrip())
        self._line = ""


def _without_comments(html: str) -> str:
    """``html`` up to a comment that never ends, without those that do."""
    pieces, at = [], 0
    while (start := html.find("<!--", at)) >= 0:
        pieces.append(html[at:start])
        end = html.find("-->", start + 2)
        if end < 0:
            return "".join(pieces)
        at = end + 3
    return "".join([*pieces, html[at:]])


def _is_hidden(attrs: dict[str, str | None]) -> bool:
    return "hidden" in attrs or _HIDDEN.search((attrs.get("style") or "").lower()) is not None
