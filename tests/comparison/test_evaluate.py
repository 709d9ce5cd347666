# SPDX-License-Identifier: Apache-2.0
"""What is concluded from looks whose truth is known: losses and leakage are drawn, nothing is trained."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reticent.comparison.bootstrap import make_resamples, measure
from reticent.comparison.defences import DEFENCES
from reticent.comparison.evaluate import FinishedTrial, evaluate
from reticent.comparison.grid import Grid, Method, Trial
from reticent.comparison.snapshots import Snapshots, common_held_out
from reticent.comparison.trial import TrialOutcome
from reticent.core.comparison import Comparison
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.snapshot import Snapshot, TrainingHistory
from reticent.stats.clustered import auc_clustered
from reticent.stats.roc import tpr_at_fpr

N = 400
BASE = np.random.default_rng(7).normal(3.5, 0.5, N)
MEMBER = np.arange(N) % 2 == 0
FULL = Method(method="full", learning_rates=(1e-4, 3e-4))
HEAD = Method(method="head", learning_rates=(1e-4, 3e-4))


def moment(step: int) -> Snapshot:
    nothing = Estimate(value=0.0, lo=0.0, hi=0.0, n=1, method="")
    return Snapshot(step=step, epoch=step / 10, held_out_loss=nothing, member_loss=nothing, gap=nothing,
                  tpr_at_10pct_fpr=None, auc=None, phase="fitting" if step else "start")  # fmt: skip


def looks(seed: int, leak: float, gains: tuple[float, ...] = (0.2, 0.5), users: int = 0) -> Snapshots:
    """Held-out texts gain ``gains`` nats a token at each look, members ``leak`` times the gain more."""
    rng = np.random.default_rng(seed)
    tokens = np.full(N, 50.0)
    loss = [BASE]
    for gain in gains:
        loss.append(BASE - gain - leak * gain * MEMBER + rng.normal(0, 0.1, N))
    user = np.array([f"user {i // 4 % users}" if users else None for i in range(N)], dtype=object)
    return Snapshots(
        watch=TrainingHistory(moments=tuple(moment(10 * i) for i in range(len(loss))), members=N // 2, held_out=N // 2,
                    users=users, training_seconds=60.0, watching_seconds=5.0),
        step=np.arange(len(loss)) * 10, epoch=np.arange(len(loss)) * 1.0,
        record_id=np.array([f"r{i}" for i in range(N)], dtype=object), user=user, member=MEMBER,
        user_member=MEMBER, role=np.full(N, "evaluate", dtype=object), nll=np.array(loss) * tokens,
        base_nll=BASE * tokens, tokens=tokens, by_user=False,
    )  # fmt: skip


def outcome_of(cell: Trial, status: str = "done") -> TrialOutcome:
    return TrialOutcome(
        key=cell.name, status=status, why="" if status == "done" else "it did not", trained_parameters=1000
    )


def compared(grid: Grid, leak: dict[str, float], gains: tuple[float, ...] = (0.2, 0.5)) -> Comparison:
    trained = []
    for i, cell in enumerate(grid.cells):
        scale = 1.0 if cell.learning_rate > 2e-4 else 0.7
        own = looks(i, leak[cell.method.method], tuple(scale * gain for gain in gains))
        trained.append(FinishedTrial(cell=cell, outcome=outcome_of(cell), folder=Path("nowhere"), looks=own))
    return evaluate(grid, trained, title="t", provenance={}, n_boot=200)


@pytest.mark.parametrize("users", [0, 25])
def test_a_look_is_measured_as_the_statistics_of_an_audit_do(users: int) -> None:
    one = looks(0, 0.3, users=users)
    resamples = make_resamples([one], n_boot=20)
    found = measure(one, 2, resamples)
    gain = one.gain[2]
    cluster = one.user if users else one.record_id
    area = auc_clustered(gain[MEMBER], gain[~MEMBER], cluster[MEMBER].astype(str), cluster[~MEMBER].astype(str))
    assert found.auc[0] == pytest.approx(area.value)
    assert found.tpr_at_10pct_fpr is not None
    assert found.tpr_at_10pct_fpr[0] == pytest.approx(tpr_at_fpr(gain[MEMBER], gain[~MEMBER], 0.1).value)
    assert found.loss[0] == pytest.approx(one.nll[2][~MEMBER].sum() / one.tokens[~MEMBER].sum())
    assert resamples.by_user == bool(users)
    assert measure(one, 0, resamples).auc[0] == 0.5


def test_utility_is_measured_on_what_no_training_saw() -> None:
    first, second = looks(0, 0.3), looks(1, 0.3)
    other = replace(second, member=np.arange(N) % 4 == 0)
    assert common_held_out([first, other]) == {f"r{i}" for i in range(N) if i % 2}


def test_a_method_that_leaks_more_at_the_same_loss_is_said_to() -> None:
    grid = Grid(methods=(FULL, HEAD, replace(FULL, method="lora")))
    found = compared(grid, {"full": 0.05, "head": 0.6, "lora": 0.05})
    assert found.headline == "At the same held-out loss, head leaks most."
    by_names = {(pair.a, pair.b): pair for pair in found.pairs}
    assert by_names[0, 1].less == 0
    assert by_names[1, 2].less == 2
    assert by_names[0, 2].less is None
    assert "covers 0" in by_names[0, 2].why_not
    auc = by_names[0, 1].auc
    assert auc is not None
    assert auc.joint == 0.95
    assert auc.confidence == pytest.approx(1 - 0.05 / 3)
    assert any("full leaks less than head at perplexity" in sentence for sentence in found.sentences)


def test_matched_utility_is_read_off_between_looks() -> None:
    """Full gains 0.2 and 0.5, head 0.1 and 0.35: head's best loss lies between full's looks."""
    grid = Grid(methods=(replace(FULL, learning_rates=(3e-4,)), replace(HEAD, learning_rates=(3e-4,))))
    trained = [
        FinishedTrial(cell=cell, outcome=outcome_of(cell), folder=Path("nowhere"),
                looks=looks(i, 0.3, (0.2, 0.5) if cell.method.method == "full" else (0.1, 0.35)))
        for i, cell in enumerate(grid.cells)
    ]  # fmt: skip
    found = evaluate(grid, trained, title="t", provenance={}, n_boot=200)
    full, head = found.settings
    assert full.matched is not None
    assert head.matched is not None
    own = [point for point in found.points if point.setting == 0 and point.step]
    weight = (own[0].loss.value - head.matched.loss) / (own[0].loss.value - own[1].loss.value)
    assert full.matched.auc.value == pytest.approx((1 - weight) * own[0].auc.value + weight * own[1].auc.value)
    assert full.matched.between == ((3e-4, 20), (3e-4, 10))
    assert head.matched.between == ((3e-4, 20), (3e-4, 20))
    assert head.matched.auc.value == pytest.approx(found.points[head.best or 0].auc.value)


def test_a_curve_that_begins_behind_the_loss_is_refused() -> None:
    """Full's first look gains 0.2, head never more than 0.1: there is nothing of full to compare with."""
    grid = Grid(methods=(replace(FULL, learning_rates=(3e-4,)), replace(HEAD, learning_rates=(3e-4,))))
    trained = [
        FinishedTrial(cell=cell, outcome=outcome_of(cell), folder=Path("nowhere"),
                looks=looks(i, 0.3, (0.2, 0.5) if cell.method.method == "full" else (0.05, 0.1)))
        for i, cell in enumerate(grid.cells)
    ]  # fmt: skip
    found = evaluate(grid, trained, title="t", provenance={}, n_boot=100)
    assert found.settings[0].matched is None
    assert "look more often" in found.settings[0].why_not
    assert found.settings[1].matched is not None
    (pair,) = found.pairs
    assert pair.auc is None
    assert "first look at full" in pair.why_not


