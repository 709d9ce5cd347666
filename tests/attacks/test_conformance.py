# SPDX-License-Identifier: Apache-2.0
"""Every registered attack keeps to the rules, and the rules catch attacks that do not."""

from dataclasses import replace

import numpy as np
import pytest

from reticent.attacks.attack import ATTACKS
from reticent.core.errors import BadInput
from reticent.testing.conformance import check_attack
from reticent.testing.planted import plant
from reticent.testing.planted_leaks import planted_evidence, planted_leak


@pytest.mark.parametrize("name", ATTACKS.names())
def test_conformance(name):
    check_attack(name)


@pytest.mark.parametrize("name", [attack.name for attack in ATTACKS if attack.parameters])
def test_every_number_that_can_be_set_has_a_range(name):
    for parameter in ATTACKS.get(name).parameters.values():
        assert not isinstance(parameter.default, float) or " in " in parameter.words, f"{name}: {parameter.name}"
        assert parameter.read(name, parameter.default) == parameter.default


def flipped(table, ref):
    """Sum.

    higher = held out
    """
    return ref.mean(ref["logp"]) - table.mean(table["logp"])


def silent(table, ref):
    """Sum."""
    return table.mean(table["logp"])


def greedy(table, ref):
    """Sum.

    higher = member
    """
    table["logp"][:] *= 2
    return table.mean(table["logp"])


def sociable(table, ref):
    """Sum.

    higher = member
    """
    scores = table.mean(table["logp"]) - ref.mean(ref["logp"])
    return scores - scores.mean()


def restless(table, ref):
    """Sum.

    higher = member
    """
    return table.mean(table["logp"]) + np.random.default_rng().normal(size=len(table))


def unbounded(table, ref):
    """Sum.

    higher = member
    """
    with np.errstate(divide="ignore"):
        return np.where(table.lengths < 20, np.inf, table.mean(table["logp"]))


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (flipped, "sign"),
        (silent, "direction|higher"),
        (greedy, "second call|writes into"),
        (sociable, "not row-wise"),
        (restless, "second call"),
        (unbounded, "not finite"),
    ],
)
def test_offenders_are_caught(function, complaint):
    offender = replace(ATTACKS.get("ref_diff"), name="offender", function=function, summary="Sum.")
    with pytest.raises(AssertionError, match=complaint):
        check_attack(offender)


def hits_flipped(forced):
    """Share.

    Returns ``[N]``.
    """
    return (forced.sum(forced.rank != 0) > 0).astype(float)


def hits_silent(forced):
    """Share."""
    return (forced.sum(forced.rank != 0) == 0).astype(float)


def hits_greedy(forced):
    """Share.

    Returns ``[N]``.
    """
    out = (forced.sum(forced.rank != 0) == 0).astype(float)
    forced.rank[:] += 1
    return out


def ranks_flipped(ranked):
    """Rank.

    Returns ``[N]``.
    """
    return np.array([float((row <= row[true]).sum()) for row, true in zip(ranked.logp, ranked.truth, strict=True)])


@pytest.mark.parametrize(
    ("like", "function", "complaint"),
    [
        ("discoverable", hits_flipped, "finds 0.00 of what is known"),
        ("discoverable", hits_silent, "returned"),
        ("discoverable", hits_greedy, "second call|writes into"),
        ("pii_inference", ranks_flipped, "finds 0.00 of what is known"),
    ],
)
def test_offenders_on_secrets_are_caught(like, function, complaint):
    offender = replace(ATTACKS.get(like), name="offender", function=function, summary="Share.")
    with pytest.raises(AssertionError, match=complaint):
        check_attack(offender)


@pytest.mark.parametrize(
    "bad", [np.full(40, 0.5), np.full(40, np.nan), np.zeros((40, 1)), np.full(40, 2.0), np.ones(3)]
)
def test_numbers_that_are_no_hits_are_refused(bad):
    offender = replace(ATTACKS.get("discoverable"), function=lambda forced: bad)
    with pytest.raises(BadInput, match="discoverable"):
        offender.score(planted_evidence(known=True))


def test_ranks_begin_at_one_and_generations_may_be_thrown_away():
    attack = replace(ATTACKS.get("pii_inference"), function=lambda ranked: np.zeros(40))
    with pytest.raises(BadInput, match="no rank"):
        attack.score({"ranked": planted_leak("ranked", known=True)})
    thrown = replace(ATTACKS.get("untargeted"), function=lambda free_generations, **_: np.full(40, np.nan))
    assert np.isnan(thrown.score(planted_evidence(known=True))).all()


def test_evidence_that_was_not_made_cannot_be_run_on():
    attack = ATTACKS.get("longest_common_substring")
    assert attack.can_run(planted_evidence(known=True))
    assert not attack.can_run(replace(planted_evidence(known=True), sampled=None))
    assert not ATTACKS.get("prompt_prefix").can_run(replace(planted_evidence(known=True), prompted={}))
    identifiers = ATTACKS.get("natural_identifiers")
    assert identifiers.can_run({"controlled": planted_leak("controlled", known=True)})
    assert identifiers.score({"controlled": planted_leak("controlled", known=True)}).max() == 1


def test_nothing_planted_nothing_found():
    attack = ATTACKS.get("ref_diff")
    planted = plant(attack, records=2000, gain=0.0)
    scores = attack.score({name: table.trained() for name, table in planted.tables.items()})
    difference = scores[planted.member][:, None] - scores[~planted.member]
    assert 0.45 < (difference > 0).mean() < 0.55


def test_planted_tables_can_be_written(tmp_path):
    for name in ("con_recall", "neighbourhood", "rmia"):
        for key, table in plant(ATTACKS.get(name), records=20).tables.items():
            table.write(tmp_path / f"{name}.{key}.parquet")
