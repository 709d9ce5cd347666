# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from reticent.attacks import ATTACKS
from reticent.attacks.extraction import EXTRACTIONS
from reticent.attacks.paper_index import paper_index
from reticent.attacks.pii import PII_ATTACKS

PAGE = Path(__file__).parents[2] / "docs" / "paper_index.md"


def test_the_page_is_what_the_registry_says():
    fresh = PAGE.read_text(encoding="utf-8") == paper_index()
    assert fresh, "docs/paper_index.md is stale: python -m reticent.attacks.paper_index > docs/paper_index.md"


def test_every_attack_has_a_row_with_a_link():
    rows = [line for line in paper_index().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [
        *ATTACKS.names(),
        *EXTRACTIONS.names(),
        *PII_ATTACKS.names(),
        "natural_identifiers",
    ]
    assert all("](https://" in row for row in rows)
