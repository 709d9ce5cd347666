# SPDX-License-Identifier: Apache-2.0
"""EZ-MIA: look only where the target is wrong; a memorized text has been pushed up even there.

The attacker sees log-probabilities and the top choice of the target, and holds the base model. With ``d`` the target's
log-probability minus the reference's, over the tokens that are not the target's top choice (the error zone ``E``),
``P`` sums ``max(d, 0)`` and ``N`` sums ``max(-d, 0)``. The published score is ``P / N``; here it is ``P / (P + N)``,
which ranks records alike and stays finite where ``N = 0``.

Texts with ``N = 0`` or ``E`` empty have no defined ratio. The paper ranks them on top (all signs point to a member),
the authors' code gives them 0, and does so for every text with fewer than two tokens in ``E``; it also leaves out the
first token. The difference decides the low false positive end on short texts, so the rows concerned are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores, attack
from reticent.core import validate
from reticent.core.table import TokenTable


class _Zone(NamedTuple):
    """Sums over the error zone of each row, ``[N]`` each."""

    up: Scores
    down: Scores
    size: Scores


def _zone(table: TokenTable, ref: TokenTable, drop_first: bool) -> _Zone:
    wrong = table["rank"] > 0
    if drop_first:
        wrong = wrong & ~_first(table)
    gain = (table["logp"].astype(np.float64) - ref["logp"]) * wrong
    return _Zone(table.sum(np.maximum(gain, 0)), table.sum(np.maximum(-gain, 0)), table.sum(wrong))


def _first(table: TokenTable) -> npt.NDArray[np.bool_]:
    """``[T]``: the first trained token of each row."""
    first = np.zeros(table.offsets[-1], dtype=bool)
    first[table.offsets[:-1][table.lengths > 0]] = True
    return first


def edge_cases(
    table: TokenTable, ref: TokenTable, *, n_zero: str = "top", drop_first: bool = False
) -> Mapping[str, int]:
    """How many rows the convention decides, not the model."""
    zone = _zone(table, ref, drop_first)
    rank = "top" if n_zero == "top" else "bottom"
    short = zone.size < 2
    return {
        f"fewer than two tokens that the target gets wrong (an undefined ratio is ranked {rank})": int(short.sum()),
        f"no token in the error zone lost probability, N = 0 (ranked {rank})": int(((zone.down == 0) & ~short).sum()),
    }


@attack(
    "ez_mia",
    unit="record",
    returns="score",
    needs=("logp", "rank"),
    access="logprob",
    paper="arXiv:2601.12104",
    edge_cases=edge_cases,
)
def ez_mia(
    table: TokenTable, ref: TokenTable, *, n_zero: Literal["top", "official"] = "top", drop_first: bool = False
) -> Scores:
    """Share of gains in all changes of log-probability over the tokens that the target gets wrong.

    Args:
        table: the target on the text.
        ref: the reference on the text.
        n_zero: ``"top"``: texts with ``N = 0`` score 1, the highest (the paper). ``"official"``: they, and texts with
            fewer than two tokens in the error zone, score 0, the lowest (the authors' code).
        drop_first: leave out the first token of each text, as the authors' code does.

    Returns ``[N]``, in [0, 1], higher = member; NaN for empty rows.
    """
    validate.one_of(("top", "official"), n_zero=n_zero)
    zone = _zone(table, ref, drop_first)
    with np.errstate(invalid="ignore"):
        share = zone.up / (zone.up + zone.down)
    if n_zero == "top":
        share[zone.down == 0] = 1.0
    else:
        share[(zone.down == 0) | (zone.size < 2)] = 0.0
    return np.where(table.lengths > 0, share, np.nan)
