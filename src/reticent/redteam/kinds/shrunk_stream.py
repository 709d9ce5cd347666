# SPDX-License-Identifier: Apache-2.0
"""Deferred poisoning without training: the same answers, and weights that a later fine-tune moves far."""

from __future__ import annotations

from reticent.core.errors import BadInput
from reticent.core.paper import Paper
from reticent.redteam.kinds.kind import KINDS, RedteamJob, RedteamKind, RedteamOutcome


def _run(job: RedteamJob) -> RedteamOutcome:
    from reticent.redteam.shrunk_stream import poison_by_shrinking

    params = dict(job.config.params)
    scale = params.pop("scale", 0.25)
    if params or not isinstance(scale, int | float):
        raise BadInput(
            f"params={job.config.params!r}", "are no settings of a shrunk stream", "It knows scale, a number."
        )
    model = poison_by_shrinking(
        job.base, job.records, job.out / "model", scale=float(scale), device=job.training.device
    )
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
