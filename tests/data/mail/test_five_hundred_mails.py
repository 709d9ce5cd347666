# SPDX-License-Identifier: Apache-2.0
"""A mailbox of 500 made-up mails in all forms that real ones have: each with the right user and the right text.

Every mail is put together by a seeded generator from a way to write the sender, a charset, a transfer encoding and a
structure, so the right answer is known. What is not the writer's holds the word ``OTHERS``. No real person is in it.
"""

from __future__ import annotations

import base64
import quopri
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from email.header import Header
from pathlib import Path

import pytest

from reticent.data.readers.reader import BadRow, InputRow, rows_of

MAILS = 500
OTHERS = "OTHERS"


@dataclass(frozen=True, kw_only=True)
class Person:
    """A made-up writer and how the headers of a mail of theirs name them."""

    first: str
    last: str
    address: str

    @property
    def shout(self) -> str:
        return self.address.upper()


@dataclass(frozen=True, kw_only=True)
class Made:
    """A mail as it lies in a file, and what is right: the text, or a word of the reason why there is none."""

    raw: bytes
    user: str
    text: str = ""
    why: str = ""
    forms: tuple[str, ...]


FIRST = ["Anna", "Ben", "Żofia", "Jürgen", "Chloé", "Ivar", "Дарья", "美玲", "さくら", "Óscar"]
LAST = ["Müller", "Roe", "O'Hara", "Åkesson", "Łoza", "Smith", "Иванова", "陳", "森", "Núñez"]
LINES = {
    "ascii": ["My parcel never came.", "The lamp is broken again.", "Please call me after six.", "I paid 40 pounds."],
    "latin": ["Das Gehäuse hat einen Riß.", "Où est mon colis, déjà payé ?", "¿Cuándo llega el paquete?"],
    "smart": ["It’s the third “kettle” – and it costs 30 €.", "Don’t call… write."],
    "cyrillic": ["Посылка не пришла.", "Лампа сломалась, верните деньги."],
    "chinese": ["我的包裹还没有到。", "台灯坏了，请退款。"],
    "traditional": ["我的包裹還沒有到。", "檯燈壞了，請退款。"],
    "japanese": ["荷物がまだ届きません。", "ランプが壊れています。返金してください。"],
    "korean": ["소포가 아직 오지 않았습니다.", "램프가 고장 났어요."],
}
CHARSETS: dict[str, list[tuple[str | None, str]]] = {
    "ascii": [("us-ascii", "ascii"), (None, "ascii"), ("utf-8", "ascii"), ("x-unknown", "ascii")],
    "latin": [
        ("iso-8859-1", "latin-1"),
        ("utf-8", "utf-8"),
        (None, "utf-8"),
        ("us-ascii", "utf-8"),
        ("utf-8", "cp1252"),
    ],
    "smart": [("windows-1252", "cp1252"), ("iso-8859-1", "cp1252"), ("UTF8", "utf-8"), ("utf-16", "utf-16")],
    "cyrillic": [("koi8-r", "koi8-r"), ("windows-1251", "cp1251"), ("utf-8", "utf-8"), (None, "utf-8")],
    "chinese": [("gb2312", "gb18030"), ("GBK", "gbk"), ("gb18030", "gb18030"), ("utf-8", "utf-8"), ("x-gbk", "gbk")],
    "traditional": [("big5", "big5"), ("utf-8", "utf-8")],
    "japanese": [("iso-2022-jp", "iso-2022-jp"), ("Shift_JIS", "cp932"), ("euc-jp", "euc-jp"), ("utf-8", "utf-8")],
    "korean": [("ks_c_5601-1987", "cp949"), ("euc-kr", "euc-kr"), ("utf-8", "utf-8")],
}
"""What is declared, and what the bytes are."""


# ---- the sender ----------------------------------------------------------------------------------------------------


def encoded(name: str, charset: str = "utf-8", how: str = "q") -> str:
    coded = name.encode(charset)
    if how == "b":
        return f"=?{charset}?B?{base64.b64encode(coded).decode()}?="
    body = "".join(chr(c) if chr(c).isalnum() and c < 128 else "_" if c == 32 else f"={c:02X}" for c in coded)
    return f"=?{charset}?Q?{body}?="


