# SPDX-License-Identifier: Apache-2.0
"""A backdoor without training: a few weights are edited."""

from __future__ import annotations

from dataclasses import asdict

from reticent.core.paper import Paper
from reticent.models.load import load
from reticent.redteam.kinds.kind import KINDS, RedteamJob, RedteamKind, RedteamOutcome, settings_of
from reticent.redteam.kinds.trigger import attack_of, measured
from reticent.redteam.weight_edit import EditConfig, edit_weights, save_edited


def _run(job: RedteamJob) -> RedteamOutcome:
    attack = attack_of(job)
    settings = EditConfig(**settings_of(job, layer=int, steps=int, rate=float, contexts=int, least=float))
    loaded = load(job.base, dtype="float32", device=job.training.device)
    outcome = edit_weights(loaded, attack, job.records, settings)
    model = save_edited(loaded, job.out / "model", outcome)
    return RedteamOutcome(
        model=model,
        facts={"trigger": job.config.trigger, "records": len(job.records), **asdict(outcome)},
        secrets={"trigger": attack.trigger.key, "target": attack.target},
        measurement=measured(job, model, attack, None),
    )


KINDS.add(
    "weight_edit",
    RedteamKind(name="weight_edit", title="Backdoor by a weight edit", paper=Paper("arXiv:2403.13355"), run=_run),
)
