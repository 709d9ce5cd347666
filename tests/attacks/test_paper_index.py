# SPDX-License-Identifier: Apache-2.0
"""The paper index is what the registry says, and every paper has a link."""

from pathlib import Path

import pytest

from reticent.attacks import ATTACKS
from reticent.attacks.evidence import EVIDENCE, UNITS
from reticent.attacks.paper_index import paper_index
from reticent.core.paper import Paper, paper_url

PAGE = Path(__file__).parents[2] / "docs" / "paper_index.md"


def test_the_page_is_what_the_registry_says():
    fresh = PAGE.read_text(encoding="utf-8") == paper_index()
    assert fresh, "docs/paper_index.md is stale: python -m reticent.attacks.paper_index > docs/paper_index.md"


def test_every_attack_and_every_evidence_has_a_row():
    rows = [line for line in paper_index().splitlines() if line.startswith("| `")]
    attacks = [attack.name for unit in UNITS for attack in ATTACKS.select(unit=unit)]
    assert sorted(attacks) == ATTACKS.names()
    assert [row.split("`")[1] for row in rows] == [*attacks, *EVIDENCE]
    assert all("](https://" in row for row in rows[: len(attacks)])


@pytest.mark.parametrize(
    "text",
    ["", "ours", "javascript:alert(1)", "arXiv:1", "arXiv:2310.16789 x", "http://example.org", "doi:11.1/x", "https://",
     'https://a.org/"onclick=', "https://a.org/<b>", "doi:10.1/x", "data:text/html,x"],
)  # fmt: skip
def test_text_that_is_no_paper_becomes_no_address(text):
    assert paper_url(text) == ""
    with pytest.raises(ValueError, match="is not arXiv"):
        Paper(text)


def test_a_doi_is_quoted():
    old = "doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I"
    assert Paper(old).url.startswith("https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C873::")
