# SPDX-License-Identifier: Apache-2.0
"""The attacks that run, and that those that cannot are named with what would switch them on."""

import pytest

from reticent.attacks.attack import ATTACKS
from reticent.auditing.membership.choose_attacks import AvailableEvidence, asked_for, choose, listed, standard
from reticent.core.errors import BadInput

MEMBERS = [attack.name for attack in ATTACKS.select(family="membership")]
ALL = AvailableEvidence(reference=True, users=True, population=20, known_held_out=20, known_members=20, shadows=8)


def test_all_runs_everything_that_is_registered_and_lacks_no_file():
    choice = choose("all", ALL)
    assert [attack.name for attack in choice.run] == [name for name in MEMBERS if name != "transferred"]
    assert set(choice.off) == {"transferred"}


def test_an_attack_without_its_file_says_what_it_lacks_and_runs_with_it(tmp_path):
    lacks = 'no coefficients given; --attacks "transferred(coefficients=FILE)"'
    assert [choose(asked, ALL).off["transferred"] for asked in ("standard", "all", "transferred")] == [lacks] * 3
    (tmp_path / "c.json").write_text("{}")
    choice = choose(f"loss,transferred(coefficients={tmp_path}/c.json)", ALL)
    assert [attack.name for attack in choice.run] == ["loss", "transferred"]
    with pytest.raises(BadInput, match="must be a file of coefficients or none"):
        choose(f"transferred(coefficients={tmp_path})", ALL)


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
    assert set(rows) == set(MEMBERS)


def test_names_can_be_listed_and_unknown_ones_suggest_the_near_one():
    assert [attack.name for attack in choose("loss, zlib", ALL).run] == ["loss", "zlib"]
    with pytest.raises(BadInput, match="Did you mean 'min_k_plus'"):
        choose("min_k_pluss", ALL)


def test_parameters_are_set_and_stand_in_the_table_of_attacks():
    choice = choose("standard,min_k(k=0.1),wbc(windows=[2,3]),rmia(a=1),near_verbatim(off_by=0.2)", ALL)
    ran = {attack.name: attack.params for attack in choice.run}
    assert ran["min_k"] == {"k": 0.1}
    assert {"loss", "rmia"} <= set(ran)
    rows = {row.name: row for row in listed(choice, {}, [])}
    assert rows["min_k"].params == {"k": 0.1}
    assert rows["min_k"].summary.endswith("With k = 0.1 in place of 0.2.")
    assert rows["wbc"].params == {"windows": [2, 3]}
    assert rows["min_k_plus"].params == {"k": 0.2}
    assert (rows["near_verbatim"].params, rows["near_verbatim"].level) == ({"off_by": 0.2}, "secret")
    assert set(rows) == {*MEMBERS, "near_verbatim"}


def test_an_attack_that_is_off_shows_what_was_set():
    choice = choose("rmia(a=1)", AvailableEvidence(reference=False, users=False, population=0, known_held_out=0,
                                                   known_members=0))  # fmt: skip
    row = next(row for row in listed(choice, {}, []) if row.name == "rmia")
    assert (row.ran, row.params["a"]) == (False, 1.0)


def test_attacks_of_other_families_leave_membership_at_the_standard():
    assert asked_for("near_verbatim(off_by=0.2)") == standard()
    assert asked_for("near_verbatim,loss") == {"loss"}
    assert asked_for("combination") == standard()
