# SPDX-License-Identifier: Apache-2.0
"""A departure counts where retrained models do not show it too."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from reticent.stats.equivalence import Likeness, equivalence
from reticent.stats.shared_departure import without_shared_departures

FORGET = np.arange(600) < 300


@lru_cache(maxsize=512)
def model(shift: float, seed: int, rows: int = 0) -> Likeness:
    """A model by which forget rows look like members by ``shift`` standard deviations."""
    base = np.random.default_rng([rows, 1]).normal(size=600)
    noise = 0.2 * np.random.default_rng([rows, 2, seed]).normal(size=(2, 600))
    scores = {name: base + shift * FORGET + noise[place] for place, name in enumerate(("loss", "other"))}
    return equivalence(scores, FORGET, margin=0.1, seed=seed)


@pytest.mark.parametrize(
    ("unlearned", "retrained", "verdict"),
    [
        (-0.5, -0.5, "too few to tell"),
        (0.5, 0.5, "too few to tell"),
        (-2.0, -0.5, "marked by its absence"),
        (2.0, 0.5, "still known"),
        (0.5, -0.5, "still known"),
        (-0.5, 0.0, "marked by its absence"),
        (0.0, 0.0, "like unseen"),
    ],
)
def test_departures(unlearned: float, retrained: float, verdict: str) -> None:
    others = [model(retrained, seed) for seed in range(1, 6)]
    assert without_shared_departures(model(unlearned, 0), others).verdict == verdict


def likeness_at(aucs: tuple[float, float]) -> Likeness:
    """A likeness with these AUCs, whose intervals all lie below 0.5."""
    like = model(-0.5, 0)
    rows = tuple(
        replace(row, auc=replace(row.auc, value=auc, lo=auc - 0.1, hi=0.49))
        for row, auc in zip(like.attacks, aucs, strict=True)
    )
    return replace(like, attacks=rows)


def test_a_model_that_is_one_of_the_retrained_is_rarely_said_to_depart() -> None:
    """Stated: at most 2.5 % on this side where the groups differ by themselves. Of 1,000 draws, more than 40 have a
    chance below 1 in 400."""
    rng = np.random.default_rng(0)
    departed = 0
    for _ in range(1000):
        like = [likeness_at(tuple(0.36 + 0.015 * rng.normal(size=2))) for _ in range(6)]
        departed += without_shared_departures(like[0], like[1:]).verdict == "marked by its absence"
    assert departed <= 40


def test_the_other_side_of_the_interval_is_no_shared_departure_to_keep() -> None:
    """A model that is less marked than the retrained ones is not marked by what was unlearned."""
    others = [model(-1.0, seed) for seed in range(1, 6)]
    assert without_shared_departures(model(-0.5, 0), others).verdict == "too few to tell"


def test_few_retrained_models_or_copies_of_one_take_nothing_away() -> None:
    known = model(0.5, 0)
    assert without_shared_departures(known, [model(0.5, 1), model(0.5, 2)]) is known
    assert without_shared_departures(known, [known] * 5) is known


def test_an_attack_that_departs_alone_is_named() -> None:
    others = [model(-0.5, seed) for seed in range(1, 6)]
    rows = np.random.default_rng([0, 1]).normal(size=600)
    scores = {
        "loss": rows - 2.5 * FORGET,
        "other": rows - 0.5 * FORGET + 0.2 * np.random.default_rng(9).normal(size=600),
    }
    held = without_shared_departures(equivalence(scores, FORGET, margin=0.1), others)
    assert held.verdict == "marked by its absence"
    assert held.reason.startswith("By loss the AUC lies beyond those of retrained models.")
    assert [row.verdict for row in held.attacks] == ["marked by its absence", "too few to tell"]