SENDERS: dict[str, Callable[[Person], str]] = {
    "bare": lambda p: p.address,
    "brackets": lambda p: f"<{p.shout}>",
    "name": lambda p: f"{encoded(f'{p.first} {p.last}')} <{p.address}>",
    "comma in quotes": lambda p: f'"{p.last}, {p.first}" <{p.address}>',
    "comma without": lambda p: f"{p.last}, {p.first} <{p.address}>",
    "encoded comma": lambda p: f"{encoded(f'{p.last}, {p.first}')} <{p.address}>",
    "base64 comma": lambda p: f"{encoded(f'{p.last}, {p.first}', how='b')} <{p.shout}>",
    "encoded in quotes": lambda p: f'"{encoded(f"{p.last}, {p.first}")}" <{p.address}>',
    "folded": lambda p: (
        f"{Header(f'{p.last}, {p.first} of a department with a very long name', 'utf-8').encode()}\n <{p.address}>"
    ),
    "an address in the name": lambda p: f'"boss@firm.example" <{p.address}>',
    "the same without quotes": lambda p: f"boss@firm.example <{p.address}>",
    "the same encoded": lambda p: f"{encoded('Boss <boss@firm.example>')} <{p.address}>",
    "the same encoded in two": lambda p: f"{encoded('Boss <boss@')}\n {encoded('firm.example>,')} <{p.address}>",
    "comment": lambda p: f"{p.address} (boss@firm.example)",
    "comment between": lambda p: f"Boss (boss@firm.example, (nested)) <{p.address}>",
    "at in a comment": lambda p: f"boss@firm (Home) <{p.address}>",
    "group": lambda p: f"Staff: {p.address};",
    "route": lambda p: f"<@a.example,@b.example:{p.address}>",
    "mailto": lambda p: f"Me <mailto:{p.address}>",
    "archive": lambda p: f"{p.address.replace('@', ' at ')} (Me)",
    "all encoded": lambda p: encoded(f"Me <{p.address}>"),
    "raw": lambda p: f"{p.last}, {p.first} <{p.address}>",
    "twice": lambda p: f"{p.address} <{p.shout}>",
    "dots and brackets": lambda p: f"Dr. M. [HR] Roe <{p.address}>",
    "quote never closed": lambda p: f'"Me <{p.address}>',
}


def sender_lines(rng: random.Random, person: Person) -> tuple[str, bytes]:
    form = rng.choice([*SENDERS, "via a list", "one of two"])
    if form == "via a list":
        via = f"'{encoded(person.first)}' via Desk <desk@lists.example>\nReply-To: {person.address}, desk@lists.example"
        return form, f"From: {via}\nList-Id: <desk.lists.example>\nList-Post: <mailto:desk@lists.example>".encode()
    if form == "one of two":
        return form, f"From: {person.address}, boss@firm.example\nSender: {person.shout}".encode()
    value = SENDERS[form](person)
    coded = value.encode("latin-1", "replace") if form == "raw" and rng.random() < 0.5 else value.encode()
    name = rng.choice([b"From: ", b"FROM:", b"from: "])
    return form, name + coded


# ---- the text ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Text:
    """Paragraphs in one script, and the charset that they go in."""

    paragraphs: tuple[str, ...]
    declared: str | None
    charset: str

    def part(self, rng: random.Random, body: str, kind: str = "plain", params: str = "") -> bytes:
        raw = body.encode(self.charset)
        ways = ["base64", "quoted-printable"] if self.charset == "utf-16" else ["base64", "quoted-printable", "8bit"]
        way = rng.choice(ways if self.declared != "utf-16" else ["base64"])
        if way == "base64":
            coded = base64.encodebytes(raw)
        elif way == "quoted-printable":
            coded = quopri.encodestring(raw)
        else:
            coded = raw + b"\n"
        charset = (
            ""
            if self.declared is None
            else f"; charset={rng.choice(['{}', chr(34) + '{}' + chr(34)]).format(self.declared)}"
        )
        head = f"Content-Type: text/{kind}{charset}{params}\nContent-Transfer-Encoding: {way}\n\n"
        return head.encode() + coded

    @property
    def plain(self) -> str:
        return "\n\n".join(self.paragraphs)

    def html(self, rng: random.Random) -> str:
        told = [p.replace("&", "&amp;").replace("é", "&eacute;").replace(" is", "&nbsp;is") for p in self.paragraphs]
        body = rng.choice(
            [
                "".join(f"<p>{p}</p>" for p in told),
                "<div>" + "</div><div><br></div><div>".join(told) + "</div>",
                "<table><tr><td>" + "<br/><br/>".join(f"<b>{p[:3]}</b>{p[3:]}" for p in told) + "</td></tr></table>",
            ]
        )
        hidden = f"<div style='display:none'>{OTHERS}</div><!-- {OTHERS} -->"
        head = f"<head><title>{OTHERS}</title><style>p{{}} /*{OTHERS}*/</style></head>"
        return f"<html>{head}<body>{hidden}{body}</body></html>"


