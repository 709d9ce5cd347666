# SPDX-License-Identifier: Apache-2.0
"""RMIA, offline: a member's gain over the reference beats the gain of most texts that are known to be outside.

The attacker sees log-probabilities of the target, holds the base model, and a population of texts that were not trained
on (``known`` held-out records of the split, never records that are evaluated). The score has steps of one over the
size of that population.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.core import validate
from reticent.core.table import TokenTable


def _ratio(table: TokenTable, ref: TokenTable, a: float) -> Scores:
    """``p_T(x) / p(x)`` with ``p = exp(mean log-probability)`` and ``p(x)`` estimated from models without ``x``."""
    out = np.exp(ref.mean(ref["logp"]))
    return np.exp(table.mean(table["logp"])) / ((1 + a) / 2 * out + (1 - a) / 2)


def edge_cases(
    table: TokenTable, ref: TokenTable, known: TokenTable, known_ref: TokenTable, *, a: float = 0.3, gamma: float = 1.0
) -> Mapping[str, int]:
    """How many rows tie at the highest score."""
    tied = rmia(table, ref, known, known_ref, a=a, gamma=gamma) == 1
    return {f"above all {len(known):,} population texts (tied at the highest score)": int(tied.sum())}


@attack("rmia", needs=("logp",), access="logprob", paper="arXiv:2312.03262", edge_cases=edge_cases)
def rmia(
    table: TokenTable, ref: TokenTable, known: TokenTable, known_ref: TokenTable, *, a: float = 0.3, gamma: float = 1.0
) -> Scores:
    """Share of known non-members whose likelihood ratio the text beats by a factor.

    ``Pr_z[(p_T(x)/p(x)) / (p_T(z)/p(z)) >= gamma]``; with one reference that saw neither,
    ``p(x) = (1+a)/2·p_ref(x) + (1-a)/2``.

    Args:
        table: the target on the text.
        ref: the reference on the text.
        known: the target on the population.
        known_ref: the reference on the population.
        a: in [0, 1]: how close models that saw a text are taken to be to those that did not; 1 = the same.
        gamma: the factor, greater than 0.

    Returns ``[N]``, in [0, 1], higher = member; NaN for empty rows.
    """
    validate.non_negative(a=a)
    validate.in_range(-1, 1, a=a)
    validate.positive(gamma=gamma)
    ratio = _ratio(table, ref, a)
    population = gamma * np.sort(_ratio(known, known_ref, a))
    share = np.searchsorted(population, ratio, side="right") / len(population)
    return np.where(np.isnan(ratio), np.nan, share)
