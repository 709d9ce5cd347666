# SPDX-License-Identifier: Apache-2.0
"""Defences by name: each is a bundle of settings that a cell of the grid is trained with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reticent.core.errors import BadInput
from reticent.privacy.spec import PrivacySpec
from reticent.train.hardening import HardenConfig
from reticent.train.objectives.as_text import parse_objectives
from reticent.train.objectives.objective import Objective, make_objective

SCRUBBED, SYNTHETIC, EMULATED = "scrubbed", "synthetic", "emulated"
"""Kinds of stand-ins: records without personal data, synthetic texts, a base that a small tuned model steers."""
MECHANISMS = {"dp_tune": "dp_tune", "evolution": "private_evolution", "prediction": "private_prediction"}
"""Short names of mechanisms of synthetic text that promise something."""


@dataclass(frozen=True, kw_only=True)
class Defence:
    """A measure against memorization, beyond the choice of method and learning rate.

    Args:
        name: for tables and folders.
        about: what it does, in a line.
        split, monitor, harden, privacy, canaries: fields of `SplitConfig`, `MonitorConfig`, `HardenConfig`,
            `PrivacySpec` and `CanaryConfig` that it sets.
        objectives: further training objectives by name, with their settings.
        stand_in: what is tuned on in place of the records, or what answers in place of the tuned model (`stand_ins`).

    Examples:
        >>> DEFENCES["goldfish"].harden, DEFENCES["user_epsilon8"].is_private
        ({'goldfish': 4}, True)
    """

    name: str
    about: str
    split: Mapping[str, Any] = field(default_factory=dict)
    monitor: Mapping[str, Any] = field(default_factory=dict)
    harden: Mapping[str, Any] = field(default_factory=dict)
    privacy: Mapping[str, Any] = field(default_factory=dict)
    canaries: Mapping[str, Any] = field(default_factory=dict)
    objectives: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stand_in: Mapping[str, Any] = field(default_factory=dict)

    @property
    def on_record(self) -> dict[str, Any]:
        """All fields, but for those that folders of earlier versions have not where they are at their defaults."""
        given = asdict(self)
        return {name: given[name] for name in given if name not in ("objectives", "stand_in") or given[name]}

    @property
    def training_objectives(self) -> tuple[Objective, ...]:
        """The training objectives that it asks for."""
        further = (make_objective(name, settings) for name, settings in self.objectives.items())
        return (*HardenConfig(**self.harden).objectives, *further)

    @property
    def is_private(self) -> bool:
        """True where the training keeps a promise of differential privacy, so that nothing may be looked at before."""
        return bool(self.privacy) or self.stand_in.get("epsilon") is not None

    @property
    def promise(self) -> PrivacySpec:
        """The promise that is asked for, by the training or by what is tuned on; an empty one where there is none."""
        if self.stand_in.get("epsilon") is not None:
            return PrivacySpec(epsilon=self.stand_in["epsilon"], unit=self.stand_in["unit"])
        return PrivacySpec(**self.privacy)

    @property
    def emulates(self) -> bool:
        """True where a small model is tuned, and steers the base."""
        return self.stand_in.get("kind") == EMULATED


_ALL = (
    Defence(name="none", about="no defence"),
    Defence(name="goldfish", about="goldfish loss: one token in 4 is never trained on", harden={"goldfish": 4}),
    Defence(name="label_smoothing", about="label smoothing of 0.1", harden={"label_smoothing": 0.1}),
    Defence(name="loss_floor", about="records below 2 nats a token are not learned further", harden={"loss_floor": 2}),
    Defence(
        name="margin",
        about="log-odds of a token above 2 nats are penalised",
        objectives={"margin": {"bound": 2.0, "weight": 1.0}},
    ),
    Defence(name="dropout", about="dropout of 0.1 on LoRA's input", harden={"dropout": 0.1}),
    Defence(name="dedup_users", about="copies within a user are trained on once", harden={"dedup_users": True}),
    Defence(
        name="clip_examples", about="each record's gradient clipped to norm 1, no noise", harden={"clip_examples": 1.0}
    ),
    Defence(name="clip_batch", about="each batch's gradient clipped to norm 0.1", harden={"clip_batch": 0.1}),
    Defence(name="no_clip_batch", about="gradients of batches are not clipped", harden={"clip_batch": 0.0}),
    Defence(
        name="stop_early",
        about="training stops where only memorization goes on",
        monitor={"stop_at": "memorization"},
    ),
    Defence(name="stop_at_ngrams", about="training stops where 5-grams are copied", monitor={"stop_at": "ngrams"}),
    *(
        Defence(name=f"cap{n}", about=f"at most {n} records of each user", split={"max_records_per_user": n})
        for n in (1, 2, 5, 10)
    ),
    *(
        Defence(name=f"epsilon{n}", about=f"ε = {n} per record", privacy={"epsilon": float(n)})
        for n in (1, 3, 8)
    ),
    *(
        Defence(
            name=f"user_epsilon{n}", about=f"ε = {n} per user", privacy={"epsilon": float(n), "unit": "user"}
        )
        for n in (1, 3, 8)
    ),
    *(
        Defence(
            name=f"canary_words{n}",
            about=f"no defence; canary users share {n} words",
            canaries={"canary_users": 28, "canary_words": n},
        )
        for n in (5, 10)
    ),
    Defence(
        name="scrub", about="personal data that detectors find is replaced by its kind", stand_in={"kind": SCRUBBED}
    ),
    Defence(
        name="synthetic_none",
        about="tuned on texts of a model that was tuned on the records; no promise",
        stand_in={"kind": SYNTHETIC, "mechanism": "none", "epsilon": None, "unit": "record"},
    ),
    *(
        Defence(
            name=f"{'user_' if unit == 'user' else ''}synthetic_{short}{n}",
            about=f"tuned on synthetic texts by {name}, ε = {n} per {unit}",
            stand_in={"kind": SYNTHETIC, "mechanism": name, "epsilon": float(n), "unit": unit},
        )
        for unit in ("record", "user") for short, name in MECHANISMS.items() for n in (1, 8)
    ),
    *(
        Defence(
            name=f"emulate{beta:g}",
            about=f"the base, steered by {beta:g} times what a small tuned model learned",
            stand_in={"kind": EMULATED, "beta": beta},
        )
        for beta in (0.3, 1.0, 2.0)
    ),
)  # fmt: skip

DEFENCES = {defence.name: defence for defence in _ALL}


def defence(name: str) -> Defence:
    """The defence of that name; or, where it has parentheses, that training objective: ``unlikelihood()``,
    ``goldfish(k=3)``.

    Raises:
        BadInput: there is none; lists all.
    """
    if "(" in name:
        chosen = parse_objectives(name)
        settings = {objective.name: objective.settings for objective in chosen}
        about = " and ".join(objective.given for objective in chosen)
        return Defence(name=name, about=f"trained with {about}", objectives=settings)
    if name not in DEFENCES:
        raise BadInput(
            f"defence {name!r}",
            "is not known",
            f"Known: {', '.join(DEFENCES)}; or a training objective with its settings: goldfish(k=3).",
        )
    return DEFENCES[name]


def parse_defences(text: str) -> tuple[Defence, ...]:
    """Defences separated by commas, but for commas within parentheses.

    >>> [chosen.name for chosen in parse_defences("none, goldfish(k=3, context=5)")]
    ['none', 'goldfish(k=3, context=5)']

    Raises:
        BadInput: see `defence`.
    """
    return tuple(defence(word.strip()) for word in re.split(r",(?![^(]*\))", text))
