# SPDX-License-Identifier: Apache-2.0
"""RMIA, offline: a member's gain over the reference beats the gain of most texts that are known to be outside.

The attacker sees log-probabilities of the target, holds the base model, and a population of texts that were not trained
on (``known`` and ``spare`` held-out records of the split, never records that are evaluated).

The published score has steps of one over the size of the population, and texts that beat all of it share its top: with
few population texts no share of members can be found at a low false positive rate. Here texts on one step are put in
order by their plain likelihood ratio, which moves no text to another step.

With one reference model the score is nearly the loss: ``(1-a)/2`` is far above the probability of any text. It means
what the paper says with several reference models that did and did not see the text, so it is not in the standard set.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.parameter import Fraction, Positive
from reticent.core import validate
from reticent.core.table import TokenTable


def _ratio(table: TokenTable, ref: TokenTable, a: float) -> Scores:
    """``p_T(x) / p(x)`` with ``p = exp(mean log-probability)`` and ``p(x)`` estimated from models without ``x``."""
    out = np.exp(ref.mean(ref["logp"]))
    return np.exp(table.mean(table["logp"])) / ((1 + a) / 2 * out + (1 - a) / 2)


def _steps(
    table: TokenTable, ref: TokenTable, population: TokenTable, population_ref: TokenTable, a: float, gamma: float
) -> Scores:
    """``[N]``: how many of the population each text beats; NaN for empty rows."""
    ratio = _ratio(table, ref, a)
    thresholds = gamma * np.sort(_ratio(population, population_ref, a))
    return np.where(np.isnan(ratio), np.nan, np.searchsorted(thresholds, ratio, side="right"))


def edge_cases(
    table: TokenTable, ref: TokenTable, known: TokenTable, known_ref: TokenTable, *, a: float = 0.3, gamma: float = 1.0
) -> Mapping[str, int]:
    """How many rows lie on the highest step."""
    top = _steps(table, ref, known, known_ref, a, gamma) == len(known)
    return {f"above all {len(known):,} population texts (in order of their likelihood ratio)": int(top.sum())}


@attack(
    "rmia",
    unit="record",
    returns="score",
    needs=("logp",),
    access="logprob",
    paper="arXiv:2312.03262",
    edge_cases=edge_cases,
    by_name="with one reference model it is nearly the loss",
)
def rmia(
    table: TokenTable,
    ref: TokenTable,
    known: TokenTable,
    known_ref: TokenTable,
    *,
    a: Fraction = 0.3,
    gamma: Positive = 1.0,
) -> Scores:
    """Share of known non-members whose likelihood ratio the text beats by a factor; ties by the ratio itself.

    ``Pr_z[(p_T(x)/p(x)) / (p_T(z)/p(z)) >= gamma]``; with one reference that saw neither,
    ``p(x) = (1+a)/2·p_ref(x) + (1-a)/2``. Of texts that beat as many known non-members, the one with the larger
    ``p_T(x)/p_ref(x)`` stands higher.

    Args:
        table: the target on the text.
        ref: the reference on the text.
        known: the target on the population.
        known_ref: the reference on the population.
        a: in [0, 1]: how close models that saw a text are taken to be to those that did not; 1 = the same.
        gamma: the factor, greater than 0.

    Returns ``[N]``, in [0, 1], higher = member; NaN for empty rows. With ``Z`` known non-members, of which the text
    beats ``b``, it lies between ``b/(Z+1)`` and ``(b+1)/(Z+1)``.
    """
    validate.non_negative(a=a)
    validate.in_range(-1, 1, a=a)
    validate.positive(gamma=gamma)
    beaten = _steps(table, ref, known, known_ref, a, gamma)
    gain = table.mean(table["logp"]) - ref.mean(ref["logp"])
    within = 0.5 + np.arctan(gain) / np.pi
    return (beaten + within) / (len(known) + 1)
