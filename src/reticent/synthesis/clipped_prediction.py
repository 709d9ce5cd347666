# SPDX-License-Identifier: Apache-2.0
"""One token of private prediction: scores out of logits, the tokens that may be chosen, and the choice.

    s(v) = p(v) + Σ_units clip(mean over the unit's records of (l(v) - p(v)), C) / B

where p are the logits after the public prompt, l those after a prompt with a private record in it, and clip bounds each
difference to [-C, C]. What a unit adds is bounded *before* anything is summed, and B is a fixed number: so a unit that
goes moves no score by more than C/B. Were the mean clipped instead, one unit could move it by C.

Tokens are chosen with chance ∝ exp(s/τ) among Top-k⁺. With B units the sum is within [-C, C] of p, so the k best tokens
by s have a score of at least (k-th largest p) - C, and hence p of at least (k-th largest p) - 2C. Those tokens may be
chosen; which they are depends on the public logits and on nothing else, so it costs nothing (InvisibleInk,
arXiv:2507.02974). Where more than B units came together, some of the k best may be missing, which costs nothing either.
No narrower band will do: where all B units lift a token by C and lower the others, it is among the k best from 2C below
(`naive_candidates`). A band of 2C/B, as the authors' experiments have it, is wide enough for one unit that departs from
the public logits alone, and not for B that agree, which is when private text shows in the words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from reticent.core.errors import BadInput


def contributions(
    public: torch.Tensor, private: torch.Tensor, owner: torch.Tensor, *, units: int, clip: float
) -> torch.Tensor:
    """``[units, V]``: the clipped difference of each unit.

    Args:
        public: ``[V]`` logits after the public prompt.
        private: ``[R, V]`` logits after the prompt with each private record.
        owner: ``[R]`` numbers of the units that these records are of.
        units: how many there are.
        clip: C.

    Raises:
        BadInput: logits that are not numbers.

    Examples:
        >>> public, private = torch.zeros(2), torch.tensor([[3.0, 0.0], [1.0, -0.5], [0.0, 0.5]])
        >>> contributions(public, private, torch.tensor([0, 1, 1]), units=2, clip=1.0)
        tensor([[1.0000, 0.0000],
                [0.5000, 0.0000]], dtype=torch.float64)
    """
    apart = private.double() - public.double()
    if not bool(torch.isfinite(apart).all()):
        raise BadInput("the model", "gives logits that are not numbers", "Load it in float32 (--dtype float32).")
    summed = torch.zeros(units, len(public), dtype=torch.float64, device=public.device).index_add_(0, owner, apart)
    counted = torch.bincount(owner, minlength=units).clamp(min=1).to(summed)
    return (summed / counted[:, None]).clamp(-clip, clip)


def scores_of(public: torch.Tensor, clipped: torch.Tensor, *, references: int) -> torch.Tensor:
    """``[V]`` float64: scores, of public logits ``[V]`` and clipped differences ``[units, V]``."""
    return public.double() + clipped.sum(dim=0) / references


def candidates(public: torch.Tensor, *, top_k: int, clip: float) -> torch.Tensor:
    """``[V]`` bool: Top-k⁺. A logit of -inf is no candidate.

    Examples:
        >>> candidates(torch.tensor([5.0, 4.0, 3.0, 1.0]), top_k=1, clip=0.5)
        tensor([ True,  True, False, False])
    """
    if top_k >= len(public):
        return public > -torch.inf
    least = public.double().topk(top_k).values[-1]
    return (public.double() >= least - 2 * clip) & (public > -torch.inf)


def naive_candidates(public: Sequence[float], *, top_k: int, clip: float) -> list[bool]:
    """`candidates` by what they are for: can clipped differences put this token among the ``top_k`` best by score?

    The best case for a token is that its own score rises by C and all others fall by C.

    >>> naive_candidates([5.0, 4.0, 3.0, 1.0], top_k=1, clip=0.5)
    [True, True, False, False]
    """
    return [
        sum(other - clip > logit + clip for place, other in enumerate(public) if place != token) < top_k
        for token, logit in enumerate(public)
    ]


def choose(scores: torch.Tensor, allowed: torch.Tensor, *, temperature: float, chance: float) -> int:
    """The token at which the cumulative probability exceeds ``chance``, a secret uniform number in [0, 1).

    In double precision: tokens that have a chance below 2^-53 may never be chosen, a gap that ε does not tell of.
    """
    shares = (scores / temperature).masked_fill(~allowed, -torch.inf).softmax(dim=0)
    rising = shares.cumsum(dim=0)
    drawn = int(torch.searchsorted(rising, chance * float(rising[-1]), right=True))
    if drawn < len(shares) and bool(allowed[drawn]):
        return drawn
    return int(allowed.nonzero()[-1])  # rounding at the very end


def choose_naively(
    public: Sequence[float],
    private: Sequence[Sequence[Sequence[float]]],
    *,
    clip: float,
    references: int,
    top_k: int,
    temperature: float,
    chance: float,
) -> int:
    """The slow, obvious way, number by number: the token that the functions above choose.

    Args:
        public: logits after the public prompt; -inf for a token that may not be chosen.
        private: for each unit, the logits after each of its records.
        clip, references, top_k, temperature, chance: as there.

    >>> choose_naively([0.0, 0.0], [[[9.0, 0.0]]], clip=1.0, references=1, top_k=2, temperature=1.0, chance=0.7)
    0
    """
    free = [token for token, logit in enumerate(public) if logit > -math.inf]
    scores = {}
    for token in free:
        scores[token] = public[token]
        for records in private:
            mean = math.fsum(logits[token] - public[token] for logits in records) / len(records)
            scores[token] += max(-clip, min(clip, mean)) / references
    least = sorted((public[token] for token in free), reverse=True)[min(top_k, len(free)) - 1] - 2 * clip
    allowed = [token for token in free if public[token] >= least or top_k >= len(free)]
    highest = max(scores[token] for token in allowed)
    weights = {token: math.exp((scores[token] - highest) / temperature) for token in allowed}
    wanted, total = chance * math.fsum(weights.values()), 0.0
    for token, weight in weights.items():
        total += weight
        if total > wanted:
            return token
    return allowed[-1]
