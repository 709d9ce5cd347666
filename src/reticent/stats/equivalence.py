# SPDX-License-Identifier: Apache-2.0
"""Two-sided verdict on unlearning: are forget rows like rows that were never trained on, still known, or conspicuous?

A large p-value is no evidence that two groups are alike. So likeness is what has to be shown: two one-sided tests that
the AUC of forget against unseen rows lies within 0.5 ± margin (Schuirmann, doi:10.1007/BF01068419). With ``α = 1 -
confidence``, divided by the number of looks:

=======================  ===============================================  ============================================
verdict                  said when                                        error, at most
=======================  ===============================================  ============================================
like unseen              the (1 - 2α) interval of every attack lies       α, whenever the AUC of some attack is
                         within 0.5 ± margin                              outside of the margin
still known              not the first, and an attack's joint (1 - α)     α for both departures together, when no
                         interval lies above 0.5                          attack can tell the rows apart; α / 2 for
marked by its absence    not the first, and such an interval lies         one in the wrong direction (one attack)
                         below 0.5
too few to tell          none of these                                    nothing is claimed
=======================  ===============================================  ============================================

Likeness by all attacks needs no correction for their number: each has to pass (intersection-union test, Berger,
doi:10.1080/00401706.1982.10487790). A departure by any attack does: the intervals hold together (max-T,
`reticent.stats.simultaneous`). Where an AUC is shown to differ from 0.5 by less than the margin, both are true, and the
margin, which was fixed beforehand, decides: like unseen. ``beyond_margin`` says that even the margin is exceeded.

Direction: scores are higher where a row looks more like a member; AUC above 0.5 means that forget rows are still known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.validate import in_range, positive, same_length
from reticent.stats.hypothesis import family_confidence
from reticent.stats.roc import placements
from reticent.stats.scores import Floats, as_scores
from reticent.stats.simultaneous import DRAWS, MemberSides, Number, auc_number, sides, together

EquivalenceVerdict = Literal["like unseen", "still known", "marked by its absence", "too few to tell"]
VERDICTS: tuple[EquivalenceVerdict, ...] = get_args(EquivalenceVerdict)
LARGEST_MARGIN = 0.2
"""Likeness within more than this is no likeness: the claim is not made then."""
MIN_UNITS = 3
"""Users (rows, where there are no users) on each side, below which likeness is not claimed: the spread of two users is
no ground for it (false in 8 % of simulated cases instead of 5 %). More rows are needed in any case."""
TAIL_DRAWS = 20
"""Multipliers beyond the limit of max-T that it takes; at smaller levels Bonferroni's correction takes its place."""


@dataclass(frozen=True, kw_only=True)
class AttackLikeness:
    """One attack's part in the verdict.

    Args:
        attack: its name.
        auc: chance that a forget row scores above an unseen one, with the interval that holds together with those of
            the other attacks.
        equivalence: the same AUC with the interval that has to lie within the margin: by itself, both tails α.
        verdict: of this attack; the error of a likeness is its own, that of a departure is joint.
        beyond_margin: true if the joint interval lies outside of 0.5 ± margin altogether.
    """

    attack: str
    auc: Estimate
    equivalence: Estimate
    verdict: EquivalenceVerdict
    beyond_margin: bool


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """The verdict of all attacks on the same rows, and what it rests on.

    Args:
        verdict: one of ``VERDICTS``.
        reason: one sentence, for people.
        margin: half-width of the band around 0.5.
        attacks: in the order in which they were given.
        forget, unseen: how many units (users, or rows where there are no users) each side has.
        confidence: 1 - α, before it is divided by looks.
        looks: how often the question is asked, of which each may end it.
    """

    verdict: EquivalenceVerdict
    reason: str
    margin: float
    attacks: tuple[AttackLikeness, ...]
    forget: int
    unseen: int
    confidence: float
    looks: int