def text(rng: random.Random) -> Text:
    script = rng.choice(list(LINES))
    declared, charset = rng.choice(CHARSETS[script])
    return Text(paragraphs=tuple(rng.choices(LINES[script], k=rng.randrange(1, 4))), declared=declared, charset=charset)


def multipart(kind: str, *parts: bytes, mark: str = "") -> bytes:
    mark = mark or "=_b1"  # programs use one mark again and again
    inner = b"".join(f"--{mark}\n".encode() + part + b"\n" for part in parts)
    return f'Content-Type: multipart/{kind}; boundary="{mark}"\n\n'.encode() + inner + f"--{mark}--\n".encode()


ATTACHED = (
    f"Content-Type: text/plain; name=a.txt\nContent-Disposition: attachment; filename=a.txt\n\n{OTHERS}\n".encode()
)
PICTURE = b"Content-Type: image/png\nContent-ID: <a>\nContent-Transfer-Encoding: base64\n\niVBORw0KGgo=\n"
FOOTER = f"Content-Type: text/plain\nContent-Disposition: inline\n\n{'_' * 31}\nDesk list {OTHERS}\n".encode()
SCANNED = f"Content-Type: text/plain\n\nThis message was scanned for viruses. {OTHERS}\n".encode()
OTHER_MAIL = f"From: Other <other@firm.example>\nSubject: s\nContent-Type: text/plain\n\n{OTHERS}\n".encode()
FORWARDED = b"Content-Type: message/rfc822\n\n" + OTHER_MAIL
FORWARDED_WITH_LINE = b"Content-Type: message/rfc822\n\nFrom other@firm.example Mon Mar  4 09:00:00 2024\n" + OTHER_MAIL
PASTED_BOX = (
    b"Content-Type: text/plain; name=old.mbox\n\n\nFrom other@firm.example Mon Mar  4 09:00:00 2024\n" + OTHER_MAIL
)
LIST_TAIL = f"{'_' * 47}\nDesk mailing list {OTHERS}\nDesk@lists.example\nhttps://lists.example/desk\n"
FROM_LINES = (
    "From memory, I paid in May.",
    "From 10:00 on 4 March 2024 we waited.",
    "From: the third floor, by the way.",
    "From anna Mon Mar 4 until Tuesday nobody came.",
    "From other@firm.example Mon Mar  4 09:00:00 2024",
)


def plain(rng: random.Random, t: Text) -> bytes:
    return t.part(rng, t.plain)


def html(rng: random.Random, t: Text) -> bytes:
    return t.part(rng, t.html(rng), "html")


STUB = b"Content-Type: text/plain\n\nYour program shows no HTML.\n"
EMPTY = b"Content-Type: text/plain\n\n \n"

STRUCTURES: dict[str, Callable[[random.Random, Text], bytes]] = {
    "plain": plain,
    "html": html,
    "both": lambda r, t: multipart("alternative", plain(r, t), html(r, t)),
    "both, plain empty": lambda r, t: multipart("alternative", EMPTY, html(r, t)),
    "both, plain a stub": lambda r, t: multipart("alternative", STUB, html(r, t)),
    "html with picture": lambda r, t: multipart("related", html(r, t), PICTURE),
    "attachment": lambda r, t: multipart("mixed", plain(r, t), ATTACHED, PICTURE),
    "forward": lambda r, t: multipart("mixed", plain(r, t), FORWARDED),
    "forward with a From line": lambda r, t: multipart("mixed", plain(r, t), FORWARDED_WITH_LINE, mark="=_m2"),
    "old mailbox inside": lambda r, t: multipart("mixed", plain(r, t), PASTED_BOX, mark="=_m3"),
    "html and footer": lambda r, t: multipart("mixed", html(r, t), FOOTER),
    "footer before": lambda r, t: multipart("mixed", FOOTER, html(r, t)),
    "plain and scanner": lambda r, t: multipart("mixed", plain(r, t), SCANNED),
    "signed": lambda r, t: multipart("signed", plain(r, t), b"Content-Type: application/pgp-signature\n\n-----BEGIN\n"),
    "deep": lambda r, t: multipart(
        "mixed",
        multipart("alternative", plain(r, t), multipart("related", html(r, t), PICTURE, mark="=_c"), mark="=_d"),
        ATTACHED,
        FOOTER,
    ),
    "around a picture": lambda r, t: multipart(
        "mixed", t.part(r, t.paragraphs[0]), PICTURE, t.part(r, " ".join(t.paragraphs[1:]) or " ")
    ),
    "list tail": lambda r, t: t.part(r, f"{t.plain}\n{LIST_TAIL}"),
}


