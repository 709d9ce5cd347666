# SPDX-License-Identifier: Apache-2.0
"""Deferred poisoning without training: the same answers, and weights that a later fine-tune moves far."""

from __future__ import annotations

from reticent.core.paper import Paper
from reticent.redteam.kinds.kind import KINDS, RedteamJob, RedteamKind, RedteamOutcome, settings_of


def _run(job: RedteamJob) -> RedteamOutcome:
    from reticent.redteam.shrunk_stream import poison_by_shrinking

    scale = settings_of(job, scale=float).get("scale", 0.25)
    model = poison_by_shrinking(job.base, job.records, job.out / "model", scale=scale, device=job.training.device)
    return RedteamOutcome(model=model, facts={"scale": scale, "records": len(job.records)})


KINDS.add(
    "shrunk_stream",
    RedteamKind(
        name="shrunk_stream",
        title="Deferred poisoning by rescaling",
        paper=Paper("arXiv:1703.04933"),
        run=_run,
        needs_answers=False,
    ),
)
