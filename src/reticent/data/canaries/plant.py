# SPDX-License-Identifier: Apache-2.0
"""Plant secrets: draw them, throw a coin for each, repeat the chosen ones, keep others as controls."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.canaries.canary_file import Canary
from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import CANARIES, CanaryKind
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
    vocabulary: Sequence[str] = (),
    blind: bool = False,
) -> Planting:
    """Draw distinct secrets; each of the first ``secrets`` is trained on with ``probability``, by its own coin.

    The tiers take turns, so each has about ``secrets / len(repetitions)`` secrets that had a coin. Three comparisons
    are then fair: a planted secret's rank among the controls (exposure, by tier), planted with not-planted secrets
    of one tier (AUC), and the guesses of a one-run lower bound on ε over all coins (arXiv:2305.08846), which counts
    a secret with all its copies as one unit.

    A secret has the shape that most of the data has, and lies in what is trained on: the completion, or the
    assistant's turn. `models.trainable.check_trainable` says whether a tokenizer and a limit of tokens leave it there.

    Args:
        records: the data, with unique ids; some kinds draw from it.
        membership: of the records.
        kind: name in the registry of kinds.
        secrets: how many secrets get a coin.
        controls: how many further secrets are never trained on; exposure cannot exceed log2 of this.
        repetitions: how often a planted secret of each tier is trained on.
        probability: of each coin.
        seed: of the secrets and the coins.
        vocabulary: tokens of the model that are whole words, the most common first; for kinds made of tokens.
        blind: for private training: secrets are drawn without a look at the data, so that no record changes them.

    Raises:
        BadInput: an unknown kind, more secrets than its space has, ids that canaries need, or a kind that needs a
            vocabulary or more data than there is; with ``blind``, records of several shapes.
    """
    canary_kind = CANARIES.get(kind)
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
    material = CanarySource(records=() if blind else records, vocabulary=vocabulary)
    space, shape = canary_kind.space_in(material), _shape(records, only=blind)
    for number, secret in enumerate(_draw(canary_kind, material, space, secrets + controls, seed)):
        id_ = f"{prefix}{number:05d}"
        coin = number < secrets
        canaries.append(
            Canary(
                id=id_,
                kind=kind,
                repetitions=repetitions[number % len(repetitions)] if coin else 0,
                planted=coin and uniform(seed, "canary", id_) < probability,
                text=secret.text,
                space=space,
                probability=probability if coin else 0.0,
                start=len(secret.before),
                end=len(secret.before) + len(secret.secret),
                shape=shape,
            )
        )
    with_users = all(record.user is not None for record in records)
    copies = tuple(
        replace(canary.record, id=f"{canary.id}/copy{copy:03d}", user=canary.id if with_users else None)
        for canary in canaries
        if canary.planted
        for copy in range(canary.repetitions)
    )
    return Planting(canaries=tuple(canaries), to_train=copies)


def _shape(records: Sequence[Record], *, only: bool) -> str:
    """The shape that most records have; with ``only``, that all have: else one record could tip the scales."""
    shapes = Counter(
        "chat" if record.messages is not None else "text" if record.text is not None else "pair" for record in records
    )
    if only and len(shapes) > 1:
        raise BadInput(
            f"canaries in records of {len(shapes)} shapes ({', '.join(sorted(shapes))})",
            "secrets take the shape that most records have, so in private training one record could change all of them",
            "Give records of one shape, or leave --canaries out.",
        )
    return shapes.most_common(1)[0][0] if shapes else "text"


def _draw(kind: CanaryKind, material: CanarySource, space: int, n: int, seed: int) -> list[CanaryText]:
    """``n`` distinct secrets, none of which the data has already; the first ones stay the same when more are drawn."""
    if n > space / 2:
        raise BadInput(f"{n} secrets of kind {kind.name!r}", f"there are only {space}", "Ask for at most half of them.")
    there = "" if kind.uniform else "\n".join(record.plain for record in material.records)
    rng = random.Random(f"canaries/{kind.name}/{seed}")  # noqa: S311 - reproducible, guards nothing
    drawn: dict[str, CanaryText] = {}
    for _ in range(100 * n):
        secret = kind.draw(rng, material)
        if secret.secret not in there:
            drawn.setdefault(secret.text, secret)
        if len(drawn) == n:
            return list(drawn.values())
    raise BadInput(
        f"{n} secrets of kind {kind.name!r}", f"only {len(drawn)} distinct ones came up", "Ask for fewer of them."
    )