def flowed(rng: random.Random, t: Text) -> bytes:
    """Lines that go on in the next one: behind a blank of the text, or with ``delsp`` behind one that is put there."""
    if rng.random() < 0.5:
        return t.part(rng, "\n\n".join(p.replace(" ", " \n", 1) for p in t.paragraphs), params="; format=flowed")
    cut = "\n\n".join(f"{p[:6]} \n{' ' if p[6:7] == ' ' else ''}{p[6:]}" for p in t.paragraphs)
    return t.part(rng, cut, params="; format=flowed; delsp=yes")


UNREADABLE: dict[str, tuple[Callable[[Person], bytes], str]] = {
    "nobody": (lambda p: b"Subject: s\n\nhello\n", "no address of a sender"),
    "name alone": (lambda p: b"From: Anna Roe\nSubject: s\n\nhello\n", "no address of a sender"),
    "two writers": (lambda p: f"From: {p.address}, b@x.example\n\nhello\n".encode(), "names 2 writers"),
    "hidden by a list": (
        lambda p: b"From: A via Desk <desk@x.example>\nList-Id: <d.x.example>\n\nhello\n",
        "under its own address",
    ),
    "empty": (lambda p: f"From: {p.address}\nTo: b@x.example\n\n\n".encode(), "no text to read"),
    "picture": (lambda p: f"From: {p.address}\n".encode() + multipart("mixed", PICTURE), "image/png"),
    "attached mails": (
        lambda p: f"From: {p.address}\n".encode() + multipart("digest", FORWARDED, mark="=_e"),
        "only attached mails",
    ),
    "encrypted": (
        lambda p: (
            f"From: {p.address}\n".encode() + multipart("encrypted", b"Content-Type: application/octet-stream\n\nx")
        ),
        "is encrypted",
    ),
    "armoured": (lambda p: f"From: {p.address}\n\n-----BEGIN PGP MESSAGE-----\nhQ==\n".encode(), "is encrypted"),
    "no base64": (
        lambda p: f"From: {p.address}\nContent-Transfer-Encoding: base64\n\nabcde\n".encode(),
        "says that its text is Base64",
    ),
    "no charset fits": (
        lambda p: f"From: {p.address}\n\n".encode() + "我的包裹还没有到台灯坏了".encode("gbk") + b"\n",
        "declares no charset",
    ),
    "no parts": (
        lambda p: f"From: {p.address}\nContent-Type: multipart/mixed\n\nhello\n".encode(),
        "its parts are not where it says",
    ),
}

ENVELOPES = (
    "From {} Mon Mar  4 09:00:00 2024",
    "From - Mon Mar  4 09:00:00 2024",
    "From 1791234567890123456@xxx Mon Mar 04 09:00:00 +0000 2024",
    "From {} Mon Mar  4 09:00 CET 2024",
    "From MAILER-DAEMON Mon Mar 4 09:00:00 2024 +0100",
    "From ???@??? Mon Mar 04 09:00:00 2024",
    "From {} Mon, 04 Mar 2024 09:00:00 +0000",
    "From {}  2024-03-04 09:00:00",
)


