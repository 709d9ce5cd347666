# SPDX-License-Identifier: Apache-2.0
"""Street addresses as they are written in the US and the UK, and the commonest forms of western Europe."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector

_SUFFIX = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Square|Sq|Terrace|Place|Pl|Way|Close|"
    r"Crescent|Cres|Gardens|Grove|Mews|Parkway|Pkwy|Highway|Hwy|Circle|Cir|Trail|Alley|Row|Hill|Rise|Walk|Green|Park|"
    r"Plaza|Loop|Pike|Turnpike|Square|Heights|Creek|Crossing|Ridge|Valley|View|Village|Station|Bridge|Brook|Track)"
)
_CAPITAL = r"[^\W\d_a-z][\w'’.-]{0,24}+"
_WORD = r"[^\W\d_][\w'’.-]{0,24}+"
_UNIT = r"(?:(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Room|Rm)\b\.?\s{0,2}#?\w{1,6}+|#\s?\d{1,6})"
_ZIP = r"[0-9]{5}(?:-[0-9]{4})?(?![\w-])"
_POSTCODE = r"(?:GIR ?0AA|[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][ABD-HJLNP-UW-Z]{2})(?!\w)"
_GAP = r"[,\s]{1,3}+"
_TAIL = rf"(?:(?:{_GAP}(?:{_UNIT}|{_WORD})){{0,7}}?{_GAP}(?:{_ZIP}|{_POSTCODE})|(?:{_GAP}{_UNIT}){{0,2}}+)"
_CODE = rf"(?:{_GAP}[A-Z]{{2}}{_GAP}{_ZIP}|{_GAP}{_POSTCODE})"
_HOUSE = r"(?<![\w.,$£€#/-])[0-9]{1,6}[A-Za-z]?(?:-[0-9]{1,5})?"
_NORDIC = r"(?:stra(?:ß|ss)e|str\.|gasse|allee|platz|weg|gatan|vägen|katu|kuja|vej|gade|laan|straat|utca)"
_ROMANCE = (
    r"(?:Rue|Avenue|Boulevard|Chemin|Quai|Impasse|Via|Viale|Corso|Piazza|Vicolo|Calle|C/|Avenida|Av\.|Avda\.|Plaza|Paseo|Rua|"
    r"R\.|Praça|Travessa|Ulica|ul\.)"
)

ADDRESSES = tuple(
    re.compile(form)
    for form in (
        rf"(?:{_UNIT}{_GAP})?{_HOUSE},?\s(?:{_CAPITAL}\s){{1,4}}?(?<!\w\w\w\.\s){_SUFFIX}\b\.?{_TAIL}",
        rf"(?:{_UNIT}{_GAP})?{_HOUSE},?\s{_CAPITAL}(?:{_GAP}(?:{_UNIT}|{_CAPITAL})){{0,7}}?{_CODE}",
        rf"(?<!\w){_UNIT}(?:{_GAP}{_CAPITAL}){{1,7}}?{_CODE}",
        rf"(?<!\w)(?i:P\.?\s?O\.?\s?Box|Post Office Box)\s#?\d{{1,6}}+{_TAIL}",
        rf"(?<!\w)[^\W\d_]{{2,25}}(?i:{_NORDIC})\s[0-9]{{1,4}}[a-z]?(?![\w-]){_TAIL}",
        rf"(?<!\w)(?i:{_ROMANCE})\s(?:{_WORD}\s){{1,4}}?(?:n[°ºo.]\s?)?[0-9]{{1,4}}[a-z]?(?![\w-]){_TAIL}",
        rf"{_HOUSE}(?:\s?bis)?,?\s(?i:{_ROMANCE})\s(?:(?:de|la|le|du|des|les|da|do)\s){{0,2}}{_CAPITAL}{_TAIL}",
        rf"(?<!\w){_CAPITAL}(?:\s{_CAPITAL}){{0,2}}?,?\s(?:[A-Z]{{2}}),?\s{_ZIP}",
        rf"(?<!\w){_POSTCODE}",
    )
)
"""House and street, told by its last word or by the code that follows; a unit with a code; box; street and house of the
north and of the south; town, state and ZIP code; UK postcode."""


@detector(
    "postal_address",
    kinds=("ADDRESS",),
    evidence=SpanEvidence.FORM,
    reads="even",
    example=("at 12 Long Street, Springfield, IL 62704.", "12 Long Street, Springfield, IL 62704"),
)
def postal_address(text: str) -> Iterator[Span]:
    """House number and street with what follows up to a ZIP code or postcode; boxes; towns with a code; postcodes."""
    if not any(char.isdigit() for char in text):
        return
    for form in ADDRESSES:
        for match in form.finditer(text):
            yield Span(start=match.start(), end=match.end(), kind="ADDRESS")