def equivalence(
    scores: Mapping[str, ArrayLike],
    forget: ArrayLike,
    *,
    margin: float,
    users: ArrayLike | None = None,
    confidence: float = 0.95,
    looks: int = 1,
    seed: int = 0,
) -> Likeness:
    """The verdict on forget rows against unseen rows, by several attacks at once.

    Fix ``margin`` before scores are seen (`reticent.stats.equivalence_margin.plan_equivalence`). Rows of one user are
    not independent: with ``users`` each user is one unit (DeLong's influences summed by user). Units that are too few
    (`MIN_UNITS` a side) or a margin above `LARGEST_MARGIN` cannot show likeness; a departure that they do show is
    still said.

    Args:
        scores: attack → ``[N]``, higher = more likely a member; the same rows in the same order for all.
        forget: ``[N]`` bool: true for rows that were to be forgotten, false for rows that were never trained on.
        margin: in (0, 0.5).
        users: ``[N]`` whose row it is; None where rows are independent. A user may have rows on both sides.
        confidence: 1 - α of the whole verdict.
        looks: how many such verdicts are made on the way, the first favourable of which would be taken: α is divided
            by it.
        seed: of max-T's multipliers.

    Raises:
        BadInput: no attack, NaN, lengths that differ, an empty side, or a margin or a number of looks that is none.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> forget = np.arange(600) < 300
        >>> alike = equivalence({"loss": rng.normal(size=600)}, forget, margin=0.1)
        >>> alike.verdict
        'like unseen'
        >>> equivalence({"loss": rng.normal(size=600) + 3 * forget}, forget, margin=0.1).verdict
        'still known'
        >>> equivalence({"loss": rng.normal(size=600) - 3 * forget}, forget, margin=0.1).verdict
        'marked by its absence'
        >>> equivalence({"loss": rng.normal(size=20)}, forget[290:310], margin=0.1).verdict
        'too few to tell'
    """
    in_range(0, 0.4999999, margin=margin)
    in_range(0, 1, confidence=confidence)
    positive(looks=looks)
    of = _sides(scores, forget, users)
    counts = of.count(of.member), of.count(~of.member)
    miss = (1 - confidence) / looks
    enough = min(counts) >= MIN_UNITS and margin <= LARGEST_MARGIN + 1e-9
    rows = _rows(scores, of, miss=miss, margin=margin, enough=enough, seed=seed)
    verdict = together_verdict([row.verdict for row in rows], [row.auc for row in rows])
    return Likeness(
        verdict=verdict,
        reason=_reason(verdict, rows, counts, margin),
        margin=margin,
        attacks=tuple(rows),
        forget=counts[0],
        unseen=counts[1],
        confidence=confidence,
        looks=looks,
    )


def together_verdict(verdicts: Sequence[EquivalenceVerdict], aucs: Sequence[Estimate]) -> EquivalenceVerdict:
    """The verdict of all attacks: likeness by all of them, or else the departure that is furthest from 0.5.

    >>> wide = Estimate(value=0.5, lo=0.4, hi=0.6, n=9, method="")
    >>> together_verdict(["like unseen", "too few to tell"], [wide, wide])
    'too few to tell'
    """
    if all(verdict == "like unseen" for verdict in verdicts):
        return "like unseen"
    far = [
        (max(auc.lo - 0.5, 0.5 - auc.hi), verdict)
        for verdict, auc in zip(verdicts, aucs, strict=True)
        if verdict in ("still known", "marked by its absence")
    ]
    return max(far, key=lambda pair: pair[0])[1] if far else "too few to tell"


def _sides(scores: Mapping[str, ArrayLike], forget: ArrayLike, users: ArrayLike | None) -> MemberSides:
    """The two groups, refused where one is empty or lengths differ."""
    if not scores:
        raise BadInput("scores", "holds no attack", "Give the scores of at least one attack.")
    side = np.asarray(forget)
    if side.dtype != np.bool_:
        raise BadInput(f"forget of {side.dtype}", "must be true or false for each row", "Give a boolean array.")
    names = None if users is None else np.asarray(users).astype(str).astype(object)
    for score in scores.values():
        same_length(forget=side, scores=np.atleast_1d(np.asarray(score)), users=side if names is None else names)
    for group, rows in (("forget", side), ("unseen", ~side)):
        if not rows.any():
            raise BadInput(f"no {group} rows", "there is nothing to compare", "Give rows on both sides.")
    return sides(side, names)


