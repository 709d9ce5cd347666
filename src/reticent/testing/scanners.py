# SPDX-License-Identifier: Apache-2.0
"""Conformance of scanners: ``check_scanner("my_scanner")`` in your own test looks at what it declares and at how it
behaves on folders that hold nothing, noise, and a tiny clean model."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from reticent.core.errors import ReticentError
from reticent.core.scan import ScanEvidence
from reticent.core.scan_words import BY_RULE
from reticent.scan.scanner import SCANNERS, Scanner
from reticent.scan.suspect import Suspect
from reticent.testing.tiny import save_tiny

__all__ = ["check_scanner"]

ORDERS = {"files": range(10, 20), "weights": range(20, 30), "data": range(30, 40), "behaviour": range(40, 60)}
"""Kind → the orders of its scanners: the cheap kinds run first."""
NOISE = bytes(range(256)) * 8


def check_scanner(scanner: Scanner | str) -> None:
    """Run every check on one scanner, registered or not.

    What it declares: a title, a blind spot in a sentence, an order of its kind. How it behaves: it refuses or returns
    evidence, never another error, on a folder of noise; twice the same; scores are finite; p-values stand where the
    null is made and nowhere else; nothing is written into the folder; by rule a clean tiny model raises no alarm.

    Args:
        scanner: a name, or what `reticent.scan.scanner.Scanner` describes.

    Raises:
        AssertionError: the scanner does not keep to something; says to what.

    Examples:
        >>> check_scanner("pickles")
    """
    scanner = SCANNERS.get(scanner) if isinstance(scanner, str) else scanner
    _check_declared(scanner)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        noise = root / "noise"
        noise.mkdir()
        for name in ("config.json", "tokenizer.json", "model.safetensors", "adapter_config.json", "model.bin"):
            (noise / name).write_bytes(NOISE)
        clean = save_tiny(root / "clean")
        sibling = save_tiny(root / "sibling")
        for folder in (noise, clean):
            suspect = Suspect(folder=folder, base=sibling, cache=root / "cache")
            before = _snapshot(folder)
            evidence = _looked(scanner, suspect)
            assert _looked(scanner, suspect) == evidence, f"{scanner.name}: a second look gives something else"
            assert _snapshot(folder) == before, f"{scanner.name}: writes into the folder that it looks at"
            _check_evidence(scanner, evidence or ())
        if scanner.null == BY_RULE and evidence is not None:
            alarms = [row for row in evidence if row.score >= 1]
            assert not alarms, f"{scanner.name}: raises an alarm on a clean model: {alarms[0]}"


def _check_declared(scanner: Scanner) -> None:
    assert scanner.title, f"{scanner.name}: needs a title"
    assert scanner.title[0].isupper(), f"{scanner.name}: the title begins with a small letter"
    assert not scanner.title.endswith("."), f"{scanner.name}: the title ends with a full stop"
    assert len(scanner.blind_to) > 20, f"{scanner.name}: must say what it cannot see"
    assert scanner.blind_to.endswith("."), f"{scanner.name}: blind_to must be a whole sentence"
    assert scanner.order in ORDERS[scanner.kind], f"{scanner.name}: order {scanner.order} is none of {scanner.kind}"
    assert scanner.look.__doc__, f"{scanner.name}: the function needs a docstring"


def _looked(scanner: Scanner, suspect: Suspect) -> Sequence[ScanEvidence] | None:
    """Its evidence; None where it could not look, or lacks what it needs."""
    if suspect.missing(scanner.needs):
        return None
    try:
        return tuple(scanner.look(suspect))
    except ReticentError:
        return None
    except Exception as error:
        raise AssertionError(f"{scanner.name}: fails with {type(error).__name__} where it should refuse") from error


def _check_evidence(scanner: Scanner, evidence: Sequence[ScanEvidence]) -> None:
    for row in evidence:
        assert math.isfinite(row.score), f"{scanner.name}: a score is not finite"
        assert row.where, f"{scanner.name}: evidence does not say where"
        assert row.note, f"{scanner.name}: evidence does not say what was seen"
        if scanner.null == BY_RULE:
            assert row.p is None, f"{scanner.name}: has a p-value, and its null is a rule"


def _snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}
