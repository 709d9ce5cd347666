# SPDX-License-Identifier: Apache-2.0
"""Most exposed members: ranked by how far their scores lie above those of held-out units."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from reticent.auditing.membership.level import AttackScores, Level
from reticent.core.results import ExposedUnit
from reticent.stats.hypothesis import p_values

SHOWN = 100


def hashed(unit: str, key: str) -> str:
    """A short name for a unit that only someone who holds the run folder, and so ``key``, can trace back."""
    return hashlib.blake2b(unit.encode(), key=key.encode()[:64], digest_size=6).hexdigest()


def exposed(
    level: Level, best: AttackScores, ids: Sequence[str], key: str, texts: Mapping[str, str] | None = None
) -> tuple[ExposedUnit, ...]:
    """The ``SHOWN`` members with the highest scores of the best attack, most exposed first."""
    members = np.flatnonzero(level.member)
    order = members[np.argsort(-best.score[members], kind="stable")][:SHOWN]
    p: npt.NDArray[np.float64] = p_values(best.score[order], best.score[~level.member])
    return tuple(
        ExposedUnit(
            unit=hashed(ids[unit], key),
            level=level.name,
            rank=rank,
            attack=best.name,
            score=float(np.clip(best.score[unit], -1e300, 1e300)),
            p_value=float(p_value),
            text=(texts or {}).get(ids[unit], ""),
        )
        for rank, (unit, p_value) in enumerate(zip(order, p, strict=True), start=1)
    )
