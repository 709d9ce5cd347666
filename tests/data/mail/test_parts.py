# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.data.mail.charset import decode
from reticent.data.mail.sender import addresses
from reticent.data.mail.unreadable import Unreadable
from reticent.data.readers.reader import BadRow, InputRow, rows_of


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", ()),
        ("<>", ()),
        ("Anna Roe", ()),
        ("root", ()),
        ("undisclosed-recipients:;", ()),
        ('"a b"@x.example', ('"a b"@x.example',)),
        ('"Anna"@x.example', ("anna@x.example",)),
        ("Anna <a@x.example", ("a@x.example",)),
        ("a@x.example>", ("a@x.example",)),
        ("a <b> c <d@x.example>", ("d@x.example",)),
        ("a@XN--MNCHEN-3YA.example", ("a@münchen.example",)),
        ("a@münchen.example", ("a@münchen.example",)),
        ("a@[127.0.0.1]", ("a@[127.0.0.1]",)),
        ("A <a@x.example>, a@X.example", ("a@x.example",)),
        ("a@x.example; b@x.example", ("a@x.example", "b@x.example")),
        ("=?utf-8?Q?broken", ()),
        ("=?no-such?Q?a=40x.example?=", ()),
        ("(a@x.example)", ()),
        ('"a@x.example" (b@x.example)', ()),
    ],
)
def test_addresses(value: str, found: tuple[str, ...]) -> None:
    assert addresses(value) == found


@pytest.mark.parametrize(
    ("raw", "declared", "text"),
    [
        ("café’s".encode("cp1252"), "iso-8859-1", "café’s"),
        ("café".encode(), "us-ascii", "café"),
        ("café".encode("cp1252"), "us-ascii", "café"),
        ("café".encode("cp1252"), "utf-8", "café"),
        ("café".encode("cp1252"), None, "café"),
        ("\ufeffcafé".encode(), None, "café"),
        ("\ufeffcafé".encode(), "utf-8", "café"),
        ("镕".encode("gbk"), "gb2312", "镕"),
        ("똠방".encode("cp949"), "euc-kr", "똠방"),
        ("①".encode("cp932"), "shift_jis", "①"),
        ("ไทย€".encode("cp874"), "tis-620", "ไทย€"),
        ("a".encode("utf-16"), "utf-16", "a"),
        (b"+AOk-", "unicode-1-1-utf-7", "é"),
        (b"abc", "base64", "abc"),
        (b"abc", "no such charset \x00", "abc"),
    ],
)
def test_charsets(raw: bytes, declared: str | None, text: str) -> None:
    assert decode(raw, declared) == text


def test_html_names_its_own_charset() -> None:
    html = '<meta http-equiv="Content-Type" content="text/html; charset=gb2312">包裹没有到'.encode("gb2312")
    assert decode(html, None, is_html=True).endswith("包裹没有到")
    with pytest.raises(Unreadable, match="declares no charset"):
        decode(html[html.index(b">") :], None, is_html=True)


def test_broken_mails_are_bad_rows_and_never_more(tmp_path: Path) -> None:
    rng = random.Random(0)
    start = b"From x Mon Mar  4 09:00:00 2024\nFrom: a@x.example\nContent-Type: multipart/mixed; boundary=q\n\n"
    whole = start + b"--q\nContent-Type: text/plain; charset=utf-8; format=flowed\n\nhello \nyou\n--q--\n"
    for number in range(300):
        broken = bytearray(whole)
        for _ in range(rng.randrange(1, 12)):
            at = rng.randrange(5, len(broken))
            broken[at : at + rng.randrange(3)] = bytes(rng.choices(b'\x00\xff=?"<>;:\r\n a-', k=rng.randrange(3)))
        path = tmp_path / f"{number}.mbox"
        path.write_bytes(bytes(broken))
        for row in rows_of(str(path)):
            assert isinstance(row, BadRow) or "@" in row.fields["user"]


def test_deep_and_random_mails(tmp_path: Path) -> None:
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(400))
    (tmp_path / "deep.eml").write_bytes(b"From: a@x.example\n" + deep + b"\nhello\n")
    (tmp_path / "noise.mbox").write_bytes(b"From " + random.Random(0).randbytes(4000))
    for name in ("deep.eml", "noise.mbox"):
        assert all(isinstance(row, BadRow | InputRow) for row in rows_of(str(tmp_path / name)))


def test_a_maildir_without_new_mails_and_one_with_a_folder_in_it(tmp_path: Path) -> None:
    (tmp_path / "cur").mkdir()
    (tmp_path / "cur" / "1:2,S").write_bytes(b"From: a@x.example\n\nhello\n")
    (tmp_path / "cur" / ".hidden").write_bytes(b"x")
    (row,) = rows_of(str(tmp_path))
    assert isinstance(row, InputRow)
    assert row.place == f"{tmp_path}/1"
    (tmp_path / "cur" / "folder").mkdir()
    with pytest.raises(BadInput, match="no file where mails are"):
        list(rows_of(str(tmp_path)))