def _rows(
    scores: Mapping[str, ArrayLike], of: MemberSides, *, miss: float, margin: float, enough: bool, seed: int
) -> list[AttackLikeness]:
    values = {name: as_scores(score, name=name) for name, score in scores.items()}
    if min(of.count(of.member), of.count(~of.member)) < 2:
        return [
            _row(name, _nothing(score, of, 1 - miss), _nothing(score, of, 1 - 2 * miss), margin, enough=False)
            for name, score in values.items()
        ]
    numbers = [auc_number(score, of) for score in values.values()]
    joint = _joint(numbers, miss, seed)
    plain = [together([number], confidence=1 - 2 * miss)[0] for number in numbers]
    return [
        _row(name, auc, replace(tested, alone=None), margin, enough=enough)
        for name, auc, tested in zip(values, joint, plain, strict=True)
    ]


def _joint(numbers: Sequence[Number], miss: float, seed: int) -> list[Estimate]:
    """Intervals that all hold with probability ``1 - miss``; by Bonferroni where max-T would need more draws."""
    if miss * DRAWS >= TAIL_DRAWS:
        estimates = together(numbers, confidence=1 - miss, seed=seed)
    else:
        single = family_confidence(1 - miss, len(numbers))
        estimates = [together([number], confidence=single)[0] for number in numbers]
    return estimates if len(estimates) == 1 else [replace(estimate, joint=1 - miss) for estimate in estimates]


def _nothing(score: Floats, of: MemberSides, confidence: float) -> Estimate:
    """The AUC of a side of a single user, whose spread cannot be told: an interval that excludes nothing."""
    value = float(placements(score[of.member], score[~of.member]).member.mean())
    method = "no interval: the rows of one side are of 1 user"
    return Estimate(value=value, lo=0.0, hi=1.0, n=len(score), method=method, confidence=confidence)


def _row(attack: str, auc: Estimate, tested: Estimate, margin: float, *, enough: bool) -> AttackLikeness:
    verdict: EquivalenceVerdict = "too few to tell"
    if enough and 0.5 - margin < tested.lo and tested.hi < 0.5 + margin:
        verdict = "like unseen"
    elif auc.lo > 0.5:
        verdict = "still known"
    elif auc.hi < 0.5:
        verdict = "marked by its absence"
    beyond = auc.lo > 0.5 + margin or auc.hi < 0.5 - margin
    return AttackLikeness(attack=attack, auc=auc, equivalence=tested, verdict=verdict, beyond_margin=beyond)


def _reason(verdict: EquivalenceVerdict, rows: Sequence[AttackLikeness], counts: tuple[int, int], margin: float) -> str:
    units = f"{counts[0]} forget and {counts[1]} unseen units"
    if verdict == "like unseen":
        return f"By every attack the AUC lies within 0.5 ± {margin:.3g}, on {units}."
    if verdict == "too few to tell":
        if min(counts) < MIN_UNITS:
            return f"There are {units}; likeness takes at least {MIN_UNITS} of each."
        if margin > LARGEST_MARGIN + 1e-9:
            return (
                f"So few units, {units}, show no margin of {LARGEST_MARGIN:g} or less, and no attack tells them apart."
            )
        wide = [row.attack for row in rows if row.verdict != "like unseen"]
        return f"On {units} neither a likeness within 0.5 ± {margin:.3g} nor a departure shows: {', '.join(wide)}."
    far = max((row for row in rows if row.verdict == verdict), key=lambda row: max(row.auc.lo - 0.5, 0.5 - row.auc.hi))
    side = "above" if verdict == "still known" else "below"
    amount = "the whole margin" if far.beyond_margin else "0.5"
    return f"By {far.attack} the AUC {far.auc.value:.3f} [{far.auc.lo:.3f}, {far.auc.hi:.3f}] lies {side} {amount}."
