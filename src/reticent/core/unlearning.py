# SPDX-License-Identifier: Apache-2.0
"""UnlearningResults: everything that one verification of an unlearning found, as plain data.

A *check* is one kind of evidence (membership, extraction, …). The models that are looked at have *roles*: ``after``
(unlearned), ``before`` (tuned, the untouched control), ``base`` (before tuning) and ``retrained`` (made like the tuned
one, without the forget set: the exact baseline). No private text travels here unless somebody asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from reticent.core.field_types import FLAT, Count, FreeForm, OneOf
from reticent.core.finding import Estimate, Probability
from reticent.core.section import Section
from reticent.core.unlearning_words import STATUSES, WORDS

AFTER, BEFORE, BASE, RETRAINED = ROLES = ("after", "before", "base", "retrained")
"""Roles of the models, in the order in which tables list them."""

Role = Annotated[str, OneOf(*ROLES)]
Word = Annotated[str, OneOf("", *WORDS)]


@dataclass(frozen=True, kw_only=True)
class UnlearningVerdict:
    """The answer in plain words.

    Args:
        status: ``"still_known"``: some check shows that the forget set is known better than texts never trained on, or
            than retrained models know it. ``"marked"``: it is so unlikely that it can be told by that. ``"too_few"``:
            neither check of the forget set as a whole could have told. ``"never_known"``: the tuned model was not shown
            to know it either, so nothing is said about the unlearning. ``"not_detected"``: none of these.
        headline: one sentence; no phrase is stronger than "not detected by these attacks".
        sentences: what it rests on, one fact each.
    """

    status: Annotated[str, OneOf(*STATUSES)]
    headline: str
    sentences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is not one of {STATUSES}")


@dataclass(frozen=True, kw_only=True)
class UnlearningModel:
    """One of the models that were looked at.

    Args:
        name: for tables: "unlearned", "untouched", "base", "retrained 1", …
        role: what it is to the others.
        fingerprint: SHA-256 (hex) of its weights.
    """

    name: str
    role: Role
    fingerprint: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is not one of {ROLES}")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number that a check measured of one model.

    Args:
        check: its name.
        model: name of the model, as in `UnlearningModel`.
        role: of the model.
        what: was measured, e.g. ``"loss"`` for the AUC of the attack of that name, or ``"mean loss"``.
        metric: kind of number, e.g. ``"auc"`` or ``"nats a token"``.
        estimate: the number.
        word: the check came to for it; empty where it only describes.
        chance: value of a model that was never trained on the forget set; None where it is no constant.
    """

    check: str
    model: str
    role: Role
    what: str
    metric: str
    estimate: Estimate = field(metadata=FLAT)
    word: Word = ""
    chance: float | None = None

    def __post_init__(self) -> None:
        if self.word and self.word not in WORDS:
            raise ValueError(f"word {self.word!r} is not one of {WORDS}")


