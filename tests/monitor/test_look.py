# SPDX-License-Identifier: Apache-2.0
"""What a look says: planted effects are found, nothing is said where there is too little, users are clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.monitor.look import PanelPass, copied_share, finite, snapshot_of
from reticent.monitor.panel import CONTROL, NO_TIER, Panel
from reticent.stats.roc import auc


def copied_by_hand(rank: list[int], place: list[int]) -> float:
    windows = [
        all(one == 0 for one in rank[i : i + 5])
        for i in range(len(rank) - 4)
        if place[i : i + 5] == list(range(place[i], place[i] + 5))
    ]
    return sum(windows) / len(windows) if windows else float("nan")


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([1, 1, 1, 1, 1, 1, 2])), max_size=40))
def test_copied_five_grams_are_counted_as_by_hand(tokens: list[tuple[int, int]]) -> None:
    rank = [one for one, _ in tokens]
    place = np.cumsum([step for _, step in tokens]).tolist()
    found = copied_share(np.array(rank, dtype=np.int32), np.array(place, dtype=np.int64))
    assert found == pytest.approx(copied_by_hand(rank, place), nan_ok=True)


def panel(n: int = 120, *, unit: str = "user", users: int = 30) -> Panel:
    """``n`` members and ``n`` held-out records of the same users, ``n`` fresh texts of as many others."""
    owner = [f"in {i % users}" for i in range(n)]
    role = ["evaluate"] * (2 * n) + ["fresh"] * n
    return Panel(
        records=tuple(Record(id=str(i), text="x") for i in range(3 * n)),
        role=np.array(role, dtype=object),
        member=np.arange(3 * n) < n,
        user=np.array([*owner, *owner, *(f"out {i % users}" for i in range(n))], dtype=object),
        user_member=np.arange(3 * n) < 2 * n,
        tier=np.full(3 * n, NO_TIER, dtype=np.int32),
        unit=unit,
    )


def look(
    at: Panel, lower: npt.NDArray[np.float64] | float = 0.0, seed: int = 0
) -> tuple[PanelPass, npt.NDArray[np.float64]]:
    """Losses around 3 nats a token, those of the base, and by how much training lowered them (nats a token)."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(20, 60, len(at)).astype(np.int32)
    base = tokens * rng.gamma(30, 0.1, len(at))
    now = base - tokens * (lower + rng.normal(0, 0.1, len(at)))
    return PanelPass(nll=now, tokens=tokens, copied=rng.uniform(size=len(at))), base


def said(at: Panel, seen: PanelPass, base: npt.NDArray[np.float64], **more: Any) -> Any:
    return snapshot_of(at, seen, base, step=10, epoch=1.0, **more)


def test_losses_and_gap() -> None:
    at = panel()
    seen, base = look(at, np.where(at.member, 0.5, 0.0))
    found = said(at, seen, base)
    inside, outside = at.of("evaluate", member=True), at.of("evaluate", member=False)
    assert found.held_out_loss.value == pytest.approx(seen.nll[outside].sum() / seen.tokens[outside].sum())
    assert found.member_loss.value == pytest.approx(seen.nll[inside].sum() / seen.tokens[inside].sum())
    assert found.perplexity == pytest.approx(np.exp(found.held_out_loss.value))
    assert found.gap.value == pytest.approx(seen.loss[outside].mean() - seen.loss[inside].mean())
    assert found.gap.lo < 0.5 < found.gap.hi
    assert "30 users" in found.gap.method


def test_a_planted_difference_is_found_and_none_where_there_is_none() -> None:
    at = panel()
    strong = said(at, *look(at, np.where(at.member, 0.3, 0.0)))
    assert strong.tpr_at_10pct_fpr.value > 0.8
    assert strong.auc.lo > 0.9
    nothing = said(at, *look(at))
    assert "bootstrap of 30 users" in nothing.auc.method
    assert "independent" in nothing.tpr_at_10pct_fpr.method
    assert nothing.tpr_at_1pct_fpr is None
    assert any(reason.startswith("tpr@0.01: ") and "1000" in reason for reason in nothing.refused)


def test_intervals_hold_where_there_is_nothing_to_find() -> None:
    """60 data sets at 95 %: fewer than 50 hits have probability < 0.1 %."""
    at = panel()
    found = [said(at, *look(at, seed=seed)) for seed in range(60)]
    assert sum(one.auc.lo < 0.5 < one.auc.hi for one in found) >= 50
    assert sum(one.tpr_at_10pct_fpr.lo < 0.1 < one.tpr_at_10pct_fpr.hi for one in found) >= 50
    assert sum(one.gap.lo < 0 < one.gap.hi for one in found) >= 50


