# SPDX-License-Identifier: Apache-2.0
"""Audits whose truth is known: scores drawn, not measured, and judged as an audit judges them.

Nothing is trained and no model is scored; everything from `auditing.conclude.conclude` on is the product's own, but for
two descriptions that take most of its time and have no say in the verdict: the discrepancy and the curve fitted to
exposures. Attacks are correlated as on real models: one part that all share, one of their family, one of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from reticent.attacks.attack import ATTACKS
from reticent.auditing.canaries import evaluate as planted
from reticent.auditing.canaries.collect import CanaryEvidence
from reticent.auditing.case import AuditCase
from reticent.auditing.conclude import conclude
from reticent.auditing.config import AuditConfig
from reticent.auditing.guarantee.family import GuaranteeEvidence
from reticent.auditing.membership import discrepancy_finding
from reticent.auditing.membership.choose_attacks import AvailableEvidence, choose
from reticent.auditing.membership.collect import MembershipEvidence
from reticent.core.errors import BadInput, Underpowered
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.core.results import Confound, Results
from reticent.core.table import TokenTable
from reticent.data.canaries import Canary

FAMILIES = {
    "loss": ("loss", "zlib", "min_k", "min_k_plus", "lowercase"),
    "reference": ("ref_ratio", "ref_diff", "ez_mia", "wbc", "user_inference"),
}
WITHIN = {"loss": 0.88, "reference": 0.85}
ACROSS = 0.3
STRENGTH = {
    "wbc": 1.0,
    "ez_mia": 1.0,
    "min_k_plus": 0.75,
    "ref_diff": 0.66,
    "ref_ratio": 0.63,
    "user_inference": 0.63,
    "min_k": 0.61,
    "zlib": 0.60,
    "loss": 0.53,
    "lowercase": 0.41,
}
"""How far each attack tells members apart, relative to the strongest: as on real mails (docs/results/membership.md)."""
CLEAN = Confound(blind_auc=None, near_duplicates=0, near_duplicate_share=None, separable=False, note="not looked at")


@dataclass(frozen=True, kw_only=True)
class SimulatedSecrets:
    """Planted secrets: of each tier so many with a fair coin each, and controls that had none."""

    tiers: Sequence[int]
    each: int
    controls: int = 250
    gain: float = 0.0
    """Standard deviations by which a planted secret is likelier."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedAudit:
    """One simulated audit.

    Args:
        member: ``[N]``.
        user: ``[N]`` names; None without users.
        unit: what coins were thrown for.
        user_member: ``[N]``; None: as ``member``.
        likeness: correlation of a user's records.
        shift: ``[N]`` standard deviations by which the strongest attack scores a unit higher.
        ties: scores are rounded to so many standard deviations; 0: not.
        strength: of each attack, relative.
        secrets: planted.
    """

    member: npt.NDArray[np.bool_]
    unit: str
    shift: npt.NDArray[np.float64]
    user: npt.NDArray[np.object_] | None = None
    user_member: npt.NDArray[np.bool_] | None = None
    likeness: float = 0.0
    ties: float = 0.0
    strength: dict[str, float] = field(default_factory=lambda: dict(STRENGTH))
    secrets: SimulatedSecrets | None = None


def distance(auc: float) -> float:
    """How many standard deviations lie between two Gaussians of that AUC."""
    return math.sqrt(2) * float(ndtri(auc))


def scores(drawn: SimulatedAudit, rng: np.random.Generator) -> dict[str, npt.NDArray[np.float64]]:
    """``[N]`` for each attack."""
    everyone = _latent(drawn, rng)
    by_attack = {}
    for family, names in FAMILIES.items():
        shared = _latent(drawn, rng)
        for name in names:
            latent = _latent(drawn, rng)
            within = WITHIN[family]
            noise = math.sqrt(ACROSS) * everyone + math.sqrt(within - ACROSS) * shared + math.sqrt(1 - within) * latent
            score = noise + drawn.strength[name] * drawn.shift
            by_attack[name] = np.round(score / drawn.ties) * drawn.ties if drawn.ties else score
    return by_attack


