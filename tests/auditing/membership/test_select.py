# SPDX-License-Identifier: Apache-2.0
"""Which attacks run, and that those that cannot are named with what would switch them on."""

import pytest

from reticent.attacks.attack import ATTACKS
from reticent.auditing.membership.select import AvailableEvidence, choose, listed
from reticent.core.errors import BadInput

ALL = AvailableEvidence(reference=True, users=True, population=20, known_held_out=20, known_members=20, shadows=8)


def test_all_runs_everything_that_is_registered():
    choice = choose("all", ALL)
    assert [attack.name for attack in choice.run] == ATTACKS.names()
    assert not choice.off


def test_standard_runs_what_needs_no_further_pass_and_says_what_the_others_cost():
    choice = choose("standard", ALL)
    assert {"loss", "ez_mia", "lowercase", "user_inference"} <= {attack.name for attack in choice.run}
    assert set(choice.off) >= {"recall", "con_recall", "neighbourhood", "ngram_coverage", "rmia", "learned"}
    assert "10 more scoring pass" in choice.off["neighbourhood"]
    assert "both models write" in choice.off["ngram_coverage"]
    assert "--attacks rmia" in choice.off["rmia"]
    assert "weaker than wbc" in choice.off["learned"]
    assert "--attacks learned" in choice.off["learned"]


@pytest.mark.parametrize(
    ("missing", "off", "word"),
    [
        ({"reference": False}, {"ref_diff", "ref_ratio", "ez_mia", "wbc", "rmia", "neighbourhood"}, "--reference"),
        ({"users": False}, {"user_inference"}, "--user_field"),
        ({"population": 0}, {"rmia"}, "non-members"),
        ({"known_held_out": 0}, {"recall", "con_recall"}, "non-members"),
        ({"known_members": 0}, {"con_recall"}, "members"),
        ({"shadows": 0}, {"lira", "lira_offline", "rmia_shadow", "rmia_shadow_offline"}, "--shadow 8"),
        ({"population": 0}, {"rmia_shadow", "rmia_shadow_offline"}, "non-members"),
    ],
)
def test_what_cannot_be_had_switches_attacks_off_by_name(missing, off, word):
    have = {
        "reference": True,
        "users": True,
        "population": 20,
        "known_held_out": 20,
        "known_members": 20,
        "shadows": 8,
    } | missing
    choice = choose("all", AvailableEvidence(**have))
    assert off <= set(choice.off)
    assert all(word in choice.off[name] for name in off)
    rows = {row.name: row for row in listed(choice, {}, [])}
    assert all(not rows[name].ran and rows[name].why_not for name in off)
    assert set(rows) == set(ATTACKS.names())


def test_names_can_be_listed_and_unknown_ones_suggest_the_near_one():
    assert [attack.name for attack in choose("loss, zlib", ALL).run] == ["loss", "zlib"]
    with pytest.raises(BadInput, match="Did you mean 'min_k_plus'"):
        choose("min_k_pluss", ALL)
