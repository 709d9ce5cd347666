# SPDX-License-Identifier: Apache-2.0
"""WBC: compare target and reference over sliding windows of many widths and let each window cast one vote.

The attacker sees log-probabilities of the target and holds the base model. Votes are robust against a few tokens with
extreme losses. The paper's formula (eq. 12) and its code have different widths; both lists are here by name.

After long training, or where all texts are of one kind, every window is won on every text, and votes tell nothing
apart. Texts with equal votes are put in order by their mean gain, which moves no text past another that has more votes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores, attack
from reticent.attacks.parameter import Within
from reticent.core.errors import BadInput
from reticent.core.table import TokenTable

TIE = 1e-9
"""Most that the mean gain may add to a score: less than one vote of a window in any text that a model can read."""

Widths = Annotated[tuple[int, ...], Within("[1, inf)")]

WINDOWS: dict[str, tuple[int, ...]] = {
    "repository": (2, 3, 4, 6, 9, 13, 18, 25, 32, 40),
    "paper": (2, 3, 4, 5, 8, 11, 15, 21, 29, 40),
}
"""Widths in tokens: those of the authors' code, and ``round(2·20^((k-1)/9))`` for k = 1…10 from the paper."""


def _widths(windows: str | tuple[int, ...]) -> tuple[int, ...]:
    widths = WINDOWS.get(windows, ()) if isinstance(windows, str) else tuple(windows)
    if not widths or min(widths) < 1:
        raise BadInput(f"windows={windows!r}", "is no list of widths", f"Give widths or one of {', '.join(WINDOWS)}.")
    return widths


def edge_cases(
    table: TokenTable, ref: TokenTable, *, windows: str | tuple[int, ...] = "repository"
) -> Mapping[str, int]:
    """How many rows are too short for the widest window."""
    widest = max(_widths(windows))
    return {
        f"fewer than {widest} tokens, wider windows are cut to the text's length": int((table.lengths < widest).sum())
    }


@attack(
    "wbc",
    unit="record",
    returns="score",
    needs=("logp",),
    access="logprob",
    paper="arXiv:2601.02751",
    edge_cases=edge_cases,
)
def wbc(
    table: TokenTable,
    ref: TokenTable,
    *,
    windows: Literal["repository", "paper"] | Widths = "repository",
) -> Scores:
    """Share of sliding windows in which the target's loss is below the reference's, averaged over window widths.

    Of texts with the same share, the one that gained more per token stands higher, by less than ``TIE``.

    Args:
        table: the target on the text.
        ref: the reference on the text.
        windows: widths in tokens, or the name of a list in ``WINDOWS``. A width beyond the text's length is cut to it.

    Returns ``[N]``, in [0, 1] (and ``TIE`` beyond), higher = member; NaN for empty rows.
    """
    widths = _widths(windows)

    def votes(gain: npt.NDArray[np.float64]) -> Scores:
        rows, length = gain.shape
        sums = np.zeros((rows, length + 1))
        np.cumsum(gain, axis=1, out=sums[:, 1:])
        share = np.zeros(rows)
        for width in (min(width, length) for width in widths):
            windows_won = sums[:, width:] > sums[:, : length + 1 - width]
            share += np.add.reduce(windows_won, axis=1, dtype=np.int32) / (length + 1 - width)
        return share / len(widths) + TIE * np.arctan(gain.mean(axis=1)) / np.pi

    return table.by_length(table["logp"].astype(np.float64) - ref["logp"], votes)
