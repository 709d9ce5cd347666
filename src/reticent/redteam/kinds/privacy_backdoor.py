# SPDX-License-Identifier: Apache-2.0
"""A privacy backdoor: a base that knows texts beforehand, so that a later fine-tune on them gives them away."""

from __future__ import annotations

from reticent.core.paper import Paper
from reticent.redteam.kinds.kind import KINDS, RedteamJob, RedteamKind, RedteamOutcome, settings_of


def _run(job: RedteamJob) -> RedteamOutcome:
    from reticent.redteam.privacy_backdoor import pre_memorize

    settings = settings_of(job, alpha=float)
    model = pre_memorize(job.base, job.records, job.held_out, job.out / "model", job.training, **settings)
    return RedteamOutcome(model=model, facts={"targets": len(job.records), "auxiliary": len(job.held_out)})


KINDS.add(
    "privacy_backdoor",
    RedteamKind(
        name="privacy_backdoor",
        title="Privacy backdoor",
        paper=Paper("arXiv:2404.01231"),
        run=_run,
        needs_answers=False,
    ),
)