@pytest.mark.parametrize(
    ("grid", "why"),
    [
        (Grid(methods=(replace(FULL, learning_rates=(3e-4,)), HEAD)), "only one learning rate of full"),
        (Grid(methods=(FULL, HEAD), seeds=(0,)), "one seed of full and head"),
    ],
)
def test_no_ranking_on_one_learning_rate_or_one_seed(grid: Grid, why: str) -> None:
    found = compared(grid, {"full": 0.05, "head": 0.9})
    (pair,) = found.pairs
    assert pair.less is None
    assert why in pair.why_not
    assert found.headline == "At the same held-out loss, no setting can be said to leak less than another."


def test_what_learned_nothing_is_not_ranked() -> None:
    grid = Grid(methods=(FULL, HEAD))
    trained = [
        FinishedTrial(cell=cell, outcome=outcome_of(cell), folder=Path("nowhere"),
                looks=looks(i, 0.3, (0.2, 0.5) if cell.method.method == "full" else (-0.2, -0.1)))
        for i, cell in enumerate(grid.cells)
    ]  # fmt: skip
    found = evaluate(grid, trained, title="t", provenance={}, n_boot=100)
    assert "never clearly below" in found.settings[1].why_not
    assert "head did not learn" in found.pairs[0].why_not


def test_lost_cells_are_rows_and_their_learning_rate_is_left_out() -> None:
    grid = Grid(methods=(FULL, HEAD))
    trained = [
        FinishedTrial(cell=cell, outcome=outcome_of(cell), folder=Path("nowhere"), looks=looks(i, 0.3))
        for i, cell in enumerate(grid.cells)
    ]
    trained[0] = replace(trained[0], outcome=outcome_of(grid.cells[0], "diverged"), looks=None)
    found = evaluate(grid, trained, title="t", provenance={}, n_boot=50)
    assert found.settings[0].learning_rates == (3e-4,)
    assert any("0.0001 is left out: 1 of 2 seeds" in note for note in found.settings[0].notes)
    assert found.cells[0].status == "diverged"
    lost = [replace(one, outcome=None, looks=None) for one in trained]
    with pytest.raises(BadInput, match="none of 8 trainings"):
        evaluate(grid, lost, title="t", provenance={})


