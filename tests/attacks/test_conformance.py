# SPDX-License-Identifier: Apache-2.0
"""Every registered attack keeps to the rules, and the rules catch attacks that do not."""

from dataclasses import replace

import numpy as np
import pytest

from reticent.attacks.attack import ATTACKS
from reticent.testing.conformance import check_attack
from reticent.testing.planted import plant


@pytest.mark.parametrize("name", ATTACKS.names())
def test_conformance(name):
    check_attack(name)


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
