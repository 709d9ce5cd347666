# SPDX-License-Identifier: Apache-2.0
"""Every pattern detector: what it finds, what it leaves alone, and that hostile texts take no longer than others."""

from __future__ import annotations

import random
import time

import pytest

from reticent.data.pii import DETECTORS, choose, find
from reticent.data.pii.detectors.card_number import issuer
from reticent.data.pii.detectors.iban import LENGTHS, remainder

PATTERNS = [found for found in DETECTORS if found.evidence]
"""All but statistical models."""

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_RNG = random.Random(0)


def noise(n: int, alphabet: str = LETTERS) -> str:
    return "".join(_RNG.choice(alphabet) for _ in range(n))


DB = "postgres://bob:s3cret@db.example.com/app"
TOKEN = "https://example.com/a?id=1&access_token=abcdef12"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMII=\n-----END RSA PRIVATE KEY-----"
AWS = "wJalrXUtnFEMI/K7MDENG/bPxRfiCY"
MARYLAND = "194 Fischer Isle, Sandramouth, MD 32150"
KENT = "8 Nicholls Underpass,\nTaylormouth, TN56 7TA"
FLAT = "Flat 59m, Davis Square, New Guyside, KW3B 6GL"
COIN = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"

FOUND = [
    ("email", "write to ana.lee+x@mail.example.org.", "ana.lee+x@mail.example.org", "EMAIL"),
    ("email", "ana (at) example (dot) org", "ana (at) example (dot) org", "EMAIL"),
    ("email", "<o'neil@example.co.uk>", "o'neil@example.co.uk", "EMAIL"),
    ("card_number", "card 4111 1111 1111 1111 12/27", "4111 1111 1111 1111", "CARD"),
    ("card_number", "room 12 4111-1111-1111-1111", "4111-1111-1111-1111", "CARD"),
    ("card_number", "amex 378282246310005.", "378282246310005", "CARD"),
    ("card_number", "my Maestro card 5612 3456 7890 1230", "5612 3456 7890 1230", "CARD"),
    ("iban", "to GB82 WEST 1234 5698 7654 32 please", "GB82 WEST 1234 5698 7654 32", "IBAN"),
    ("iban", "to de89370400440532013000,", "de89370400440532013000", "IBAN"),
    ("us_ssn", "it is 536-90-4399.", "536-90-4399", "US_SSN"),
    ("us_ssn", "my SSN is 536904399", "536904399", "US_SSN"),
    ("national_id", "NINO AB 12 34 56 C", "AB 12 34 56 C", "UK_NINO"),
    ("national_id", "DNI 12345678Z", "12345678Z", "NATIONAL_ID"),
    ("national_id", "cpf 390.533.447-05", "390.533.447-05", "NATIONAL_ID"),
    ("national_id", "NHS number 943 476 5870", "943 476 5870", "NATIONAL_ID"),
    ("ip_address", "from 203.0.113.9.", "203.0.113.9", "IP_ADDRESS"),
    ("ip_address", "at 2001:db8::8a2e:370:7334,", "2001:db8::8a2e:370:7334", "IP_ADDRESS"),
    ("mac_address", "nic 00:1A:2b:3C:4D:5E", "00:1A:2b:3C:4D:5E", "MAC_ADDRESS"),
    ("url_credentials", f"use {DB}.", DB, "URL_CREDENTIALS"),
    ("url_credentials", TOKEN, TOKEN, "URL_CREDENTIALS"),
    ("date_of_birth", "born on 12 March 1980 in", "12 March 1980", "DATE_OF_BIRTH"),
    ("date_of_birth", "DOB: 03/12/1980", "03/12/1980", "DATE_OF_BIRTH"),
    ("date_of_birth", "date of birth March 3rd, 1980", "March 3rd, 1980", "DATE_OF_BIRTH"),
    ("private_key", f"{PEM}!", PEM, "PRIVATE_KEY"),
    ("private_key", "-----BEGIN PRIVATE KEY-----\nMIIabc", "-----BEGIN PRIVATE KEY-----\nMIIabc", "PRIVATE_KEY"),
    ("assigned_secret", "the password is hunter2!", "hunter2!", "PASSWORD"),
    ("assigned_secret", 'DB_PASSWORD="correct horse', "correct", "PASSWORD"),
    ("assigned_secret", "Server=x;Password=Tr0ub4dor;User=y", "Tr0ub4dor", "PASSWORD"),
    ("assigned_secret", f"AWS_SECRET_ACCESS_KEY={AWS}", AWS, "API_KEY"),
    ("crypto_wallet", f"send to {COIN}", COIN, "CRYPTO_WALLET"),
    ("crypto_wallet", "0x" + "aB3" * 13 + "0", "0x" + "aB3" * 13 + "0", "CRYPTO_WALLET"),
    ("document_number", "passport number: X1234567", "X1234567", "PASSPORT"),
    ("document_number", "my driver's license is A125-3258-67", "A125-3258-67", "DRIVER_LICENCE"),
    ("document_number", "MRN 00481516", "00481516", "MEDICAL_RECORD"),
    ("access_code", "the door code is 4821.", "4821", "ACCESS_CODE"),
    ("phone", "on (212) 555-0123 or", "(212) 555-0123", "PHONE"),
    ("phone", "on +44 20 7946 0958.", "+44 20 7946 0958", "PHONE"),
    ("phone", "call 555 0123", "555 0123", "PHONE"),
    ("phone", "505.498.8487x6837", "505.498.8487x6837", "PHONE"),
    ("phone", "07700 900123", "07700 900123", "PHONE"),
    ("postal_address", "at 12 Long Street, Springfield, IL 62704.", "12 Long Street, Springfield, IL 62704", "ADDRESS"),
    ("postal_address", "Flat 3, 7 Mill Lane, York YO1 7HH", "Flat 3, 7 Mill Lane, York YO1 7HH", "ADDRESS"),
    ("postal_address", f"at {MARYLAND}.", MARYLAND, "ADDRESS"),
    ("postal_address", KENT, KENT, "ADDRESS"),
    ("postal_address", f"to {FLAT}. It", FLAT, "ADDRESS"),
    ("signature", "See you then.\nKind regards,\nAda Quill", "Ada Quill", "PERSON"),
    ("signature", "> Yours sincerely,\r\n>\r\n> A. J. Quill\r\n", "A. J. Quill", "PERSON"),
    ("signature", "with many thanks\n- Ada\nSent from", "Ada", "PERSON"),
    ("introduction", "Well, my name is Ada Quill and", "Ada Quill", "PERSON"),
    ("introduction", "call me Ada.", "Ada", "PERSON"),
    ("introduction", "> Dear Ada,\n> thanks", "Ada", "PERSON"),
    ("introduction", "seen by Dr. Ada Quill today", "Ada Quill", "PERSON"),
    ("introduction", "My name is Ada\nQuill, and", "Ada\nQuill", "PERSON"),
    ("introduction", "My name is Ada\nThanks for it", "Ada", "PERSON"),
    ("introduction", "Ada,\n\nthe lamp came.", "Ada", "PERSON"),
    ("introduction", "I saw Dr.\n> ADA QUILL there", "ADA QUILL", "PERSON"),
    ("mail_header", "> From: Ada Quill <a@example.org>", "Ada Quill", "PERSON"),
    ("mail_header", "To:\tQUILL, [mailto:a@example.org]", "QUILL", "PERSON"),
    ("mail_header", "On Mon, 5 Aug 2002 at 10:00 AM Ada Quill wrote:", "Ada Quill", "PERSON"),
    ("mail_header", "> Ada B. Quill <a@example.org>\n> wrote:", "Ada B. Quill", "PERSON"),
    ("introduction", "Name:   ada van quill \nAge: 40", "ada van quill", "PERSON"),
    ("postal_address", "in Lindenstraße 12a", "Lindenstraße 12a", "ADDRESS"),
    ("postal_address", "PO Box 101", "PO Box 101", "ADDRESS"),
]  # fmt: skip

