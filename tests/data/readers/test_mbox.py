# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.data.readers.reader import rows_of

PLAIN = b"""From: =?utf-8?q?Zo=C3=AB_Made-Up?= <Zoe@Example.org>
Subject: =?utf-8?b?Y2Fmw6k=?=
 and tea
Date: Mon, 1 Jan 2024 10:00:00 +0000
Message-ID: <1@example.org>
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

na=C3=AFve =
line
>From here
"""
MULTIPART = b"""From: b@example.org
Subject: with attachment
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=XX

--XX
Content-Type: multipart/alternative; boundary=YY

--YY
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: base64

Y2Fm6Q==
--YY
Content-Type: text/html

<b>not this</b>
--YY--
--XX
Content-Type: text/plain
Content-Disposition: attachment; filename=secret.txt

not that
--XX
Content-Type: text/plain; name=inline.txt

nor this
--XX--
"""
HTML_ONLY = b"From: c@example.org\nContent-Type: text/html\n\n<p>hi</p>\n"
WRONG_CHARSET = b"From: d@example.org\nContent-Type: text/plain; charset=no-such-thing\n\ncaf\xe9\n"
MAILS = (PLAIN, MULTIPART, HTML_ONLY, WRONG_CHARSET)


def check(rows: list, quoted: str = ">") -> None:
    plain, parts, html, wrong = rows
    assert plain.fields == {
        "text": f"naïve line\n{quoted}From here\n",
        "subject": "café and tea",
        "user": "zoe@example.org",
        "message_id": "<1@example.org>",
        "date": "Mon, 1 Jan 2024 10:00:00 +0000",
    }
    assert parts.fields["text"] == "café"
    assert html.fields["text"] == "hi"
    assert wrong.fields["text"] == "café\n"


@pytest.mark.parametrize("name", ["box.mbox", "inbox"])
def test_mbox(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"".join(b"From x@example.org Mon Jan  1 10:00:00 2024\n" + mail + b"\n" for mail in MAILS))
    rows = list(rows_of(str(path)))
    check(rows, quoted="")
    assert rows[1].place == f"{path}, mail 2"


def test_maildir(tmp_path: Path) -> None:
    for folder in ("cur", "new", "tmp"):
        (tmp_path / folder).mkdir()
    for number, mail in enumerate(MAILS):
        (tmp_path / ("new" if number % 2 else "cur") / f"{number}.host").write_bytes(mail)
    rows = list(rows_of(str(tmp_path)))
    check(rows)
    assert rows[1].place == f"{tmp_path}/1.host"


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mbox").write_bytes(b"")
    with pytest.raises(BadInput, match="is empty"):
        list(rows_of(str(tmp_path / "a.mbox")))
