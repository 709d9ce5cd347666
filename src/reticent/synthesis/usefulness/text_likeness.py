# SPDX-License-Identifier: Apache-2.0
"""How like real held-out text another sample of texts is: divergence, lengths, labels and topics, with intervals.

Both samples are drawn again: real texts by their users, synthetic ones each by itself. A histogram of a small sample
looks unlike that of another one even where both come from the same place; the resamples say by how much, and the
value is set right by it. What is left of that shows in the row of real text, which is a sample too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.stats.resampling import cluster_weights
from reticent.stats.user_bootstrap import owners
from reticent.synthesis.usefulness.frontier_area import covered, frontier_area, overlap, smoothed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
N_BOOT = 400
BINS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class TextSample:
    """Texts as they are compared.

    Args:
        group: ``[N]`` of each text, from 0, of the groups of all samples together.
        words: ``[N]`` how many each has.
        label: ``[N]`` number of its label; empty without labels.
        users: ``[N]`` whose it is; None where each is by itself.
    """

    group: Ints
    words: Ints
    label: Ints
    users: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.group)


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How alike two samples are; fields as in `reticent.core.text_utility.TextUtility`."""

    likeness: Estimate
    lengths: Estimate
    topics: Estimate
    labels: Estimate | None


def likeness_of(real: TextSample, other: TextSample, *, seed: int = 0) -> Likeness:
    """Compare a sample with real held-out text.

    Args:
        real: held-out texts.
        other: another sample, of about as many texts.
        seed: of the resamples.

    Raises:
        Underpowered: texts of one user.
    """
    draws = _Draws(real=real, other=other, seed=seed)
    groups = int(max(real.group.max(), other.group.max())) + 1
    edges = np.unique(np.quantile(real.words, np.linspace(0, 1, BINS + 1)[1:-1]))
    lengths = [np.searchsorted(edges, sample.words, side="right") for sample in (real, other)]
    labels = None
    if len(real.label) and len(other.label):
        kinds = int(max(real.label.max(), other.label.max())) + 1
        labels = draws.compared(real.label, other.label, kinds, lambda p, q: overlap(_shares(p), _shares(q)))
    return Likeness(
        likeness=draws.compared(
            real.group, other.group, groups, lambda p, q: frontier_area(smoothed(p), smoothed(q))
        ),
        lengths=draws.compared(
            lengths[0], lengths[1], len(edges) + 1, lambda p, q: overlap(_shares(p), _shares(q))
        ),
        topics=draws.compared(real.group, other.group, groups, lambda p, q: covered(_shares(p), q)),
        labels=labels,
    )  # fmt: skip


def _shares(counts: Floats) -> Floats:
    shares: Floats = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-300)
    return shares


class _Draws:
    """Resamples of both samples, the same for all that is compared."""

    def __init__(self, *, real: TextSample, other: TextSample, seed: int) -> None:
        sides = []
        for number, sample in enumerate((real, other)):
            owner = owners(len(sample), sample.users)
            users = int(owner.max(initial=-1)) + 1
            if users < 2:
                raise Underpowered(f"{len(sample)} texts of {users} users", "their spread cannot be told", "Use more.")
            sides.append((cluster_weights(users, n_boot=N_BOOT, seed=seed + number)[owner], users))
        (self.real, real_users), (self.other, other_users) = sides
        self.users, self.n = min(real_users, other_users), len(real) + len(other)

    def compared(
        self, real: npt.NDArray[np.integer], other: npt.NDArray[np.integer], kinds: int,
        by: Callable[[Floats, Floats], Floats],
    ) -> Estimate:  # fmt: skip
        """The estimate of a number of two histograms.

        Args:
            real, other: the kind of each text, from 0.
            kinds: how many there are.
            by: gives ``[B]`` out of counts ``[B, K]`` twice.
        """
        values = by(counts_of(real, self.real, kinds), counts_of(other, self.other, kinds))
        return corrected(values, users=self.users, n=self.n)


def counts_of(kind: npt.NDArray[np.integer], weight: Floats, kinds: int) -> Floats:
    """``[B, K]``: how often each kind is there in each resample."""
    there = np.zeros((kinds, len(kind)))
    there[kind, np.arange(len(kind))] = 1.0
    counts: Floats = (there @ weight).T
    return counts


def corrected(resampled: Floats, *, users: int, n: int, confidence: float = 0.95) -> Estimate:
    """The estimate of a share from its resamples ``[1 + B]``, the first being the sample itself.

    What resamples lose against the sample, the sample lost against what it was drawn from (to first order), so it is
    added. The interval goes from Student's t around the value as it is to that around the corrected one.
    """
    value, draws = float(resampled[0]), resampled[1:]
    right = min(max(2 * value - float(draws.mean()), 0.0), 1.0)
    half = float(student.ppf((1 + confidence) / 2, users - 1)) * float(draws.std())
    if half < 1e-12:  # no draw differs: as for a share of which no exception was seen
        half = 1 - ((1 - confidence) / 2) ** (1 / users)
    return Estimate(
        value=right,
        lo=min(max(min(value, right) - half, 0.0), right),
        hi=max(min(max(value, right) + half, 1.0), right),
        n=n,
        method=f"both samples resampled, bias corrected, Student t over {users}",
        confidence=confidence,
        higher_is_worse=False,
    )