KEYS = [
    "AKIAIOSFODNN7EXAMPLQ",
    "AIza" + noise(35),
    "ya29." + noise(30),
    "GOCSPX-" + noise(28),
    "ghp_" + noise(36),
    "github_pat_" + noise(22) + "_" + noise(59),
    "glpat-" + noise(20),
    "xoxb-" + noise(24, "0123456789"),
    "https://hooks.slack.com/services/T" + noise(8) + "/B" + noise(8) + "/" + noise(24),
    "https://discord.com/api/webhooks/" + noise(18, "0123456789") + "/" + noise(60),
    "sk_live_" + noise(24),
    "sk-proj-" + noise(40),
    "sk-ant-api03-" + noise(40),
    "hf_" + noise(34),
    "npm_" + noise(36),
    "pypi-AgEI" + noise(60),
    "SG." + noise(22) + "." + noise(43),
    "AC" + noise(32, "0123456789abcdef"),
    "key-" + noise(32, "0123456789abcdef"),
    noise(32, "0123456789abcdef") + "-us12",
    "dop_v1_" + noise(64, "0123456789abcdef"),
    noise(9, "0123456789") + ":AA" + noise(33),
    "sq0atp-" + noise(22),
    "shpat_" + noise(32, "0123456789abcdef"),
    "dapi" + noise(32, "0123456789abcdef"),
    "hvs." + noise(24),
    "AGE-SECRET-KEY-1" + noise(58, "023456789ACDEFGHJKLMNPQRSTUVWXYZ"),
    "eyJ" + noise(20) + ".eyJ" + noise(40) + "." + noise(43),
]

