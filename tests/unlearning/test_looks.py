# SPDX-License-Identifier: Apache-2.0
"""Looks at an unlearning are enough where nothing tells forgotten from unseen rows, and not before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reticent.core.finding import Estimate
from reticent.unlearning.looks import Look, LookPlan, PanelNumbers, in_band, look_at, nearest_in_budget

PLAN = LookPlan(margin=0.15, budget=0.02, looks=5)


def numbers(shift: float, *, retain: float = 3.0, seed: int = 0, n: int = 200) -> PanelNumbers:
    """Forgotten rows whose loss is lower than that of unseen ones by ``shift``."""
    rng = np.random.default_rng(seed)
    side = np.array(["forget"] * n + ["unseen"] * n + ["retain"] * 50, dtype=object)
    loss = rng.normal(3, 0.5, len(side)) - shift * (side == "forget")
    loss[side == "retain"] = retain + rng.normal(0, 0.01, 50)
    tokens = np.full(len(side), 20.0)
    return PanelNumbers(
        scores={"loss": -loss, "other": -loss + rng.normal(0, 0.1, len(side))},
        nll=loss * tokens,
        tokens=tokens,
        side=side,
        user=np.full(len(side), None, dtype=object),
    )


FIRST = look_at(numbers(0.0), PLAN, step=0, first=None)
MEMORIZED = look_at(numbers(1.0, retain=0.1), PLAN, step=0, first=None)


@pytest.mark.parametrize(
    ("shift", "like_unseen", "band"),
    [(0.0, True, True), (1.0, False, False), (-1.0, True, False)],
    ids=["as unseen", "still known", "crossed and too unlikely"],
)
def test_the_three_conditions(shift: float, like_unseen: bool, band: bool) -> None:
    look = look_at(numbers(shift), PLAN, step=4, first=FIRST)
    assert (look.like_unseen, look.in_band, look.in_budget) == (like_unseen, band, True)
    assert look.is_enough == (like_unseen and band)


def test_the_budget() -> None:
    assert look_at(numbers(0.0, retain=3.05), PLAN, step=1, first=FIRST).in_budget
    assert not look_at(numbers(0.0, retain=3.07), PLAN, step=1, first=FIRST).in_budget
    assert look_at(numbers(0.0, retain=9.0), PLAN, step=0, first=None).in_budget
    # Of what unseen rows cost, also where the rows that are kept cost next to nothing.
    assert look_at(numbers(0.0, retain=0.15), PLAN, step=1, first=MEMORIZED).in_budget
    assert not look_at(numbers(0.0, retain=0.17), PLAN, step=1, first=MEMORIZED).in_budget


def test_the_band_holds_rows_drawn_from_the_unseen_ones() -> None:
    """Stated for 95 % of draws of unseen rows; the unseen rows are themselves a sample, so somewhat fewer."""
    rng = np.random.default_rng(1)
    held = [in_band(rng.normal(3, 1, 40), rng.normal(3, 1, 400), seed=draw) for draw in range(200)]
    assert 0.88 <= np.mean(held) <= 0.99
    # Quartiles too: the same mean with another spread is not like unseen.
    assert not in_band(rng.normal(3, 0.1, 60), rng.normal(3, 1, 200))


def test_too_few_rows_end_by_the_mean_of_the_attacks() -> None:
    few = LookPlan(margin=0.49, enough=False, budget=0.02, looks=5)
    known, crossed = numbers(1.0, n=5), numbers(-0.3, n=5)
    assert not look_at(known, few, step=4, first=FIRST).like_unseen
    look = look_at(crossed, few, step=4, first=FIRST)
    assert look.like_unseen == (np.mean([auc.value for auc in look.aucs.values()]) <= 0.5)
    assert look.like_unseen


def look(step: int, *, in_budget: bool = True, auc: float = 0.9, loss: float = 1.0, like: bool = False) -> Look:
    """A look of two attacks, outside the band."""
    retain = Estimate(value=3.0, lo=2.9, hi=3.1, n=9, method="")
    aucs = {name: Estimate(value=auc, lo=auc - 0.1, hi=auc + 0.1, n=9, method="") for name in ("loss", "other")}
    return Look(
        step=step,
        aucs=aucs,
        forget_loss=loss,
        unseen_loss=2.0,
        retain_loss=retain,
        like_unseen=like,
        in_band=False,
        in_budget=in_budget,
    )


def test_the_step_that_is_kept() -> None:
    first = look(0)
    assert nearest_in_budget([first]) == 0
    assert nearest_in_budget([first, look(3, in_budget=False)]) == 0
    assert nearest_in_budget([first, look(3), look(6)]) == 6
    assert nearest_in_budget([first, look(3), look(6, in_budget=False)]) == 3
    # What comes back into the budget later does not count: the budget broke before.
    assert nearest_in_budget([first, look(3, in_budget=False), look(6)]) == 0
    # Beyond the aim: the nearer of two sides.
    assert nearest_in_budget([first, look(3, auc=0.8), look(6, auc=0.55), look(9, auc=0.2)]) == 6
    assert nearest_in_budget([first, look(3, auc=0.8), look(6, auc=0.7), look(9, auc=0.45)]) == 9
    # One that is enough is kept even where another lies nearer by AUC alone.
    enough = replace(look(6, auc=0.47, like=True), in_band=True)
    assert nearest_in_budget([first, look(3, auc=0.51), enough]) == 6


def test_an_aim_that_was_passed_ends_it() -> None:
    assert look(6, auc=0.4, like=True, loss=2.5).is_past
    assert not look(6, auc=0.4, like=True, loss=1.5).is_past  # below the band: still likelier than unseen texts
    assert not look(6, auc=0.9, loss=2.5).is_past  # an attack still knows them
    assert not replace(look(6, auc=0.5, like=True, loss=2.5), in_band=True).is_past
    passed = look_at(numbers(-0.8), PLAN, step=4, first=FIRST)
    assert passed.is_past
    assert not passed.is_enough
    assert not look_at(numbers(0.0), PLAN, step=4, first=FIRST).is_past
    assert not look_at(numbers(1.0), PLAN, step=4, first=FIRST).is_past


def test_a_look_pays_for_all_looks() -> None:
    one = look_at(numbers(0.0), LookPlan(margin=0.15, budget=0.02, looks=1), step=1, first=FIRST)
    many = look_at(numbers(0.0), LookPlan(margin=0.15, budget=0.02, looks=20), step=1, first=FIRST)
    assert many.aucs["loss"].hi - many.aucs["loss"].lo > one.aucs["loss"].hi - one.aucs["loss"].lo
