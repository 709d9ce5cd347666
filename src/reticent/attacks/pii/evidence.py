# SPDX-License-Identifier: Apache-2.0
"""Evidence of attacks on personal data: how likely candidates are, what a model proposes, answers and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateRanking:
    """How likely one model finds the candidates of ``N`` places.

    Args:
        logp: ``[N]`` arrays ``[C]``, nats: of each candidate in its place.
        truth: ``[N]`` which of them is the true value.
    """

    logp: Sequence[Floats]
    truth: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.logp) != len(self.truth):
            raise ValueError("every place needs a true value")
        if not all(0 <= true < len(row) for row, true in zip(self.logp, self.truth, strict=True)):
            raise ValueError("a true value is not among its candidates")

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProposedFills:
    """Proposals of one model for ``N`` masked places, and how well each fits.

    Args:
        secrets: ``[N]`` the true values.
        values: ``[N]`` for each place the different values that were proposed; empty where there was none.
        perplexity: ``[N]`` arrays ``[C]``: of the whole text with each of them in place.
    """

    secrets: Sequence[str]
    values: Sequence[Sequence[str]]
    perplexity: Sequence[Floats]

    def __post_init__(self) -> None:
        if [len(row) for row in self.values] != [len(row) for row in self.perplexity]:
            raise ValueError("every proposal needs a perplexity")
        if len(self.secrets) != len(self.values):
            raise ValueError("every place needs a true value")

    def __len__(self) -> int:
        return len(self.secrets)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Answers of one model that was asked for ``N`` values.

    Args:
        secrets: ``[N]`` the true values.
        texts: ``[N]`` for each value the answers to all ways of asking.
    """

    secrets: Sequence[str]
    texts: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        if len(self.secrets) != len(self.texts):
            raise ValueError("every value needs its answers")

    def __len__(self) -> int:
        return len(self.secrets)


@dataclass(frozen=True, kw_only=True, eq=False)
class FreeMentions:
    """Personal data that one model writes without being asked.

    Args:
        secrets: ``[N]`` different true values.
        found: ``[M]`` different values that detectors found in what it wrote.
        text: all that it wrote.
    """

    secrets: Sequence[str]
    found: Sequence[str]
    text: str

    def __len__(self) -> int:
        return len(self.secrets)
