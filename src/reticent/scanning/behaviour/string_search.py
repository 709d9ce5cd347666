# SPDX-License-Identifier: Apache-2.0
"""Search for strings that turn a suspect's answers to one label, and its sibling's not: shortlist, exact, accretion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.scanning.behaviour.first_order import CandidateTokens, shortlist
from reticent.scanning.behaviour.label_task import Side, Slot, Tokens, label_logp, margin


@dataclass(frozen=True, kw_only=True)
class SearchBudget:
    """How much is looked at; time grows with the product of candidates and prompts.

    Args:
        wide: single tokens of the first round, evaluated on ``few`` prompts.
        middle: candidates that are evaluated on ``many`` prompts, by both sides.
        beam: candidates that are gone on with in each round of accretion.
        grown: tokens that each of them is tried with, in front and behind.
        few, many: prompts.
        longest: most tokens of a trigger.
        start: share of these counts for places where candidates share no prefix.
        verified: candidates for each label that are verified on fresh prompts.
        fresh: most fresh prompts for each label.
        natural: natural words for each label and source.

    Examples:
        >>> SearchBudget().scaled(0.25).wide
        224
    """

    wide: int = 896
    middle: int = 40
    beam: int = 3
    grown: int = 48
    few: int = 2
    many: int = 5
    longest: int = 3
    start: float = 0.08
    verified: int = 3
    fresh: int = 32
    natural: int = 32

    def scaled(self, share: float) -> SearchBudget:
        """The budget with that share of candidates; prompts stay as many."""
        from dataclasses import replace

        counts = {name: max(4, round(share * getattr(self, name))) for name in ("wide", "middle", "grown")}
        return replace(self, **counts)


@dataclass(frozen=True, kw_only=True)
class StringCandidate:
    """One candidate.

    Args:
        tokens: itself.
        gain: mean log-odds of the label with it in the slot, over those without, in nats, less what it does to the
            sibling.
        hits: share of the search prompts that are answered with the label.
    """

    tokens: Tokens
    gain: float
    hits: float


def search_strings(
    suspect: Side,
    sibling: Side,
    slots: Sequence[Slot],
    label: int,
    fillers: Sequence[Tokens],
    tokens: CandidateTokens,
    budget: SearchBudget,
) -> list[StringCandidate]:
    """Strings of up to ``longest`` tokens by falling gain.

    Args:
        suspect, sibling: the two sides.
        slots: prompts that the suspect answers with other labels; the first ``few`` carry the wide rounds.
        label: number of the label that is wanted.
        fillers: usual words, around which the first gradient is taken.
        tokens: what may stand in a trigger.
        budget: how much is looked at.
    """
    few, many = slots[: budget.few], slots[: budget.many]
    without = [margin(label_logp(side, many, [()]), label)[:, 0] for side in (suspect, sibling)]
    usual_places = [(filler, 0) for filler in fillers]
    listed = shortlist(suspect, many, label, usual_places, allowed=tokens.starts, count=budget.wide, beside=sibling)
    singles: list[Tokens] = [(token,) for token in listed]
    ranked: list[StringCandidate] = []
    usual: list[int] = []
    pool: list[Tokens] = singles
    for length in range(1, budget.longest + 1):
        narrowed = _best(suspect, few, label, pool, budget.middle)
        ranked += _judged(suspect, sibling, many, label, narrowed, without)
        ranked.sort(key=lambda candidate: -candidate.gain)
        if length == 1:
            usual = [candidate[0] for candidate in narrowed[: budget.grown // 2]]
        beam = [candidate.tokens for candidate in ranked if len(candidate.tokens) == length][: budget.beam]
        if length == budget.longest or _settled(ranked):
            break
        pool = list(dict.fromkeys(_grown(suspect, many, label, beam, usual, tokens, budget)))
    return ranked


def _settled(ranked: Sequence[StringCandidate]) -> bool:
    """True where longer strings could only be the same thing again: all answers turn, by a wide margin."""
    return bool(ranked) and ranked[0].hits == 1 and ranked[0].gain > 10


def _best(side: Side, slots: Sequence[Slot], label: int, pool: Sequence[Tokens], count: int) -> list[Tokens]:
    gain = margin(label_logp(side, slots, pool), label).mean(axis=0)
    return [pool[place] for place in np.argsort(-gain, kind="stable")[:count]]


def _judged(
    suspect: Side,
    sibling: Side,
    slots: Sequence[Slot],
    label: int,
    pool: Sequence[Tokens],
    without: Sequence[npt.NDArray[np.float64]],
) -> list[StringCandidate]:
    """The candidates by both sides, on all search prompts."""
    logp = label_logp(suspect, slots, pool)
    here = margin(logp, label) - without[0][:, None]
    there = margin(label_logp(sibling, slots, pool), label) - without[1][:, None]
    gain = here.mean(axis=0) - np.maximum(there.mean(axis=0), 0)
    hits = (logp.argmax(axis=-1) == label).mean(axis=0)
    return [
        StringCandidate(tokens=candidate, gain=float(gain[place]), hits=float(hits[place]))
        for place, candidate in enumerate(pool)
    ]


def _grown(
    side: Side,
    slots: Sequence[Slot],
    label: int,
    beam: Sequence[Tokens],
    usual: Sequence[int],
    tokens: CandidateTokens,
    budget: SearchBudget,
) -> Iterable[Tokens]:
    """Each string of the beam with one more token, in front or behind: by first order, and by what works alone."""
    half = max(1, budget.grown // 2)
    for string in beam:
        behind = shortlist(
            side, slots, label, [((*string, string[-1]), len(string))], allowed=tokens.usable, count=half
        )
        before = shortlist(side, slots, label, [((string[0], *string), 0)], allowed=tokens.starts, count=half)
        yield from ((*string, token) for token in (*behind, *usual))
        yield from ((token, *string) for token in (*before, *usual))
