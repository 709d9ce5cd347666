# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import time

import pytest

from reticent.data.mail.box import mails

LINE = b"From a@x.example Mon Mar  4 09:00:00 2024\n"
A = b"From: a@x.example\nSubject: one\n\nhello\n"
B = b"From: b@x.example\nSubject: two\n\nbye\n"


def read(box: bytes) -> list[bytes]:
    return list(mails(io.BytesIO(box)))


def test_mails_are_cut_and_lose_the_blank_line_that_ends_them() -> None:
    assert read(LINE + A + b"\n" + LINE + B + b"\n") == [A, B]
    assert read(LINE + A + LINE + B) == [A, B]
    assert read(b"\n\n" + LINE + A) == [A]
    assert read(A) == [A]
    assert read(b"") == read(b"\n\n") == read(LINE) == []


@pytest.mark.parametrize(
    "line",
    [
        b"From memory, I paid.",
        b"From 10:00 on 4 March 2024 we met",
        b"From: me",
        b"From Mon Mar on, at 09:00, 2024 times",
        LINE.rstrip(),
        b"From\xa0here",
    ],
)
@pytest.mark.parametrize("behind", [b"", b"Place: London\n", b"\n"])
def test_lines_of_the_text_begin_no_mail(line: bytes, behind: bytes) -> None:
    if line == LINE.rstrip() and behind == b"Place: London\n":
        return  # a date and fields behind it: nothing tells it from a mail
    body = b"Hello,\n\n" + line + b"\n" + behind + b"\nBen\n"
    mail = b"From: a@x.example\n\n" + body
    assert read(LINE + mail + b"\n" + LINE + B) == [mail, B]


def test_quoted_lines_lose_one_mark_in_the_text_only() -> None:
    mail = b"From: a@x.example\nX: y\n\n>From here\n>>From there\n> From nowhere\n"
    assert read(LINE + mail) == [b"From: a@x.example\nX: y\n\nFrom here\n>From there\n> From nowhere\n"]


def test_what_lies_in_an_unfinished_multipart_begins_no_mail() -> None:
    head = b'From: a@x.example\nContent-Type: multipart/mixed; boundary="q"\n\n--q\n\nhello\n--q\n\n\n'
    whole = head + LINE + A + b"\n" + LINE + B + b"\n--q--\n"
    part = head + LINE + A + b"\n--q--\n"
    assert read(LINE + part + b"\n" + LINE + B) == [part, B]
    assert len(read(LINE + whole)) >= 2  # the first of two within it ends the mail: nothing of others is joined to it
    cut = head + b"\n"
    assert read(LINE + cut + LINE + A + b"\n" + LINE + part) == [head, A, part]


def test_mails_behind_lines_without_a_date() -> None:
    bare = b"From nobody\n"
    assert read(bare + A + b"\n" + bare + B) == [A, B]
    dated = LINE + A + b"\nFrom nobody\nFrom: c@x.example\nTo: d\n\nx\n"
    assert len(read(dated)) == 1  # the file's own lines have dates


@pytest.mark.parametrize(
    "box",
    [b"From " * 50_000, b"From x\n" * 50_000, b"\nFrom x\n" * 30_000, (b"\n" + LINE + b"A: b\n--q\n") * 5_000],
    ids=["one line", "many", "with blanks", "dated"],
)
def test_time_grows_with_the_file(box: bytes) -> None:
    start = time.process_time()
    read(b'From: a@x.example\nContent-Type: multipart/mixed; boundary="q"\n\n' + box)
    assert time.process_time() - start < 3
