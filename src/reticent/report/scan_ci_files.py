# SPDX-License-Identifier: Apache-2.0
"""A scan for continuous integration: SARIF 2.1.0, which code hosts show beside files, and JUnit XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from reticent.core.atomic import write_text
from reticent.core.outputs import marked, refuse_foreign
from reticent.core.scan import ScanEvidence, ScanOutcome, ScanResults
from reticent.core.scan_words import FOUND, NOT_LOOKED, NOTHING, SUSPICIOUS
from reticent.report.json_file import dumped
from reticent.report.page import made_by

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
SUITE = "reticent scan"
SARIF_FILE = marked("SARIF file", '"reticent.scan"', '"version": "2.1.0"')
SCAN_JUNIT = marked("JUnit file", "<testsuites", f'<testsuite name="{SUITE}"')
LEVELS = {FOUND: "error", SUSPICIOUS: "warning"}
_LINE = re.compile(r", line (\d+)$")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_sarif(path: str | Path, results: ScanResults) -> None:
    """Write what was found and what is suspicious as SARIF, atomically.

    Raises:
        BadInput: there is a file that this function did not write, or it cannot be written.
    """
    refuse_foreign(path, SARIF_FILE)
    write_text(path, dumped(sarif_of(results)), private=False)


def sarif_of(results: ScanResults) -> dict[str, Any]:
    """The content of a SARIF file: a rule for each scanner, a result for each place that counts."""
    driver = {
        "name": "reticent.scan",
        "version": made_by(),
        "rules": [
            {
                "id": outcome.name,
                "shortDescription": {"text": outcome.title},
                "help": {"text": f"It cannot see: {outcome.blind_to}"},
            }
            for outcome in results.outcomes
        ],
    }
    failed = [_notification(outcome) for outcome in results.outcomes if outcome.failed]
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": not failed, "toolExecutionNotifications": failed}],
        "results": [row for outcome in results.outcomes if outcome.word in LEVELS for row in _rows(outcome)],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rows(outcome: ScanOutcome) -> Iterator[dict[str, Any]]:
    counted = [row for row in outcome.evidence if row.certain or row.score >= 1 or outcome.null != "rule"]
    if not counted:
        yield {"ruleId": outcome.name, "level": LEVELS[outcome.word], "message": {"text": outcome.sentence}}
    for row in counted:
        yield {
            "ruleId": outcome.name,
            "level": "error" if row.certain else LEVELS[SUSPICIOUS],
            "message": {"text": " ".join(part for part in (f"{row.note}.", row.remedy) if part)},
            "locations": [_location(row)],
        }


def _location(row: ScanEvidence) -> dict[str, Any]:
    line = _LINE.search(row.where)
    file = _LINE.sub("", row.where).partition(" › ")[0]
    place: dict[str, Any] = {"artifactLocation": {"uri": quote(file)}}
    if line:
        place["region"] = {"startLine": int(line[1])}
    return {"physicalLocation": place, "logicalLocations": [{"fullyQualifiedName": row.where}]}


def _notification(outcome: ScanOutcome) -> dict[str, Any]:
    return {"level": "error", "message": {"text": outcome.sentence}, "descriptor": {"id": outcome.name}}


def write_scan_junit(path: str | Path, results: ScanResults) -> None:
    """Write a JUnit XML file, atomically: a test for each scanner.

    Found and suspicious are failures, a scanner that failed is an error, one that lacks what it needs is skipped.

    Raises:
        BadInput: there is a file that this function did not write, or it cannot be written.
    """
    refuse_foreign(path, SCAN_JUNIT)
    rows = results.outcomes
    counts = {
        "tests": str(len(rows)),
        "failures": str(sum(row.word in LEVELS for row in rows)),
        "errors": str(sum(row.failed for row in rows)),
        "skipped": str(sum(row.word == NOT_LOOKED and not row.failed for row in rows)),
    }
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": SUITE, **counts})
    for row in rows:
        case = ET.SubElement(suite, "testcase", {"classname": f"reticent.scan.{row.kind}", "name": row.name})
        if row.word == NOTHING:
            ET.SubElement(case, "system-out").text = _xml(row.sentence)
        else:
            tag = "failure" if row.word in LEVELS else "error" if row.failed else "skipped"
            lines = [f"{entry.where}: {entry.note}" for entry in row.evidence]
            ET.SubElement(case, tag, {"message": _xml(row.sentence), "type": row.word}).text = _xml("\n".join(lines))
    ET.indent(root)
    text = '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
    write_text(path, text, private=False)


def _xml(text: str) -> str:
    """The text without what no XML file can hold."""
    return _NOT_XML.sub("\ufffd", text)
