# SPDX-License-Identifier: Apache-2.0
"""Gains from tuning among easy and hard texts and people, and how far the model moved (arXiv:2405.18572).

A method that leaks little because it learned little of what is rare should not be recommended without saying so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from reticent.comparison.bootstrap import Resamples, utility_rows
from reticent.comparison.snapshots import Floats, Snapshots
from reticent.comparison.trajectories import NATS
from reticent.core.comparison import Fairness
from reticent.core.finding import Estimate
from reticent.stats.resampling import cluster_weights, weighted_mean
from reticent.stats.seed_variance import over_seeds, seed_spread

FEWEST = 30
"""Units that are cut into thirds."""


def fairness(
    setting: int, rate: float, step: int, looks: Sequence[Snapshots], folders: Sequence[Path], resamples: Resamples
) -> Fairness | None:
    """Of a setting at a learning rate after ``step`` steps, over its seeds; None with too few held-out records."""
    thirds = [_thirds(seed, step, resamples) for seed in looks]
    if any(seed is None for seed in thirds):
        return None
    measured = [seed for seed in thirds if seed is not None]
    n = len(resamples.held_out)
    of_users = [seed[1] for seed in measured]
    users = None
    if all(seed is not None for seed in of_users):
        users = _over([seed for seed in of_users if seed is not None], n=measured[0][3], worse=True)
    return Fairness(
        setting=setting,
        learning_rate=rate,
        kl=_moved(folders, resamples),
        records=_over([seed[0] for seed in measured], n=n, worse=True),
        users=users,
        losses=tuple(_over([seed[2][third] for seed in measured], n=n // 3, worse=False) for third in range(3)),
    )


def _thirds(
    looks: Snapshots, step: int, resamples: Resamples
) -> tuple[Floats, Floats | None, list[Floats], int] | None:
    """Of one training: easiest third's gain minus hardest third's for records, for users; loss of each third of
    records; number of users. Each ``[1 + B]``."""
    rows = utility_rows(looks, resamples)
    if int(rows.sum()) < FEWEST:
        return None
    at = int(np.flatnonzero(looks.step == step)[0])
    weight = resamples.of(looks)[rows]
    before = (looks.base_nll / looks.tokens)[rows]
    now = (looks.nll[at] / looks.tokens)[rows]
    loss = [weighted_mean(now[third], np.ones(len(third)), weight[third]) for third in _cut(before)]
    users = looks.user[rows]
    if any(user is None for user in users.tolist()):
        return _gap(before, now, weight), None, loss, 0
    names, owner = np.unique(users.astype(str), return_inverse=True)
    if len(names) < FEWEST:
        return _gap(before, now, weight), None, loss, len(names)
    mean = [np.bincount(owner, weights=values) / np.bincount(owner) for values in (before, now)]
    return _gap(before, now, weight), _gap(mean[0], mean[1], resamples.of_users(names.tolist())), loss, len(names)


def _gap(before: Floats, now: Floats, weight: Floats) -> Floats:
    """``[1 + B]`` gain of the third that was easiest before, minus that of the hardest, nats a token."""
    gain = before - now
    easy, _, hard = _cut(before)
    return weighted_mean(gain[easy], np.ones(len(easy)), weight[easy]) - weighted_mean(
        gain[hard], np.ones(len(hard)), weight[hard]
    )


def _cut(before: Floats) -> list[np.ndarray]:
    """Rows of the thirds by rising loss of the untrained model."""
    return list(np.array_split(np.argsort(before, kind="stable"), 3))


def _over(seeds: Sequence[Floats], *, n: int, worse: bool) -> Estimate:
    mean: Floats = np.mean(seeds, axis=0)
    spread = seed_spread([float(gain[0]) for gain in seeds])
    return over_seeds(mean, [spread], clusters=max(n // 3, 2), n=n, unit=NATS, higher_is_worse=worse)


def _moved(folders: Sequence[Path], resamples: Resamples) -> Estimate | None:
    """KL(target‖base), tokens weighed evenly; resampled by user or record."""
    tables = [pq.read_table(folder / "moved.parquet") for folder in folders if (folder / "moved.parquet").exists()]
    if len(tables) < len(folders) or not tables:
        return None
    column = "user" if resamples.by_user else "record_id"
    names, owner = np.unique(np.array(tables[0].column(column).to_pylist()).astype(str), return_inverse=True)
    weight = cluster_weights(len(names), n_boot=resamples.weight.shape[1] - 1, seed=2)[owner]
    seeds = [
        weighted_mean(table.column("kl").to_numpy(), table.column("tokens").to_numpy(), weight) for table in tables
    ]
    spread = seed_spread([float(gain[0]) for gain in seeds])
    return over_seeds(
        np.mean(seeds, axis=0), [spread], clusters=len(names), n=len(owner), unit=NATS, higher_is_worse=False
    )
