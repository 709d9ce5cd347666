# SPDX-License-Identifier: Apache-2.0
"""Evidence of the attacks on personal data, and its builder, which both models add to."""

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
    """The units of a piece of evidence, one for each of its rows; ``[N]`` each.

    Args:
        group: name of its row in the report.
        member: True where it was trained on.
        user: its owner; None where none is known.
        candidates: number of values that it is ranked among; 0 where it is not ranked.
        randomized: whether a coin of the package's own decided if it was trained on; empty: none of them.
    """

    group: tuple[str, ...]
    member: tuple[bool, ...]
    user: tuple[str | None, ...]
    candidates: tuple[int, ...]
    randomized: tuple[bool, ...] = ()

    def by_coin(self, group: str) -> bool:
        """True where such a coin decided for every unit of the group."""
        mine = [coin for name, coin in zip(self.group, self.randomized, strict=False) if name == group]
        return bool(mine) and all(mine)


@dataclass(frozen=True, kw_only=True, eq=False)
class PiiEvidence:
    """Evidence from both models.

    Args:
        units: of each piece of evidence, by its name (`attacks.evidence`) or by the tier of the probe.
        target, base: the evidence; no base without one.
        notes: one line for each kind of values that were left out, with the reason.
    """

    units: Mapping[str, EvidenceRows]
    target: Mapping[str, Any]
    base: Mapping[str, Any] | None
    notes: tuple[str, ...]


@dataclass(kw_only=True, eq=False)
class EvidenceBuilder:
    """Evidence while it is built.

    Args:
        models: the target, and the base where there is one.
        cache: content-addressed store of scores and generated texts.
        seed: of the sampling.
        units: of each piece of evidence, by name.
        evidence: pieces by name, for each model.
        left_out: number of values without evidence, by reason.
    """

    models: tuple[ScoredModel, ...]
    cache: Path
    seed: int
    units: dict[str, EvidenceRows] = field(default_factory=dict)
    evidence: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, units: EvidenceRows, pieces: Iterable[Any]) -> None:
        """Add a piece of evidence from every model, in the order of ``models``. Without units nothing is added."""
        if units.group:
            self.units[name] = units
            for evidence, piece in zip(self.evidence, pieces, strict=True):
                evidence[name] = piece


def rows_of(things: Sequence[Secret] | Sequence[PiiAssociation], candidates: Sequence[int]) -> EvidenceRows:
    return EvidenceRows(
        group=tuple(thing.group for thing in things),
        member=tuple(thing.member for thing in things),
        user=tuple(
            (thing.record.user or thing.record.id) if isinstance(thing, Secret) else thing.user for thing in things
        ),
        candidates=tuple(candidates),
        randomized=tuple(isinstance(thing, Secret) and thing.randomized for thing in things),
    )


def texts_after(
    model: ScoredModel,
    prefixes: Sequence[Sequence[int]],
    builder: EvidenceBuilder,
    *,
    tokens: int,
    keys: Sequence[str],
    title: str,
    samples: int = 1,
    scheme: Scheme = GREEDY,
) -> list[list[str]]:
    """For each prefix the texts that the model writes after it."""
    generations = make_generations(
        model,
        prefixes,
        max_new_tokens=tokens,
        samples=samples,
        scheme=scheme,
        seed=builder.seed,
        keys=keys,
        cache=builder.cache,
        title=title,
    )
    texts = generations.texts(model.loaded.tokenizer)
    return [texts[row * samples : (row + 1) * samples] for row in range(len(prefixes))]
