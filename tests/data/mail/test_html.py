# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.data.mail.html import LONGEST, html_to_text
from reticent.data.mail.unreadable import Unreadable


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a</p><p>b</p>", "a\n\nb"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("<div>a</div><div><br></div><div>b</div>", "a\n\nb"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<div>a<br></div>b", "a\nb"),
        ("a <b> b</b>\n  c", "a b c"),
        ("<ul><li>a<li>b</ul>c", "a\nb\n\nc"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("<pre>a\n  b</pre>c", "a\n  b\n\nc"),
        ("Ben&#39;s &lt;b&gt; &amp;amp; caf&eacute;&nbsp;&#x4f60;", "Ben's <b> &amp; café 你"),
        ("<head><title>x</title><style>p{}</style></head><body>a", "a"),
        ("<head><meta charset=utf-8><body>a", "a"),
        ("<style>p{}</style>a<script>if (a<b) c()</script>b", "ab"),
        ("<!-- x -->a<!--[if mso]><p>x</p><![endif]-->b<!-- never closed", "ab"),
        ("<div style='display: none'>x<div>y</div></div>a", "a"),
        ("<span hidden>x</span>a<p style='font-size:0px'>x</p>", "a"),
        ("<span style='font-size:0.9em'>a</span>", "a"),
        ("<body><div style='display:none'>x</body>", ""),
        ("<a href='http://x.example'>a</a> <img alt=x src=y>b", "a b"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("a\u200bb\xadc\ufeff", "abc"),
        ("", ""),
    ],
)
def test_what_is_seen(html: str, text: str) -> None:
    assert html_to_text(html) == text


@given(st.text(alphabet="<>/!-&;='\" abp\n\x00", max_size=60))
def test_any_text_is_read(html: str) -> None:
    assert "\x00" not in html_to_text(html)


@pytest.mark.parametrize("piece", ["<", "<!--", "<div>", "<a x='", "<style>", "</", "<?", "&#", "<pre> \n"])
def test_broken_html_takes_no_longer(piece: str) -> None:
    start = time.process_time()
    html_to_text(piece * 20_000)
    assert time.process_time() - start < 3


def test_too_long() -> None:
    with pytest.raises(Unreadable, match="characters of HTML"):
        html_to_text("a" * (LONGEST + 1))
