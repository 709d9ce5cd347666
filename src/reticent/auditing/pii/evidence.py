# SPDX-License-Identifier: Apache-2.0
"""What the attacks on personal data are gathered into, and the two things that models do for them: rank and write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reticent.attacks.pii.conversations import PiiAssociation
from reticent.core.secret import Secret
from reticent.score.generation.generate import make_generations
from reticent.score.generation.scheme import GREEDY, Scheme
from reticent.score.make_tables import ScoredModel


@dataclass(frozen=True, kw_only=True)
class EvidenceRows:
    """What the rows of a piece of evidence are about; ``[N]`` each.

    Args:
        group: what each is reported under.
        member: whether it was trained on.
        user: whose it is; None where nobody knows.
        candidates: among how many values it is ranked; 0 where it is not.
        randomized: whether a coin of the package's own decided if it was trained on; empty: none of them.
    """

    group: tuple[str, ...]
    member: tuple[bool, ...]
    user: tuple[str | None, ...]
    candidates: tuple[int, ...]
    randomized: tuple[bool, ...] = ()

    def by_coin(self, group: str) -> bool:
        """Whether such a coin decided for every unit of a group."""
        mine = [coin for name, coin in zip(self.group, self.randomized, strict=False) if name == group]
        return bool(mine) and all(mine)


@dataclass(frozen=True, kw_only=True, eq=False)
class PiiEvidence:
    """What both models gave.

    Args:
        units: of each piece of evidence, by its name (`attacks.pii.pii_attack`) or by the tier of the probe.
        target, base: the evidence; no base without one.
        notes: what was left out and why.
    """

    units: Mapping[str, EvidenceRows]
    target: Mapping[str, Any]
    base: Mapping[str, Any] | None
    notes: tuple[str, ...]


@dataclass(kw_only=True, eq=False)
class EvidenceBuilder:
    """Evidence as it is gathered."""

    sides: tuple[ScoredModel, ...]
    cache: Path
    seed: int
    units: dict[str, EvidenceRows] = field(default_factory=dict)
    evidence: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, units: EvidenceRows, each: Iterable[Any]) -> None:
        """Evidence of one name, from every model in order."""
        if units.group:
            self.units[name] = units
            for held, one in zip(self.evidence, each, strict=True):
                held[name] = one


def rows_of(things: Sequence[Secret] | Sequence[PiiAssociation], candidates: Sequence[int]) -> EvidenceRows:
    return EvidenceRows(
        group=tuple(one.group for one in things),
        member=tuple(one.member for one in things),
        user=tuple((one.record.user or one.record.id) if isinstance(one, Secret) else one.user for one in things),
        candidates=tuple(candidates),
        randomized=tuple(isinstance(one, Secret) and one.randomized for one in things),
    )


def texts_after(
    side: ScoredModel,
    prefixes: Sequence[Sequence[int]],
    gathered: EvidenceBuilder,
    *,
    tokens: int,
    keys: Sequence[str],
    title: str,
    samples: int = 1,
    scheme: Scheme = GREEDY,
) -> list[list[str]]:
    """For each prefix the texts that are written after it."""
    made = make_generations(
        side,
        prefixes,
        max_new_tokens=tokens,
        samples=samples,
        scheme=scheme,
        seed=gathered.seed,
        keys=keys,
        cache=gathered.cache,
        title=title,
    )
    texts = made.texts(side.loaded.tokenizer)
    return [texts[row * samples : (row + 1) * samples] for row in range(len(prefixes))]