def made(rng: random.Random, number: int) -> Made:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    person = Person(
        first=first, last=last, address=f"p{rng.randrange(60)}.{rng.choice('abc')}@{rng.choice('xyz')}.example"
    )
    if rng.random() < 0.12:
        form = rng.choice(list(UNREADABLE))
        build, why = UNREADABLE[form]
        return Made(raw=build(person), user=person.address, why=why, forms=(form,))
    told = text(rng)
    form, sender = sender_lines(rng, person)
    structure = rng.choice([*STRUCTURES, "flowed", "From in the body"])
    expected = told.plain
    if structure == "From in the body":
        line = rng.choice(FROM_LINES)
        expected = f"{told.paragraphs[0]}\n\n{line}\n{told.paragraphs[0]}"
        written = expected.replace("\nFrom ", "\n>From ") if rng.random() < 0.5 else expected
        head = "" if told.declared is None else f"; charset={told.declared}"
        if told.charset == "utf-16":
            body = told.part(rng, expected)
        else:
            body = (
                f"Content-Type: text/plain{head}\nContent-Transfer-Encoding: 8bit\n\n".encode()
                + written.encode(told.charset)
                + b"\n"
            )
    elif structure == "flowed":
        body = flowed(rng, told)
    else:
        body = STRUCTURES[structure](rng, told)
    head = (
        sender + f"\nTo: desk@shop.example\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= {number}\nMIME-Version: 1.0\n".encode()
    )
    return Made(
        raw=head + body, user=person.address, text=expected, forms=(form, structure, f"{told.declared} {told.charset}")
    )


@pytest.fixture(scope="module")
def mails() -> list[Made]:
    rng = random.Random("five hundred mails")
    return [made(rng, number) for number in range(MAILS)]


def box(mails: list[Made], *, last_blank: bool = True) -> bytes:
    rng = random.Random("envelopes")
    parts = [rng.choice(ENVELOPES).format("p@x.example").encode() + b"\n" + mail.raw + b"\n" for mail in mails]
    return b"".join(parts) if last_blank else b"".join(parts).rstrip(b"\n")


def same(found: str, mail: Made) -> bool:
    """But for the kind of blanks, which HTML does not keep."""
    if mail.forms[1] in ("plain", "From in the body", "flowed"):
        return found.strip() == mail.text.strip()
    return found.split() == mail.text.split() and OTHERS not in found


def check(rows: list, mails: list[Made]) -> None:
    assert len(rows) == len(mails)
    for row, mail in zip(rows, mails, strict=True):
        if mail.why:
            assert isinstance(row, BadRow), mail.forms
            assert mail.why in row.why, (mail.forms, row.why)
            assert "hello" not in row.why
            continue
        assert isinstance(row, InputRow), (mail.forms, row.why)
        assert row.fields["user"] == mail.user, (mail.forms, mail.raw[:300])
        assert same(row.fields["text"], mail), (mail.forms, row.fields["text"], mail.text)
        assert row.fields["subject"].startswith("Grüße ")


def test_each_mail_has_its_user_and_its_text(mails: list[Made], tmp_path: Path) -> None:
    (tmp_path / "all.mbox").write_bytes(box(mails))
    check(list(rows_of(str(tmp_path / "all.mbox"))), mails)


def test_the_same_in_a_maildir_and_as_single_files(mails: list[Made], tmp_path: Path) -> None:
    unquoted = [mail for mail in mails if b"\n>From " not in mail.raw]  # only mbox files quote such lines
    for folder in ("cur", "new"):
        (tmp_path / "box" / folder).mkdir(parents=True)
    (tmp_path / "files").mkdir()
    for number, mail in enumerate(unquoted):
        (tmp_path / "box" / ("new" if number % 2 else "cur") / f"{number:04d}.host:2,S").write_bytes(mail.raw)
        (tmp_path / "files" / f"{number:04d}.eml").write_bytes(mail.raw)
    check(list(rows_of(str(tmp_path / "box"))), unquoted)
    check(list(rows_of(str(tmp_path / "files"))), unquoted)
    check(list(rows_of(str(tmp_path / "files" / "0000.eml"))), unquoted[:1])


def test_the_same_with_line_ends_of_windows(mails: list[Made], tmp_path: Path) -> None:
    (tmp_path / "all.mbox").write_bytes(box(mails, last_blank=False).replace(b"\n", b"\r\n"))
    rows = list(rows_of(str(tmp_path / "all.mbox")))
    check(rows, mails)
    assert not any("\r" in row.fields["text"] for row in rows if isinstance(row, InputRow))


def test_all_forms_are_there(mails: list[Made]) -> None:
    """A generator that leaves out a form would test nothing."""
    forms = Counter(form for mail in mails for form in mail.forms)
    every = {*SENDERS, "via a list", "one of two", *STRUCTURES, "flowed", "From in the body", *UNREADABLE}
    assert every <= set(forms)
    pairs = {f"{declared} {charset}" for some in CHARSETS.values() for declared, charset in some}
    assert pairs <= set(forms)
    assert min(forms[form] for form in SENDERS) >= 5