LEFT_ALONE = [
    ("email", "@home, a@b, user@localhost and x@.com"),
    ("card_number", "4111 1111 1111 1112 and 1234567890123452 and 9999999999999995"),
    ("iban", "GB82 WEST 1234 5698 7654 33, ZZ82WEST12345698765432"),
    ("us_ssn", "000-12-3456 666-12-3456 900-12-3456 536-00-4399 536-90-0000 536904399"),
    ("national_id", "12345678A, 390.533.447-06, number 943 476 5871, 123456789"),
    ("ip_address", "version 1.2.3.4, 127.0.0.1, 256.1.1.1, 1.2.3.4.5, 12:30:45, ::1"),
    ("mac_address", "00:00:00:00:00:00 1A:2B:3C"),
    ("url_credentials", "https://example.com/a:b@c?x=1 http://example.com:80/"),
    ("date_of_birth", "we met on 12 March 1980"),
    ("api_key", "sk-learn, key-value, SG.x.y and AKIAX"),
    ("private_key", "-----BEGIN PUBLIC KEY-----"),
    ("assigned_secret", "the password is required; password=None; token: next; secret = get_secret(); password: ${PW}"),
    ("crypto_wallet", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"),
    ("document_number", "my passport is blue and my account number is missing"),
    ("access_code", "the pin costs $4821 and 12.50; room 4821"),
    ("phone", "order 482193, £1,250,000, 2024-05-12, 12/05/2024, 3.14159265"),
    ("postal_address", "In 2024 Ada Quill paid Bob Baker 32150 pounds, of 12 Great Works"),
    ("signature", "Kind regards,\nThe Support Team"),
    ("signature", "Thanks,\nI will write again soon"),
    ("signature", "the best\nAda Quill ever wrote"),
    ("introduction", "Dear Sir or Madam,\nDear Support Team,\nHi all,\nHello There!"),
    ("introduction", "the name is not known. File name: report.txt. They call me often."),
    ("introduction", "Name: What you called it. I miss Autumn"),
    ("introduction", "Thanks,\nAlso,\n\nHowever,\nUnfortunately,\n"),
    (
        "mail_header",
        "From: time to time we meet. Somebody wrote: no. The Support Team wrote: yes",
    ),
    ("postal_address", "I have 3 cats and 12 dogs in 2024"),
]


@pytest.mark.parametrize(("name", "text", "value", "kind"), FOUND)
def test_finds(name, text, value, kind):
    assert [(text[span.start : span.end], span.kind) for span in find(text, choose(name))] == [(value, kind)]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:12])
def test_finds_keys_of_issuers(key):
    text = f"it is {key} for now"
    assert [text[span.start : span.end] for span in find(text, choose("api_key"))] == [key]


@pytest.mark.parametrize(("name", "text"), LEFT_ALONE)
def test_leaves_alone(name, text):
    assert [text[span.start : span.end] for span in find(text, choose(name))] == []


def test_every_pattern_detector_is_tested_both_ways():
    names = {found.name for found in PATTERNS}
    assert names - {"api_key"} == {name for name, *_ in FOUND}
    assert names == {name for name, _ in LEFT_ALONE}


UNITS = [
    "\u5361", "a\u5361@", "1\u00a0", "1\n", "1\t", "1\n> ", "1  ", "1\u2013", "0 0123 ", "A\nA ", "From: A ",
    "A wrote: ",
    "a A\n", "a@\n", "ext 1", "GB82\n", "1\u200b", "&nbsp;", "Dr.\n", "A,\n\n",
    "a", "1", "1 ", "1-", "1.", "a.", "a@", "@", ":", "::", "f:", "A", "Aa ", "1 Aa ", "12 Aa Aa Aa Aa ", "eyJ", "sk-",
    "sk-aaaaa", "password ", "password=", "password is ", "http://a:", "a://", "-----BEGIN PRIVATE KEY-----",
    "passport ", "passport A1 ", "born 1/", "born ", "(", "+1 ", "[at]", "a [at] ", "GB82", "GB82 ", "0x", "bc1",
    "1A1z", "St ", "1 St, ", "Rue a ", "Apt 1 ", "PO Box 1 ", "\n", "é", "x1", "4111 ", "aa-", "Aastr. ",
]  # fmt: skip


@pytest.mark.parametrize("found", PATTERNS, ids=lambda found: found.name)
def test_time_grows_with_the_length_and_no_faster(found):
    """Twenty thousand characters of each repeated unit in well under a second: quadratic ones would take minutes."""
    for unit in UNITS:
        text = (unit * (20_000 // len(unit) + 1))[:20_000]
        began = time.process_time()
        list(found.find(text))
        took = time.process_time() - began
        assert took < 1.0, f"{found.name} takes {took:.1f} s on {unit!r}"


def test_issuers_and_countries():
    assert issuer("4111111111111111") == "Visa"
    assert issuer("2221000000000009") == "Mastercard"
    assert issuer("41111111111111") is None
    assert LENGTHS["NO"] == 15
    assert remainder("NO9386011117947") == 1
