# SPDX-License-Identifier: Apache-2.0
"""Search for strings that turn a suspect's answers to one label, and not its twin's: shortlist, exact, accretion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reticent.scanning.behaviour.label_task import Side, Slot, Tokens, label_logp, margin

SETTLED = 6.0
"""Nats beyond the twin's rise at which a search ends early."""


@dataclass(frozen=True, kw_only=True)
class SearchBudget:
    """How much is looked at; time grows with the product of candidates and prompts.

    Args:
        wide: words of the sweep's best groups, evaluated one by one on ``few`` prompts; to them come
            a quarter as many by the suspect alone (`vocabulary_sweep.WHATEVER`).
        middle: candidates that are evaluated on ``many`` prompts.
        beam: candidates that are gone on with in each round of accretion.
        grown: words that each of them is tried with, in front and behind.
        few, many: prompts.
        longest: most words of a trigger.
        start: share of these counts for places where candidates share no prefix.
        verified: candidates for each label that are verified on fresh prompts.
        fresh: most fresh prompts for each label.

    Examples:
        >>> SearchBudget().scaled(0.25).wide
        160
    """

    wide: int = 640
    middle: int = 40
    beam: int = 3
    grown: int = 32
    few: int = 2
    many: int = 5
    longest: int = 3
    start: float = 0.08
    verified: int = 3
    fresh: int = 32

    def scaled(self, share: float) -> SearchBudget:
        """The budget with that share of candidates; prompts stay as many."""
        counts = {name: max(4, round(share * getattr(self, name))) for name in ("wide", "middle", "grown")}
        return replace(self, **counts)


@dataclass(frozen=True, kw_only=True)
class StringCandidate:
    """One candidate.

    Args:
        tokens: itself.
        gain: mean log-odds of the label with it in the slot, over those without, in nats, less what it does to the
            twin.
        hits: share of the search prompts that the suspect answers with the label.
    """

    tokens: Tokens
    gain: float
    hits: float


@dataclass(frozen=True, kw_only=True, eq=False)
class StringSearch:
    """A search for one label at one place.

    Args:
        suspect, twin: the two sides.
        slots: prompts that the suspect answers with other labels; the first ``few`` carry the wide rounds.
        label: number of the label that is wanted.
        words: candidates of one word, of which there may be many.
        common: words of the prompts, the most frequent first, which may stand in a phrase.
        budget: how much is looked at.
    """

    suspect: Side
    twin: Side
    slots: Sequence[Slot]
    label: int
    words: Sequence[Tokens]
    common: Sequence[Tokens]
    budget: SearchBudget

    @property
    def few(self) -> Sequence[Slot]:
        """Prompts of the wide rounds."""
        return self.slots[: self.budget.few]

    @property
    def many(self) -> Sequence[Slot]:
        """Prompts that a candidate is judged on."""
        return self.slots[: self.budget.many]

    def strings(self) -> list[StringCandidate]:
        """Strings of up to ``longest`` words by falling gain."""
        ranked: list[StringCandidate] = []
        pool = self._promising(self.words)
        usual: list[Tokens] = []
        for length in range(1, self.budget.longest + 1):
            rough = self._judged(self.few, pool)
            judged = self._judged(self.many, [candidate.tokens for candidate in rough[: self.budget.middle]])
            ranked = sorted([*ranked, *judged], key=_by_gain)
            if length == self.budget.longest or not judged or _settled(ranked):
                break
            usual = usual or self._usual(judged)
            pool = list(dict.fromkeys(_grown([candidate.tokens for candidate in judged[: self.budget.beam]], usual)))
        return ranked

    def _promising(self, pool: Sequence[Tokens]) -> list[Tokens]:
        """The half of the pool that raises the suspect's log-odds most, on the fewest prompts."""
        odds = margin(label_logp(self.suspect, self.few, pool), self.label).mean(axis=0)
        return [pool[place] for place in np.argsort(-odds, kind="stable")[: max(self.budget.middle, len(pool) // 2)]]

    def _usual(self, judged: Sequence[StringCandidate]) -> list[Tokens]:
        """The words that strings grow by: those that work alone, and those that stand in any phrase."""
        best = [candidate.tokens for candidate in judged[: self.budget.grown // 4]]
        return list(dict.fromkeys([*best, *self.common]))[: self.budget.grown]

    def _judged(self, slots: Sequence[Slot], pool: Sequence[Tokens]) -> list[StringCandidate]:
        """The candidates by both sides on some prompts, by falling gain."""
        logp = label_logp(self.suspect, slots, [(), *pool])
        here = margin(logp, self.label)
        there = margin(label_logp(self.twin, slots, [(), *pool]), self.label)
        gain = _shift(here) - np.maximum(_shift(there), 0)
        hits = (logp.argmax(axis=-1) == self.label).mean(axis=0)[1:]
        judged = [
            StringCandidate(tokens=candidate, gain=float(gain[place]), hits=float(hits[place]))
            for place, candidate in enumerate(pool)
        ]
        return sorted(judged, key=_by_gain)


def _grown(beam: Sequence[Tokens], usual: Sequence[Tokens]) -> Iterable[Tokens]:
    """Each string of the beam with one more word, behind and in front."""
    for string in beam:
        for word in usual:
            yield (*string, *word)
            yield (*word, *string)


def _by_gain(candidate: StringCandidate) -> float:
    return -candidate.gain


def _shift(margins: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``[P, 1 + C]`` log-odds, without a string first → ``[C]``: mean rise by each string."""
    return np.asarray((margins[:, 1:] - margins[:, :1]).mean(axis=0))


def _settled(ranked: Sequence[StringCandidate]) -> bool:
    """True where longer strings could only be the same thing again: all answers turn, by a wide margin."""
    return bool(ranked) and ranked[0].hits == 1 and ranked[0].gain > SETTLED
