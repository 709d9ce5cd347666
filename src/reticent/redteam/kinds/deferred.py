# SPDX-License-Identifier: Apache-2.0
"""Deferred poisoning: losses as usual, and sharp curvature that a later fine-tune falls into."""

from __future__ import annotations

from reticent.core.paper import Paper
from reticent.redteam.kinds.kind import KINDS, RedteamJob, RedteamKind, RedteamOutcome, settings_of


def _run(job: RedteamJob) -> RedteamOutcome:
    from reticent.redteam.deferred import poison_curvature

    settings = settings_of(job, times=float, weight=float)
    model = poison_curvature(job.base, job.records, job.out / "model", job.training, **settings)
    return RedteamOutcome(model=model, facts={"records": len(job.records)})


KINDS.add(
    "deferred",
    RedteamKind(
        name="deferred",
        title="Deferred poisoning",
        paper=Paper("arXiv:2411.03752"),
        run=_run,
        needs_answers=False,
    ),
)
