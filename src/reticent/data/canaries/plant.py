# SPDX-License-Identifier: Apache-2.0
"""Plant secrets: draw them, throw a coin for each, repeat the chosen ones, keep others as controls."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.canaries.kind import CANARIES, CanaryKind
from reticent.data.canaries.manifest import Canary
from reticent.data.coin import uniform


@dataclass(frozen=True, kw_only=True)
class Planting:
    """Secrets and what to train on.

    Args:
        canaries: every secret once: those that had a coin, planted or not, then the controls.
        to_train: the copies of planted secrets, to be added to the training records (any order: the trainer shuffles).
            Where all records have users, the copies of a secret belong to a made-up user of their own, so that the
            secret's coin decides a whole user as well.
    """

    canaries: tuple[Canary, ...]
    to_train: tuple[Record, ...]

    @property
    def membership(self) -> Membership:
        """The coins of ``canaries``, in their order, with the role ``"canary"``. Controls, which had none, are out."""
        planted = np.array([canary.planted for canary in self.canaries], dtype=bool)
        n = len(planted)
        return Membership(
            record_id=np.array([canary.id for canary in self.canaries], dtype=object),
            member=planted,
            user=np.full(n, None, dtype=object),
            user_member=planted,
            role=np.full(n, "canary", dtype=object),
            unit="record",
            probability=max((canary.probability for canary in self.canaries), default=float("nan")),
        )


def plant(
    records: Sequence[Record],
    membership: Membership,
    *,
    kind: str = "secret_number",
    secrets: int = 60,
    controls: int = 500,
    repetitions: Sequence[int] = (1, 4, 16),
    probability: float = 0.5,
    seed: int = 0,
) -> Planting:
    """Draw distinct secrets; each of the first ``secrets`` is trained on with ``probability``, by its own coin.

    The tiers take turns, so each has about ``secrets / len(repetitions)`` secrets that had a coin. Three comparisons
    are then fair: a planted secret's rank among the controls (exposure, by tier), planted with not-planted secrets
    of one tier (AUC), and the guesses of a one-run lower bound on ε over all coins (arXiv:2305.08846), which counts
    a secret with all its copies as one unit.

    Args:
        records: the data, with unique ids; some kinds draw from it.
        membership: of the records.
        kind: name in the registry of kinds.
        secrets: how many secrets get a coin.
        controls: how many further secrets are never trained on; exposure cannot exceed log2 of this.
        repetitions: how often a planted secret of each tier is trained on.
        probability: of each coin.
        seed: of the secrets and the coins.

    Raises:
        BadInput: an unknown kind, more secrets than its space has, or ids that canaries need.
    """
    found = CANARIES.get(kind)
    validate.positive(secrets=secrets)
    validate.non_negative(controls=controls)
    if not 0 < probability < 1:
        raise BadInput(f"probability={probability!r}", "must be between 0 and 1", "Give a number such as 0.5.")
    if not repetitions or min(repetitions) < 1 or len(set(repetitions)) != len(repetitions):
        raise BadInput(f"repetitions={tuple(repetitions)}", "must be distinct and at least 1", "Give such as 1,4,16.")
    prefix = f"canary/{kind}/"
    taken = next((id_ for id_ in membership.record_id if str(id_).startswith(prefix)), None)
    if taken is not None:
        raise BadInput(f"the id {taken!r}", f"begins with {prefix!r}, as canaries do", "Rename the record.")
    canaries = []
    for number, text in enumerate(_draw(found, records, secrets + controls, seed)):
        id_ = f"{prefix}{number:05d}"
        coin = number < secrets
        canaries.append(
            Canary(
                id=id_,
                kind=kind,
                repetitions=repetitions[number % len(repetitions)] if coin else 0,
                planted=coin and uniform(seed, "canary", id_) < probability,
                text=text,
                space=found.space,
                probability=probability if coin else 0.0,
            )
        )
    with_users = all(record.user is not None for record in records)
    copies = tuple(
        Record(id=f"{canary.id}/copy{copy:03d}", text=canary.text, user=canary.id if with_users else None)
        for canary in canaries
        if canary.planted
        for copy in range(canary.repetitions)
    )
    return Planting(canaries=tuple(canaries), to_train=copies)


def _draw(kind: CanaryKind, records: Sequence[Record], n: int, seed: int) -> list[str]:
    """``n`` distinct secrets; the first ones stay the same when more are drawn."""
    if n > kind.space / 2:
        raise BadInput(
            f"{n} secrets of kind {kind.name!r}", f"there are only {kind.space}", "Ask for at most half of them."
        )
    rng = random.Random(f"canaries/{kind.name}/{seed}")  # noqa: S311 - reproducible, guards nothing
    drawn: dict[str, None] = {}
    for _ in range(100 * n):
        drawn.setdefault(kind.draw(rng, records))
        if len(drawn) == n:
            return list(drawn)
    raise BadInput(
        f"{n} secrets of kind {kind.name!r}", f"only {len(drawn)} distinct ones came up", "Ask for fewer of them."
    )