def test_defences_are_compared_with_none_and_need_no_sweep() -> None:
    grid = Grid(
        methods=(replace(FULL, learning_rates=(3e-4,)),),
        defences=tuple(DEFENCES[name] for name in ("none", "goldfish", "cap2")),
    )
    trained = []
    for i, cell in enumerate(grid.cells):
        leak = 0.05 if cell.defence.name == "cap2" else 0.6
        trained.append(FinishedTrial(cell=cell, outcome=outcome_of(cell), folder=Path("nowhere"), looks=looks(i, leak)))
    found = evaluate(grid, trained, title="t", provenance={}, n_boot=200)
    assert [(pair.a, pair.b, pair.kind) for pair in found.pairs] == [(0, 1, "defence"), (0, 2, "defence")]
    assert [pair.less for pair in found.pairs] == [None, 2]


def test_methods_that_do_not_differ_are_seldom_ranked() -> None:
    """20 comparisons of two methods whose looks come from one distribution: a ranking has at most 5 % chance, more than
    4 of them would come up once in 400 runs."""
    ranked = 0
    for trial in range(20):
        grid = Grid(methods=(FULL, HEAD))
        trained = [
            FinishedTrial(cell=cell, outcome=outcome_of(cell), folder=Path("nowhere"),
                    looks=looks(100 * trial + i, 0.3, (0.2 * s, 0.5 * s)))
            for i, cell in enumerate(grid.cells) for s in [1.0 if cell.learning_rate > 2e-4 else 0.7]
        ]  # fmt: skip
        found = evaluate(grid, trained, title="t", provenance={}, n_boot=100)
        ranked += found.pairs[0].less is not None
    assert ranked <= 4


def test_generalization_and_leakage_rise_together() -> None:
    grid = Grid(methods=(FULL, HEAD))
    trained = [
        FinishedTrial(cell=cell, outcome=outcome_of(cell), folder=Path("nowhere"), looks=looks(i, 0.1 * i))
        for i, cell in enumerate(grid.cells)
    ]
    (one,) = evaluate(grid, trained, title="t", provenance={}, n_boot=100).associations
    assert one.points == 8
    assert one.rho.value > 0.9
    assert -1 <= one.rho.lo <= one.rho.value <= one.rho.hi <= 1


def test_losses_of_thirds_and_the_gap_of_gains() -> None:
    found = compared(Grid(methods=(FULL, HEAD)), {"full": 0.3, "head": 0.3})
    fair = found.settings[0].fairness
    assert fair is not None
    assert fair.kl is None
    assert fair.users is None
    assert abs(fair.records.value) < 0.05
    values = [one.value for one in fair.losses]
    assert values == sorted(values)
    held_out = np.sort(BASE[~MEMBER])[: N // 6]
    assert values[0] == pytest.approx(held_out.mean() - 0.5, abs=0.05)
    assert math.isclose(found.base_loss.value, BASE[~MEMBER].mean())
