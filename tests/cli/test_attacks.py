# SPDX-License-Identifier: Apache-2.0
"""`reticent attacks` lists every attack of every kind, and shows any of them."""

from __future__ import annotations

import re

import pytest

from reticent.attacks import ATTACKS
from reticent.attacks.evidence import UNITS
from reticent.cli.main import main


def test_all_attacks_are_listed_by_unit(capsys):
    assert main(["attacks"]) == 0
    page = capsys.readouterr().out
    for unit in UNITS:
        attacks = ATTACKS.select(unit=unit)
        assert re.search(rf"^{unit.upper()}S .*: {len(attacks)}$", page, re.MULTILINE)
    names = re.findall(r"^([a-z_0-9]+)(?:\(.*\))?  gives", page, re.MULTILINE)
    assert sorted(names) == ATTACKS.names()
    assert "min_k(k=0.2)  gives a score; sees logprob; arXiv:2310.16789" in page
    assert "in audits with --extraction" in page
    assert "only by name or with --attacks all: needs 10 more scoring pass(es)" in page
    assert all(len(line) <= 120 for line in page.splitlines())


@pytest.mark.parametrize("name", ATTACKS.names())
def test_one_attack_is_shown_whole(name, capsys):
    assert main(["attacks", name]) == 0
    page = capsys.readouterr().out
    attack = ATTACKS.get(name)
    assert attack.paper.url in page
    assert all(f"{parameter.name}: {parameter.words}; default" in page for parameter in attack.parameters.values())
    assert all(f"    {evidence}: " in page for evidence in attack.evidence)


def test_an_unknown_attack_is_refused(capsys):
    assert main(["attacks", "min_kk"]) == 2
    assert "Did you mean 'min_k'" in capsys.readouterr().err
