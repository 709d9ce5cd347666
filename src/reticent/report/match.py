# SPDX-License-Identifier: Apache-2.0
"""Check that a page, or the digits on a printed one, belong to some results."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.outputs import hash_of
from reticent.report.audit_page import render
from reticent.report.json_file import read_json
from reticent.report.page import made_by
from reticent.report.results_file import digest, read_results
from reticent.report.results_versions import RESULTS_VERSION

DIGITS = re.compile(r"[0-9a-f]{16,64}")
"""Digits of a hash: as many as nobody meets by chance, at most the whole."""
STAMP = re.compile(r'<meta name="reticent-results" content="sha256-([0-9a-f]{64})">')
MADE_BY = re.compile(r'<meta name="reticent-version" content="([^"]*)">')


@dataclass(frozen=True, kw_only=True)
class PageMatch:
    """The answer to whether a page and results belong together.

    Args:
        matches: whether they do.
        outcome: the same in a sentence.
    """

    matches: bool
    outcome: str


def verify(results: str | Path, page: str | Path) -> PageMatch:
    """Hold a page against a ``results.json``.

    Args:
        results: the file.
        page: a ``report.html``; or 16 digits or more of the SHA-256 that stands on a printed one.

    Raises:
        BadInput: the results or the page cannot be read, it is no such page, or it was made by another version, which
            makes another page of the same results.
    """
    content = read_results(results)
    hash_now = hash_of(Path(results))
    hashes = {hash_now}
    if read_json(Path(results), "")["schema_version"] != RESULTS_VERSION:  # a page made of them names today's form
        hashes.add(digest(content))
    typed = "".join(str(page).split()).lower().removeprefix("sha256").lstrip(":-")
    if not Path(page).is_file() and DIGITS.fullmatch(typed):
        if any(sha256.startswith(typed) for sha256 in hashes):
            return PageMatch(matches=True, outcome=f"These are the results whose SHA-256 begins {typed}.")
        return PageMatch(matches=False, outcome=f"These are other results: their SHA-256 is {hash_now}.")
    text = _read(page)
    stamp, maker = STAMP.search(text), MADE_BY.search(text)
    if stamp is None or maker is None:
        raise BadInput(str(page), "names no results", "Give a report.html of this reticent, or the digits on the page.")
    if stamp[1] not in hashes:
        return PageMatch(
            matches=False, outcome=f"The page was made of other results: {stamp[1]}, and these are {hash_now}."
        )
    if maker[1] != made_by():
        raise BadInput(
            str(page),
            f"names these results, and was made by reticent {maker[1]}, so that its words cannot be checked here",
            f"Check it with that version, or check the digits alone: {hash_now}.",
        )
    if text != render(content):
        return PageMatch(matches=False, outcome="The page names these results, but it is not the page that they give.")
    return PageMatch(matches=True, outcome=f"The page is what reticent makes of these results, SHA-256 {stamp[1]}.")


def _read(page: str | Path) -> str:
    try:
        return Path(page).read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise BadInput(
            str(page)[:200], f"cannot be read ({reason})", "Give a report.html, or 16 digits or more of its SHA-256."
        ) from error