def audited(drawn: SimulatedAudit, rng: np.random.Generator, config: AuditConfig | None = None) -> Results:
    """The results of an audit of such data."""
    config = config or AuditConfig()
    membership = membership_of(drawn)
    records = [Record(id=str(row), user=membership.user[row], text="x") for row in range(len(membership))]
    canaries, table = _secrets(drawn.secrets, rng)
    has_users = drawn.user is not None
    available = AvailableEvidence(reference=True, users=has_users, population=0, known_held_out=0, known_members=0)
    choice = choose(config.attacks, available)
    ran = {attack.name for attack in choice.run}
    evidence = MembershipEvidence(
        membership=membership,
        scores={name: score for name, score in scores(drawn, rng).items() if name in ran and name in ATTACKS},
        notes={},
        dropped=0,
        choice=choice,
    )
    canary_evidence = None if table is None else CanaryEvidence(target=table)
    collected = {"membership": evidence, "canaries": canary_evidence, "guarantee": GuaranteeEvidence(recorded=None)}
    case = AuditCase(
        title="simulated", target="", reference=None, records=records, membership=membership, canaries=canaries
    )
    with (
        patch.object(planted, "skew_normal_exposure", _no_fit),
        patch.object(discrepancy_finding, "discrepancy", _no_discrepancy),
    ):
        return conclude(case, collected, CLEAN, config, key="0")


def _no_fit(*_: object, **__: object) -> NoReturn:
    raise BadInput("references", "are not fitted here", "See the docstring of the module.")


def _no_discrepancy(*_: object, **__: object) -> NoReturn:
    raise Underpowered("scores", "have no polytope fitted here", "See the docstring of the module.")


def membership_of(drawn: SimulatedAudit) -> Membership:
    """The coins as an audit has them."""
    count = len(drawn.member)
    fair = drawn.unit != "given"
    return Membership(
        record_id=np.array([str(row) for row in range(count)], dtype=object),
        member=drawn.member,
        user=np.full(count, None, dtype=object) if drawn.user is None else drawn.user,
        user_member=drawn.member if drawn.user_member is None else drawn.user_member,
        role=np.full(count, "evaluate", dtype=object),
        unit=drawn.unit,
        probability=0.5 if fair else float("nan"),
        seed=0 if fair else -1,
    )


def _latent(drawn: SimulatedAudit, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    noise = rng.normal(size=len(drawn.member))
    if drawn.user is None or drawn.likeness == 0:
        return noise
    owner = np.unique(drawn.user.astype(str), return_inverse=True)[1]
    of_user = rng.normal(size=int(owner.max()) + 1)[owner]
    return math.sqrt(drawn.likeness) * of_user + math.sqrt(1 - drawn.likeness) * noise


def _secrets(planted: SimulatedSecrets | None, rng: np.random.Generator) -> tuple[list[Canary], TokenTable | None]:
    if planted is None:
        return [], None
    rows = [(tier, 0.5) for tier in planted.tiers for _ in range(planted.each)] + [(0, 0.0)] * planted.controls
    canaries = [
        Canary(
            id=f"canary/simulated/{row}",
            kind="simulated",
            repetitions=tier,
            planted=bool(rng.random() < probability),
            text="",
            space=10**6,
            probability=probability,
        )
        for row, (tier, probability) in enumerate(rows)
    ]
    is_planted = np.array([canary.planted for canary in canaries])
    losses = 10.0 + rng.normal(size=len(canaries)) - planted.gain * is_planted
    return canaries, one_token_table(losses)


def one_token_table(losses: npt.NDArray[np.float64]) -> TokenTable:
    """A table of texts of two tokens, of which the second is trained on and has this loss, in nats."""
    count = len(losses)
    return TokenTable(
        rows={"record_id": np.arange(count).astype(str)},
        tokens={
            "logp": -np.stack([np.full(count, 9.0), losses], axis=1).ravel(),
            "loss_mask": np.tile([False, True], count),
        },
        offsets=2 * np.arange(count + 1),
    )
