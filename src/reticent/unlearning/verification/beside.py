# SPDX-License-Identifier: Apache-2.0
"""The unlearned model beside its controls: columns that most tables of the checks share, and differences to retrained
models that allow for both rows and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from reticent.core.finding import Estimate
from reticent.core.section import Cell, Column, Mark
from reticent.core.unlearning import Measurement
from reticent.core.unlearning_words import MARKED, STILL_KNOWN
from reticent.stats.proportions import paired_difference
from reticent.unlearning.verification.check import Judging

Floats = npt.NDArray[np.float64]
Owners = npt.NDArray[np.object_] | None


def beside_columns(first: Column, *, metric: str = "", words: bool = True) -> tuple[Column, ...]:
    """``first``, then the unlearned model, the word for it, and the untouched, the retrained and the base model."""
    word = (Column(name="word", label="Verdict", kind="mark"),) if words else ()
    estimates = [
        Column(name=name, label=label, kind="estimate", metric=metric, about=about, unit=False)
        for name, label, about in (
            ("unlearned", "Unlearned", ""),
            ("untouched", "Untouched", "the tuned model before unlearning"),
            (
                "retrained",
                "Retrained",
                "made without the forget set: mean of the models, and the hull of their intervals",
            ),
            ("base", "Base", "before any tuning"),
        )
    ]
    return (first, estimates[0], *word, *estimates[1:])


def beside_cells(
    first: Cell, by_model: Mapping[str, Estimate], judging: Judging, *, word: str | None = None
) -> tuple[Cell, ...]:
    """One row of a table with `beside_columns`.

    Args:
        first: heads the row.
        by_model: estimates by the model's name; a model may be missing.
        judging: names the models.
        word: that the check came to; None where the table has no words.
    """
    marks: tuple[Cell, ...] = () if word is None else (marked(word),)
    base = judging.base
    return (
        first,
        by_model.get(judging.after.name),
        *marks,
        by_model.get(judging.before.name),
        hull([by_model[model.name] for model in judging.retrained if model.name in by_model]),
        None if base is None else by_model.get(base.name),
    )


def marked(word: str) -> Mark | None:
    """The cell of a word; None for none."""
    return Mark(text=word, raised=word in (STILL_KNOWN, MARKED)) if word else None


def hull(estimates: Sequence[Estimate]) -> Estimate | None:
    """The mean of several models' values between the outermost ends of their intervals; None of none."""
    if not estimates:
        return None
    return replace(
        estimates[0],
        value=float(np.mean([estimate.value for estimate in estimates])),
        lo=min(estimate.lo for estimate in estimates),
        hi=max(estimate.hi for estimate in estimates),
        method=f"mean of {len(estimates)} models, hull of their intervals; {estimates[0].method}",
        alone=None,
    )


def gap_to_retrained(after: Floats, retrained: Sequence[Floats], owners: Owners, *, confidence: float) -> Estimate:
    """How much more of something in [0, 1] the unlearned model has than retrained models, row by row.

    The interval allows for the rows that were drawn and, from two retrained models on, for the seed: both distances
    from the value are added in squares (doi:10.1002/sim.3095).

    Args:
        after: ``[F]`` of the unlearned model.
        retrained: ``[F]`` of each retrained model, at least one.
        owners: ``[F]``; None where rows are independent.
        confidence: two-sided coverage.

    Raises:
        Underpowered: the rows of a single owner.
    """
    gap = paired_difference(after, np.mean(np.stack(retrained), axis=0), owners, confidence=confidence)
    return wider(gap, [float(values.mean()) for values in retrained], confidence)


def wider(gap: Estimate, retrained: Sequence[float], confidence: float) -> Estimate:
    """A difference in [-1, 1] to the mean of retrained models with their spread by seed added to its interval."""
    half = seed_half(retrained, confidence)
    return replace(
        gap,
        lo=max(-1.0, gap.value - math.hypot(gap.value - gap.lo, half)),
        hi=min(1.0, gap.value + math.hypot(gap.hi - gap.value, half)),
        method=f"{gap.method}; and the spread of {len(retrained)} retrained models",
    )


def seed_half(retrained: Sequence[float], confidence: float) -> float:
    """Half width of the prediction interval of one more retrained model; 0 of a single one, whose seed stays unknown.

    >>> round(seed_half([2.1, 1.9, 2.2, 2.0, 1.8], 0.95), 2)
    0.48
    """
    means = np.asarray(retrained, dtype=np.float64)
    if len(means) < 2:
        return 0.0
    wide = float(student.ppf((1 + confidence) / 2, len(means) - 1))
    return wide * float(means.std(ddof=1)) * math.sqrt(1 + 1 / len(means))


def differences_measured(
    gaps: Mapping[str, Estimate], words: Mapping[str, str], judging: Judging, *, check: str, metric: str
) -> list[Measurement]:
    """For machines: the unlearned model minus the retrained ones, by what was measured; 0 is the aim."""
    after = judging.after
    return [
        Measurement(
            check=check,
            model=after.name,
            role=after.role,
            what=f"{what}, minus retrained",
            metric=metric,
            estimate=gap,
            word=words[what],
            chance=0.0,
        )
        for what, gap in gaps.items()
    ]