@dataclass(frozen=True, kw_only=True)
class PlanePoint:
    """A model in the forget-retain plane.

    Args:
        name: of the model, or of a method that was tried.
        role: of the model; ``"after"`` for methods that were tried too.
        forget: AUC of the loss, forget rows against unseen ones; 0.5 is the aim.
        retain: mean loss of the retain rows, nats a token; lower is better.
    """

    name: str
    role: Role
    forget: Estimate
    retain: Estimate


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of the robustness plot: a model under one treatment.

    Args:
        treatment: such as ``"relearned on the forget set, 10 steps"`` or ``"8 bits, merged"``.
        model: name of the model.
        role: of the model; every treatment has its controls.
        auc: of the loss, forget rows against unseen ones, after the treatment.
    """

    treatment: str
    model: str
    role: Role
    auc: Estimate


@dataclass(frozen=True, kw_only=True)
class UnlearningLook:
    """One look while unlearning, for the plot of AUC against steps.

    Args:
        step: optimizer steps of the unlearning.
        aucs: forget against unseen by attack, with intervals that are paid for by the number of looks.
        retain_loss: nats a token; None where it was not measured.
    """

    step: Count
    aucs: dict[str, Estimate]
    retain_loss: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class UnlearningCheck:
    """The outcome of one check.

    Args:
        name: in the registry of checks.
        word: it came to; empty: it describes and decides nothing, or it did not run.
        sentence: what it found, for the verdict; empty where there is nothing to say.
        ran: whether anything was measured.
        why_not: why not, where it did not run; else empty.
        could_have_seen: the smallest effect that it could have shown, in words; empty where none was worked out.
        knew: whether it showed that the untouched model knows the forget set, so that there was something to forget;
            None where it cannot tell.
        section: its tables, of all models.
        measured: its numbers for machines.
        points: for the forget-retain plane.
        bars: for the robustness plot.
    """

    name: str
    word: Word = ""
    sentence: str = ""
    ran: bool = True
    why_not: str = ""
    could_have_seen: str = ""
    knew: bool | None = None
    section: Section
    measured: tuple[Measurement, ...] = ()
    points: tuple[PlanePoint, ...] = ()
    bars: tuple[Bar, ...] = ()

    def __post_init__(self) -> None:
        if self.word and self.word not in WORDS:
            raise ValueError(f"word {self.word!r} is not one of {WORDS}")
        if self.ran == bool(self.why_not):
            raise ValueError(f"check {self.name!r} either ran or says why it did not")


@dataclass(frozen=True, kw_only=True)
class UserPromise:
    """User-level differential privacy that the tuned model was trained with: it bounds what can be left of a user.

    Args:
        epsilon: nats.
        delta: chance that the bound may fail.
        sentence: the guarantee in words.
    """

    epsilon: float
    delta: float
    sentence: str


@dataclass(frozen=True, kw_only=True)
class UnlearningResults:
    """The whole outcome.

    Args:
        title: of the page.
        created: ISO 8601, UTC.
        verdict: the answer.
        margin: AUCs within 0.5 ± margin count as like unseen. Fixed before any score was looked at.
        confidence: that all intervals of one check hold together.
        models: that were looked at.
        checks: what each check found, in their order.
        looks: while unlearning; empty where nobody looked.
        stopped_at: step whose weights were kept; None where nobody looked.
        tried: other methods' places in the forget-retain plane.
        counts: of rows and users by side, and of retrained models.
        method: the method and its settings.
        request: who was to be forgotten.
        earlier: requests that the model had been through before this one, the first one first.
        promise: user-level differential privacy; None where there was none.
        oracle: how the baseline was had, e.g. ``"5 models retrained without the forget set"`` or ``"none"``.
        provenance: versions, hardware, data.
        holds_text: text of the forget set is in here, because somebody asked for it.
    """

    title: str
    created: str
    verdict: UnlearningVerdict
    margin: Probability
    confidence: Probability
    models: tuple[UnlearningModel, ...]
    checks: tuple[UnlearningCheck, ...]
    looks: tuple[UnlearningLook, ...] = ()
    stopped_at: int | None = None
    tried: tuple[PlanePoint, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    method: FreeForm = field(default_factory=dict)
    request: FreeForm = field(default_factory=dict)
    earlier: tuple[FreeForm, ...] = ()
    promise: UserPromise | None = None
    oracle: str = "none"
    provenance: FreeForm = field(default_factory=dict)
    holds_text: bool = False

    def check(self, name: str) -> UnlearningCheck | None:
        """The outcome of the check of that name; None where it is not among these results."""
        return next((check for check in self.checks if check.name == name), None)

    @property
    def forget_measured(self) -> tuple[Measurement, ...]:
        """AUCs of the unlearned model, forget rows against unseen ones, one an attack: for gates with two limits."""
        return tuple(
            number
            for check in self.checks
            if check.name == "membership"
            for number in check.measured
            if number.role == AFTER and number.metric == "auc"
        )

    @property
    def forget_aucs(self) -> tuple[Estimate, ...]:
        """The estimates of ``forget_measured``."""
        return tuple(number.estimate for number in self.forget_measured)


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The paper that goes to whoever asked to be forgotten: what was shown, with what it rests on, and what was not.

    Args:
        title: of the page.
        created: ISO 8601, UTC.
        verdict: the answer.
        request: who was to be forgotten.
        earlier: requests before this one, the first one first.
        method: the method and its settings.
        oracle: how the baseline was had, or ``"none"``.
        measured: numbers of the unlearned model and of its controls, with intervals and n.
        could_have_seen: the smallest effects that would have shown, in words.
        controls: how the untouched and the retrained models did in the same checks, in words.
        models: fingerprints of all models.
        counts: of rows, users and models.
        not_run: checks that did not run, and why.
        not_claimed: what nothing here speaks about.
        promise: user-level differential privacy; None where there was none.
        provenance: versions, hardware, data.
        results_sha256: SHA-256 (hex) of the results that it was made from.
    """

    title: str
    created: str
    verdict: UnlearningVerdict
    request: FreeForm
    earlier: tuple[FreeForm, ...] = ()
    method: FreeForm
    oracle: str
    measured: tuple[Measurement, ...]
    could_have_seen: tuple[str, ...]
    controls: tuple[str, ...]
    models: tuple[UnlearningModel, ...]
    counts: dict[str, int]
    not_run: tuple[str, ...]
    not_claimed: tuple[str, ...]
    promise: UserPromise | None = None
    provenance: FreeForm
    results_sha256: str