def test_the_score_is_per_token_for_records_and_per_text_for_users() -> None:
    at = panel()
    seen, base = look(at, np.where(at.user_member, 0.2, 0.0))
    found = said(at, seen, base)
    score = (base - seen.nll) / seen.tokens
    rows = at.role == "evaluate"
    assert found.auc.value == pytest.approx(auc(score[rows & at.member], score[rows & ~at.member]).value)
    fresh = ~at.member
    users = sorted(set(at.user[fresh]))
    mean = {one: (base - seen.nll)[fresh & (at.user == one)].mean() for one in users}
    by_hand = auc([mean[one] for one in users if one[:2] == "in"], [mean[one] for one in users if one[:2] == "ou"])
    assert found.user_auc.value == pytest.approx(by_hand.value)
    assert found.user_auc.n == 60


def test_before_training_there_is_no_difference_to_speak_of() -> None:
    at = panel()
    seen, _ = look(at)
    found = said(at, seen, seen.nll)
    assert (found.tpr_at_10pct_fpr, found.auc, found.tpr_at_1pct_fpr, found.user_auc) == (None, None, None, None)
    assert found.refused == ()
    assert found.copied is not None


def test_too_few_users_or_held_out_records_are_refused_with_the_reason() -> None:
    at = panel(30, users=5)
    found = said(at, *look(at))
    assert found.user_auc is None
    assert found.tpr_at_10pct_fpr is None
    assert {reason.split(":")[0] for reason in found.refused} == {"tpr@0.1", "tpr@0.01", "user_auc"}
    assert "records" in found.gap.method  # too few users to be the units of an interval


def test_coins_for_records_say_nothing_of_users() -> None:
    at = panel(unit="record")
    assert said(at, *look(at)).user_auc is None


def test_given_membership_shows_one_text_of_each_user() -> None:
    at = panel(unit="given")
    at = Panel(**{**vars(at), "role": np.full(len(at), "evaluate", dtype=object)})
    seen, base = look(at)
    first = {user: row for row, user in reversed(list(enumerate(at.user))) if not at.member[row]}
    score = base - seen.nll
    sides = [[score[row] for user, row in first.items() if user.startswith(side)] for side in ("in", "out")]
    assert said(at, seen, base).user_auc.value == pytest.approx(auc(*sides).value)


def test_exposure_by_tier_among_controls() -> None:
    at = panel(20)
    tiers = [CONTROL] * 200 + [0] * 10 + [1] * 10 + [4] * 10
    secrets = Panel(
        records=(*at.records, *(Record(id=f"c{i}", text="x") for i in range(230))),
        role=np.concatenate([at.role, np.full(230, "canary", dtype=object)]),
        member=np.concatenate([at.member, np.array(tiers) > 0]),
        user=np.concatenate([at.user, np.full(230, None, dtype=object)]),
        user_member=np.concatenate([at.user_member, np.array(tiers) > 0]),
        tier=np.concatenate([at.tier, np.array(tiers, dtype=np.int32)]),
        unit="user",
    )
    seen, base = look(secrets, np.where(secrets.tier == 4, 2.5, 0.0))
    found = said(secrets, seen, base).exposure
    assert list(found) == ["not planted (control)", "planted once", "planted 4 times"]
    assert found["planted 4 times"].value > 6
    assert found["not planted (control)"].lo < 1 < found["not planted (control)"].hi


def test_texts_too_short_for_a_five_gram_are_left_out_of_copied() -> None:
    at = panel()
    seen, base = look(at)
    half = np.where(np.arange(len(at)) % 2 == 0, np.nan, seen.copied)
    found = said(at, PanelPass(nll=seen.nll, tokens=seen.tokens, copied=half), base)
    assert found.copied.n == 120
    none = said(at, PanelPass(nll=seen.nll, tokens=seen.tokens, copied=np.full(len(at), np.nan)), base)
    assert none.copied is None
    assert any(reason.startswith("copied: ") for reason in none.refused)


def test_a_loss_that_is_no_number_is_refused() -> None:
    seen = PanelPass(nll=np.array([1.0, np.nan]), tokens=np.array([1, 1], dtype=np.int32), copied=np.zeros(2))
    with pytest.raises(BadInput, match="step 7"):
        finite(seen, 7)
