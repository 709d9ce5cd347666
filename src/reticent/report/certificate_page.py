# SPDX-License-Identifier: Apache-2.0
"""``certificate.html``: the certificate of an unlearning as one self-contained page, to be printed on paper."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from reticent.core.atomic import write_text
from reticent.core.outputs import marked, refuse_foreign
from reticent.core.section import Cell, Column, Mark, Table, Words
from reticent.core.unlearning import Certificate
from reticent.core.unlearning_words import MARKED, STILL_KNOWN
from reticent.report import number_format as numbers
from reticent.report.page import filled
from reticent.report.unlearning_page import TONES, page_templates

GENERATOR = "reticent certificate"
CERTIFICATE_PAGE = marked("certificate", f'<meta name="generator" content="{GENERATOR}">')


def write_certificate_page(path: str | Path, certificate: Certificate) -> None:
    """Write the page, atomically.

    Raises:
        BadInput: there is a folder, or a file that is no certificate of this package.
    """
    refuse_foreign(path, CERTIFICATE_PAGE)
    write_text(path, render_certificate(certificate), private=False)


def render_certificate(certificate: Certificate) -> str:
    """The whole page. Equal certificates give equal bytes."""
    tone, icon = TONES[certificate.verdict.status]
    content = {
        "certificate": certificate,
        "tone": tone,
        "icon_name": icon,
        "generator": GENERATOR,
        "measured": measured_table(certificate),
    }
    return filled(page_templates(), "certificate.html", content, more="unlearning.css")


def measured_table(certificate: Certificate) -> Table:
    """Numbers of the unlearned model with intervals, n and the word for each."""
    columns = (
        Column(name="check", label="Check", kind="group"),
        Column(name="number", label="Number"),
        Column(name="estimate", label="Unlearned model", kind="estimate", unit=False),
        Column(name="n", label="n", kind="count"),
        Column(name="word", label="Verdict", kind="mark"),
    )
    rows: list[tuple[Cell, ...]] = []
    for check, measured in groupby(certificate.measured, key=lambda number: number.check):
        for number in measured:
            rows.append(
                (
                    check.replace("_", " ").capitalize(),
                    Words(text=number.what, note=numbers.metric_name(number.metric)),
                    number.estimate,
                    number.estimate.n,
                    Mark(text=number.word, raised=number.word in (STILL_KNOWN, MARKED)) if number.word else None,
                )
            )
    return Table(name="certificate-measured", title="Measured", columns=columns, rows=tuple(rows))
