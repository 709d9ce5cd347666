# SPDX-License-Identifier: Apache-2.0
"""A realistic Comparison for tests and for looking at the page: curves follow simple formulas, noise is seeded."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from reticent.core.comparison import (
    Association,
    Comparison,
    Fairness,
    MatchedUtility,
    Point,
    Setting,
    SettingPair,
    TrialRow,
)
from reticent.core.composed_epsilon import ComposedEpsilon
from reticent.core.finding import Estimate
from reticent.stats.pareto import frontier

METHODS = (  # name, params, millions, rates, how fast it learns, floor of the loss, how fast it leaks
    ("full", {}, 134.5, (2e-5, 5e-5, 1e-4), 1.0, 2.95, 0.9),
    ("head", {}, 28.3, (1e-4, 3e-4, 8e-4), 0.7, 3.20, 1.6),
    ("adapter", {"reduction_factor": 16}, 1.3, (5e-4, 1e-3, 2e-3), 0.9, 3.02, 0.6),
    ("adapter", {"reduction_factor": 2}, 10.0, (2e-4, 5e-4, 1e-3), 0.9, 3.00, 0.8),
    ("lora", {}, 4.9, (2e-4, 5e-4, 1e-3), 1.0, 2.97, 0.75),
)
BASE, EPOCHS, SEEDS = 3.6, 6, 2


def estimate(value: float, half: float, n: int = 512, **more: object) -> Estimate:
    method = "bootstrap and Student t over records and seeds"
    return Estimate(value=value, lo=value - half, hi=value + half, n=n, method=method, **more)


def share(value: float, half: float, n: int = 512) -> Estimate:
    return Estimate(value=value, lo=max(value - half, 0.0), hi=min(value + half, 1.0), n=n, method="bootstrap")


def points_of(number: int, rng: np.random.Generator) -> list[Point]:
    _, _, _, rates, speed, floor, leak = METHODS[number]
    found = []
    for i, rate in enumerate(rates):
        for epoch in range(EPOCHS + 1):
            t = epoch * speed * (0.5, 1.0, 2.0)[i]
            loss = floor + (BASE - floor) * math.exp(-0.9 * t) + 0.012 * max(t - 4, 0) ** 1.5
            auc = 0.5 + 0.49 * (1 - math.exp(-0.12 * leak * t)) + (rng.normal(0, 0.006) if epoch else 0)
            phase = "start" if not epoch else "fitting" if t < 4 else "memorization" if t < 6 else "overfitting"
            found.append(
                Point(
                    setting=number, learning_rate=rate, step=31 * epoch, epoch=float(epoch), seeds=SEEDS,
                    loss=estimate(loss, 0.05, unit="nats a token", higher_is_worse=False),
                    auc=share(auc, 0.04 if epoch else 0.0),
                    tpr_at_10pct_fpr=share(min(0.1 + 1.6 * (auc - 0.5), 1.0), 0.09 if epoch else 0.0),
                    user_auc=share(0.5 + 0.5 * (auc - 0.5), 0.12, 98) if epoch else None,
                    user_gap=0.1 * (auc - 0.5),
                    gap=estimate(auc - 0.5, 0.03),
                    exposure={
                        "not planted (control)": estimate(1.0, 0.6, 12, unit="bits"),
                        "planted once": estimate(1.5 + 2 * (auc - 0.5), 1.2, 6, unit="bits"),
                        "planted 16 times": replace(estimate(2 + 11 * (auc - 0.5), 1.5, 6, unit="bits"), hi=math.inf),
                    },
                    phase=phase, each_loss=(loss - 0.01, loss + 0.01), each_auc=(auc - 0.01, auc + 0.01),
                    each_tpr_at_10pct_fpr=(0.2, 0.2),
                )
            )  # fmt: skip
    losses = [point.loss.value if point.step else math.inf for point in found]
    on = frontier(losses, [point.auc.value for point in found])[:-1].tolist()
    return [replace(point, on_frontier=row in on) for row, point in enumerate(found)]


def comparison() -> Comparison:
    """Five methods at three learning rates; head leaks most; one training diverged."""
    rng = np.random.default_rng(0)
    points: list[Point] = []
    settings = []
    for number, (method, params, millions, rates, _, _, leak) in enumerate(METHODS):
        own = points_of(number, rng)
        trained = [row for row, point in enumerate(own) if point.step]
        best = min(trained, key=lambda row: own[row].loss.value)
        name = f"{method}({params['reduction_factor']})" if params else method
        auc = 0.55 + 0.2 * leak
        settings.append(
            Setting(
                name=name, method=method, params=params, defence="none", about="no defence",
                trained_parameters=int(millions * 1e6), learning_rates=rates, seeds=SEEDS, best=len(points) + best,
                matched=MatchedUtility(setting=number, loss=3.21, auc=share(auc, 0.05),
                                tpr_at_10pct_fpr=share(auc - 0.3, 0.1),
                                between=((rates[1], 62), (rates[1], 31))),
                fairness=Fairness(setting=number, learning_rate=rates[1], kl=estimate(0.4 * leak, 0.05),
                                  records=estimate(0.05 - 0.1 * number / 4, 0.06), users=estimate(0.02, 0.05, 98),
                                  losses=(estimate(2.5, 0.1), estimate(3.1, 0.1), estimate(3.9, 0.1))),
                notes=("The best held-out loss is at the highest learning rate tried (0.0001).",) if not number else (),
            )
        )  # fmt: skip
        points += own
    pairs = [
        SettingPair(
            a=a, b=b, kind="method", loss=3.2, tpr_at_10pct_fpr=None,
            auc=estimate(0.2 * (METHODS[a][6] - METHODS[b][6]), 0.06, confidence=0.995, joint=0.95),
            less=(a if METHODS[a][6] < METHODS[b][6] else b) if 1 in (a, b) else None,
            why_not="" if 1 in (a, b) else "the interval of the difference covers 0.",
        )
        for a in range(5) for b in range(a + 1, 5)
    ]  # fmt: skip
    cells = [
        TrialRow(name=f"{method[0]}_{rate:g}_none_seed{seed}", setting=number, learning_rate=rate, seed=seed,
                status="done", training_seconds=300.0, watching_seconds=25.0)
        for seed in range(SEEDS) for number, method in enumerate(METHODS) for rate in method[3]
    ]  # fmt: skip
    why = "learning_rate=0.0008: the training diverged: the loss is nan at step 12. Choose a lower learning rate."
    cells[5] = replace(cells[5], status="diverged", why=why, training_seconds=0.0)
    return Comparison(
        title="wikitext.txt",
        created="2026-01-01T12:00:00+00:00",
        headline="At the same held-out loss, head leaks most.",
        sentences=(
            "full leaks less than head at perplexity 24.5: AUC lower by 0.140 [0.080, 0.200].",
            "6 of 10 pairs are not ranked: the interval of the difference covers 0.",
            "The lowest held-out perplexity, 19.12, is that of full (learning rate 0.0001, epoch 2).",
        ),
        base_loss=estimate(BASE, 0.05, unit="nats a token"),
        settings=tuple(settings),
        points=tuple(points),
        pairs=tuple(pairs),
        cells=tuple(cells),
        associations=(Association(what="generalization gap of records and AUC", rho=share(0.97, 0.02, 30), points=30),),
        refused=("Intervals take records as independent: there are no users, or fewer than 20.",),
        counts={"trainings": 30, "trainings_finished": 29, "members_looked_at": 256},
        provenance={"base": "smollm2-135m", "seeds": [0, 1], "methods": {"full": [2e-5, 5e-5, 1e-4]}},
        together=(
            ComposedEpsilon(
                unit="user",
                epsilon=21.301,
                check=24.0,
                delta=1e-5,
                relation="add or remove one user",
                trainings=6,
                of_one_unit=6,
                sum_epsilon=48.0,
                sum_delta=6e-5,
                without_privacy=24,
            ),
        ),
    )
