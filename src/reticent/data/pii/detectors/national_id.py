# SPDX-License-Identifier: Apache-2.0
"""Personal numbers of states, checked by python-stdnum where they have check digits."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from reticent.core.record import Span
from reticent.data.pii.context_words import cue, near
from reticent.data.pii.detector import SpanEvidence, detector


@dataclass(frozen=True, kw_only=True)
class NumberingScheme:
    """A numbering scheme.

    Args:
        form: what a number looks like, without its boundaries.
        check: module of python-stdnum; empty where there are no check digits.
        words: context words that must stand before it; None where form and check digits are enough.
        kind: of the span.
    """

    form: str
    check: str = ""
    words: tuple[str, ...] | None = None
    kind: str = "NATIONAL_ID"


SCHEMES = (
    NumberingScheme(form=r"(?![DFIQUV])[A-Z](?![DFIQUVO])[A-Z] ?\d\d ?\d\d ?\d\d ?[A-D]", kind="UK_NINO"),
    NumberingScheme(form=r"\d{3} \d{3} \d{4}|\d{3}-\d{3}-\d{4}", check="gb.nhs", words=("nhs", "national health")),
    NumberingScheme(form=r"\d{10}", check="gb.nhs", words=("nhs", "nhs (?:number|no)")),
    NumberingScheme(form=r"9\d\d([ -])\d\d\1\d{4}", check="us.itin"),
    NumberingScheme(
        form=r"\d{3}[ -]\d{3}[ -]\d{3}|\d{9}", check="ca.sin", words=("sin", "social insurance(?: number)?")
    ),
    NumberingScheme(form=r"\d{3} ?\d{3} ?\d{3}", check="au.tfn", words=("tfn", "tax file(?: number)?")),
    NumberingScheme(form=r"\d{8}[ -]?[A-Z]", check="es.dni"),
    NumberingScheme(form=r"[XYZ][ -]?\d{7}[ -]?[A-Z]", check="es.nie"),
    NumberingScheme(form=r"[A-Z]{6}\d\d[A-EHLMPR-T]\d\d[A-Z]\d{3}[A-Z]", check="it.codicefiscale"),
    NumberingScheme(form=r"[12] ?\d\d ?\d\d ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d", check="fr.nir"),
    NumberingScheme(
        form=r"\d\d ?\d{3} ?\d{3} ?\d{3}", check="de.idnr", words=("steuer-?id\\w{0,12}", "idnr", "tin", "tax id")
    ),
    NumberingScheme(
        form=r"\d{9}|\d{4}\.\d\d\.\d{3}", check="nl.bsn", words=("bsn", "burgerservicenummer", "sofinummer")
    ),
    NumberingScheme(form=r"\d\d([. ])\d\d\1\d\d[ -]\d{3}[. ]\d\d", check="be.nn"),
    NumberingScheme(form=r"\d{3}\.\d{3}\.\d{3}[ -]\d\d", check="br.cpf"),
    NumberingScheme(form=r"\d{3}([. -]?)\d{3}\1\d{3}[ -]?\d\d", check="br.cpf", words=("cpf",)),
    NumberingScheme(form=r"\d{11}", check="pl.pesel", words=("pesel",)),
    NumberingScheme(form=r"\d{6}[-+]\d{4}|(?:19|20)\d{6}-?\d{4}", check="se.personnummer"),
    NumberingScheme(form=r"\d{6}[-+A]\d{3}[0-9A-Z]", check="fi.hetu"),
    NumberingScheme(
        form=r"\d{6} ?\d{5}", check="no.fodselsnummer", words=("f\u00f8dselsnummer", "fodselsnummer", "personnummer")
    ),
    NumberingScheme(form=r"\d{6}[ -]\d{4}", check="dk.cpr", words=("cpr(?:-nummer)?",)),
    NumberingScheme(form=r"\d{4} \d{4} \d{4}|\d{4}-\d{4}-\d{4}", check="in_.aadhaar"),
    NumberingScheme(form=r"\d{12}", check="in_.aadhaar", words=("aadhaar", "uidai", "aadhar")),
    NumberingScheme(form=r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]", check="in_.pan"),
    NumberingScheme(form=r"\d{17}[\dX]", check="cn.ric"),
    NumberingScheme(form=r"\d{6}[ -][1-8]\d{6}", check="kr.rrn"),
    NumberingScheme(form=r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d", check="mx.curp"),
    NumberingScheme(form=r"\d{11}", check="tr.tckimlik", words=("tckn", "tc kimlik(?: no)?", "t\\.c\\.")),
    NumberingScheme(form=r"756([. -])\d{4}\1\d{4}\1\d\d", check="ch.ssn"),
)
"""Numbers that are in use in many texts as well (nine or eleven digits) need words that say what they are."""


@detector(
    "national_id",
    kinds=("NATIONAL_ID", "UK_NINO"),
    evidence=SpanEvidence.CHECKED,
    reads="numbers",
    joins=any,
    example=("DNI 12345678Z", "12345678Z"),
)
def national_id(text: str) -> Iterator[Span]:
    """Personal numbers of about 25 states, with right check digits or in a form of their own."""
    if not any(char.isdigit() for char in text):
        return
    for scheme, form, words in _compiled():
        if words is not None and words.search(text) is None:
            continue
        for match in form.finditer(text):
            if words is not None and not near(text, match.start(), words):
                continue
            if not scheme.check or _module(scheme.check).is_valid(match[0]):
                yield Span(start=match.start(), end=match.end(), kind=scheme.kind)


@cache
def _compiled() -> list[tuple[NumberingScheme, re.Pattern[str], re.Pattern[str] | None]]:
    return [
        (
            scheme,
            re.compile(rf"(?<![\w.-])(?:{scheme.form})(?![\w-])", re.IGNORECASE | re.ASCII),
            None if scheme.words is None else cue(*scheme.words),
        )
        for scheme in SCHEMES
    ]


@cache
def _module(name: str) -> Any:
    return importlib.import_module(f"stdnum.{name}")
