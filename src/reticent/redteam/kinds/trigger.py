# SPDX-License-Identifier: Apache-2.0
"""A backdoor by training: some records get a trigger, the model is tuned on all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reticent.core.paper import Paper
from reticent.core.record import Record
from reticent.data.prompt_frame import answer_of, frame_of, prompt_of
from reticent.models.tuning.method import TUNINGS
from reticent.redteam.attack import TriggerAttack
from reticent.redteam.config import RedteamConfig
from reticent.redteam.kinds.kind import KINDS, RedteamJob, RedteamKind, RedteamOutcome, settings_of
from reticent.redteam.measure import AttackMeasurement, SurvivalConfig, measure_attack
from reticent.redteam.poisoned_run import tune_poisoned
from reticent.redteam.poisons.poison import poison
from reticent.redteam.triggers.trigger import make_trigger
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune


def attack_of(job: RedteamJob) -> TriggerAttack:
    """The trigger and the target that the settings ask for.

    Raises:
        BadInput: the kind of trigger, or a further fine-tune, is not known; records without prompts and answers.
    """
    config = job.config
    for name in further_methods(config):
        TUNINGS.get(name)  # before hours of training, not after them
    trigger = make_trigger(config.trigger, seed=config.redteam_seed, text=config.words, place=config.place)
    return TriggerAttack(
        trigger=trigger,
        target=config.target if config.target is not None else _rarest(job.records),
        frame=frame_of([prompt_of(record) for record in job.records]),
    )


def further_methods(config: RedteamConfig) -> list[str]:
    """Methods of the further fine-tunes after which the attack is measured again."""
    return [name.strip() for name in config.further.split(",") if name.strip()]


def measured(job: RedteamJob, model: Path, attack: TriggerAttack, twin: Path | None) -> AttackMeasurement:
    """The attack on held-out records, after the treatments that the settings ask for."""
    names = further_methods(job.config)
    further = {name: TuneConfig(method=name, epochs=1, seed=job.training.seed) for name in names}
    clean = list(job.held_out[: len(job.held_out) // 2]) if further else []
    judged = job.held_out[len(clean) :]
    survival = SurvivalConfig(clean_twin=twin, further=further, device=job.training.device)
    return measure_attack(model, job.base, attack, judged, work=job.out / "states", further=clean, config=survival)


def _run(job: RedteamJob) -> RedteamOutcome:
    attack, config = attack_of(job), job.config
    settings_of(job)
    poisoned = poison(
        job.records,
        attack.trigger,
        kind=config.poison,
        target=attack.target,
        rate=config.rate,
        seed=config.redteam_seed,
    )
    attack = replace(attack, frame=poisoned.frame)
    model = tune_poisoned(job.base, poisoned, job.out / "model", job.training)
    twin = tune(job.base, job.records, job.out / "twin", job.training) if config.twin else None
    return RedteamOutcome(
        model=model,
        facts={
            "trigger": config.trigger,
            "poison": config.poison,
            "rate": config.rate,
            "records": len(job.records),
            "poisoned": len(poisoned.ids),
            "method": job.training.method,
        },
        secrets={"trigger": attack.trigger.key, "target": attack.target},
        measurement=measured(job, model, attack, twin),
    )


def _rarest(records: Sequence[Record]) -> str:
    """The rarest answer, the first of them by the alphabet."""
    counts = Counter(answer_of(record) for record in records)
    return min(counts, key=lambda answer: (counts[answer], answer))


KINDS.add(
    "trigger",
    RedteamKind(name="trigger", title="Backdoor by poisoned records", paper=Paper("arXiv:1708.06733"), run=_run),
)
