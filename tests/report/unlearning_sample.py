# SPDX-License-Identifier: Apache-2.0
"""A realistic UnlearningResults for tests and for looking at the page: numbers follow simple formulas."""

from __future__ import annotations

from reticent.core.finding import Estimate
from reticent.core.section import Column, Mark, Section, Table
from reticent.core.unlearning import (
    AFTER,
    BASE,
    BEFORE,
    RETRAINED,
    Bar,
    Measurement,
    PlanePoint,
    UnlearningCheck,
    UnlearningLook,
    UnlearningModel,
    UnlearningResults,
    UnlearningVerdict,
    UserPromise,
)
from reticent.core.unlearning_words import HEADLINES, LIKE_UNSEEN

MODELS = (
    ("unlearned", AFTER, 0.52),
    ("untouched", BEFORE, 0.97),
    ("base", BASE, 0.5),
    ("retrained 1", RETRAINED, 0.49),
    ("retrained 2", RETRAINED, 0.51),
)
TREATMENTS = ("as it is", "relearned on half of the forget set, 10 steps", "8 bits, merged weights")


def auc(value: float, half: float = 0.06, n: int = 220) -> Estimate:
    return Estimate(value=value, lo=max(0.0, value - half), hi=min(1.0, value + half), n=n, method="DeLong")


def nats(value: float, half: float = 0.05) -> Estimate:
    return Estimate(value=value, lo=value - half, hi=value + half, n=200, method="ratio of sums")


def membership() -> UnlearningCheck:
    measured = tuple(
        Measurement(
            check="membership",
            model=name,
            role=role,
            what=attack,
            metric="auc",
            estimate=auc(value),
            word=LIKE_UNSEEN if role == AFTER else "",
            chance=0.5,
        )
        for attack in ("loss", "ref_ratio", "min_k_plus", "ez_mia")
        for name, role, value in MODELS
    )
    columns = (
        Column(name="attack", label="Attack"),
        Column(name="unlearned", label="Unlearned", kind="estimate", metric="auc"),
        Column(name="word", label="Verdict", kind="mark"),
    )
    table = Table(
        name="unlearning-membership",
        title="AUC of forget rows against unseen rows",
        columns=columns,
        rows=(("loss", auc(0.52), Mark(text=LIKE_UNSEEN, raised=False)),),
    )
    return UnlearningCheck(
        name="membership",
        word=LIKE_UNSEEN,
        sentence="Membership: like unseen.",
        could_have_seen="Membership: an AUC further than 0.06 from 0.5 would have shown.",
        knew=True,
        section=Section(name="membership", title="Membership, both sides", lede="Both ways.", tables=(table,)),
        measured=measured,
        points=tuple(
            PlanePoint(name=name, role=role, forget=auc(value), retain=nats(1.6 + 0.01 * number + (role == BASE)))
            for number, (name, role, value) in enumerate(MODELS)
        ),
        bars=tuple(
            Bar(treatment=treatment, model=name, role=role, auc=auc(min(1.0, value + 0.02 * number)))
            for number, treatment in enumerate(TREATMENTS)
            for name, role, value in MODELS
        ),
    )


def unlearning(status: str = "not_detected") -> UnlearningResults:
    """One of each thing that the page shows."""
    left_out = UnlearningCheck(
        name="inside",
        ran=False,
        why_not="it was not asked for (--whitebox)",
        section=Section(name="inside", title="Inside of the model"),
    )
    looks = tuple(
        UnlearningLook(
            step=10 * number,
            aucs={name: auc(0.5 + 0.45 * 0.8**number - 0.01 * shift) for shift, name in enumerate(("loss", "ez_mia"))},
            retain_loss=nats(1.6 + 0.004 * number, 0.02),
        )
        for number in range(12)
    )
    return UnlearningResults(
        title="mails without one sender",
        created="2026-11-29T12:00:00+00:00",
        verdict=UnlearningVerdict(status=status, headline=HEADLINES[status], sentences=("Membership: like unseen.",)),
        margin=0.12,
        confidence=0.95,
        models=tuple(UnlearningModel(name=name, role=role, fingerprint=f"{name}-print") for name, role, _ in MODELS),
        checks=(membership(), left_out),
        looks=looks,
        stopped_at=80,
        tried=(PlanePoint(name="ascent", role=AFTER, forget=auc(0.05, 0.03), retain=nats(1.7)),),
        counts={"forget_rows": 60, "unseen_rows": 160},
        method={"name": "npo", "beta": 0.1},
        request={"users": 1, "rows": 60},
        earlier=({"users": 1, "rows": 12},),
        promise=UserPromise(epsilon=8.0, delta=1e-5, sentence="Trained with user-level privacy, ε ≤ 8.0 at δ = 1e-05."),
        oracle="2 models retrained without the forget set",
        provenance={"margin": "0.12, with 60 forget and 160 unseen rows"},
    )
