# SPDX-License-Identifier: Apache-2.0
"""The table of planted faults in the docs has all that are planted, each with the promise that is named for it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.federated.secure.test_secure_federation import FAULTS as SECURE
from tests.federated.test_federation_check import FAULTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "federated_faults.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, str]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    return dict(found[1:])


def test_the_table_has_the_faults_that_are_planted() -> None:
    for heading, planted in (("The promise to each client", FAULTS), ("A server that sees sums only", SECURE)):
        assert rows(heading) == {name.replace("_", " "): entry[1] for name, entry in planted.items()}
    assert len(FAULTS) + len(SECURE) >= 50


def test_the_tests_that_are_named_exist() -> None:
    named = re.findall(r"`((?:tests/federated/)?(?:secure/|flower/)?test_\w+\.py)`", PAGE)
    assert len(named) >= 12
    missing = [
        name for name in named if not (ROOT / "tests/federated" / name.removeprefix("tests/federated/")).exists()
    ]
    assert not missing
