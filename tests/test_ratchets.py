# SPDX-License-Identifier: Apache-2.0
"""Sizes and complexity stay where they are or fall: a number here only ever goes down."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ("src", "tests", "benchmarks", "examples", "docs")
SPDX = "# SPDX-License-Identifier: Apache-2.0"

LONGEST_FILE, LONGEST_FUNCTION = 500, 80
"""Lines. The house rule for functions is 80; two workflows are above it."""
LONGER = {
    "tests/report/sample.py": 576,
    "tests/robustness/test_bad_inputs.py": 670,
    "tests/train/test_selective.py": 525,
}
"""Files above the limit, and what they may have: tables of cases, and one sample."""
COUNTS = {"C901": 0, "PLR0913": 32, "PLR0915": 0}
"""Functions of the package that are more complex than 10, take more than 7 arguments, have more than 50 statements.

Those that take many arguments are nearly all verbs and readers, whose arguments are the settings that a user may give.
"""
LIMITS = ["lint.mccabe.max-complexity=10", "lint.pylint.max-args=7", "lint.pylint.max-statements=50"]


def files() -> list[Path]:
    return [path for folder in OURS for path in sorted((ROOT / folder).rglob("*.py"))]


def too_long(path: Path) -> Iterator[str]:
    """Functions of a file above the limit, with their lines."""
    text = path.read_text(encoding="utf-8")
    if text.count("\n") < LONGEST_FUNCTION:
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{path.name}: {node.name} has {lines} lines"


def complaints(folder: Path) -> dict[str, list[str]]:
    """By rule, what ruff says at the limits."""
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--output-format", "json"]
    limits = [part for limit in LIMITS for part in ("--config", limit)]
    done = subprocess.run(
        [*ruff, "--select", ",".join(COUNTS), *limits, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    by_rule: dict[str, list[str]] = {rule: [] for rule in COUNTS}
    for row in json.loads(done.stdout):
        by_rule[row["code"]].append(f"{row['filename']}:{row['location']['row']} {row['message']}")
    return by_rule


def test_every_file_begins_with_its_licence() -> None:
    assert not [str(path) for path in files() if not path.read_text(encoding="utf-8").startswith(SPDX)]


def test_no_file_is_too_long() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert not {path: count for path, count in lines.items() if count > LONGER.get(path, LONGEST_FILE)}


def test_no_function_is_too_long() -> None:
    assert not [line for path in files() for line in too_long(path)]


def test_complexity_does_not_grow() -> None:
    for rule, rows in complaints(ROOT / "src").items():
        assert len(rows) <= COUNTS[rule], "\n".join(rows)


def test_the_ratchets_can_fail(tmp_path: Path) -> None:
    body = "\n".join(f"    if a == {number}:\n        b = {number}" for number in range(60))
    path = tmp_path / "long.py"
    path.write_text(f"def long({', '.join('abcdefgh')}):\n{body}\n", encoding="utf-8")
    assert list(too_long(path))
    assert all(len(rows) == 1 for rows in complaints(tmp_path).values())
