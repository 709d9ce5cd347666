# SPDX-License-Identifier: Apache-2.0
"""From scores to p-values: a suspect among clean models.

If the suspect is as clean as they are (exchangeable with them), each of the n + 1 ranks is as likely as the others, so
that ``p = (1 + #{clean ≥ suspect}) / (n + 1)`` is at most α with probability at most α, whatever the score. Nothing
below ``1 / (n + 1)`` can come of n clean models, and a level below it is refused before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput, Underpowered
from reticent.core.scan_results import ScanEvidence
from reticent.core.scan_words import CLEAN
from reticent.core.validate import in_range, non_negative, positive
from reticent.scanning.distances import DISTANCES, FEWEST, standardised
from reticent.scanning.features import FeatureVector
from reticent.scanning.scanner import Scanner
from reticent.scanning.suspect import Suspect

Found = TypeVar("Found")

DISTANCE = "mahalanobis"
"""Of `reticent.scanning.distances.DISTANCES`; the benchmark of adapters compares them."""
SHOWN = 5
"""Features that are shown."""
SAME = 1e-9
"""Scores that differ by less, relatively, are tied: of equal models sums come out otherwise in another order."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A scanner's answer on a suspect, beside its answers on clean models.

    Args:
        score: of the suspect; higher is worse.
        p: chance that one of so many clean models would score as high, at most.
        smallest_p: that so many clean models can give.
        clean_scores: of the clean models, in their order.
        evidence: places of the suspect, the worst first.
    """

    score: float
    p: float
    smallest_p: float
    clean_scores: tuple[float, ...]
    evidence: tuple[ScanEvidence, ...]


def calibrated(
    scanner: Scanner, suspect: Suspect, clean: Sequence[Suspect], *, distance: str = DISTANCE
) -> Calibration:
    """The p-value of a suspect among clean models, of which one at a time is in memory.

    For a scanner with features, the score is the distance of each model from all others
    (`reticent.scanning.distances`); else the largest score of its evidence, 0 where there is none.

    Args:
        scanner: with the null ``"clean"``.
        suspect: the model in question.
        clean: models of which it is known that they are clean, made or given; alike but for what is in question.
        distance: name in `reticent.scanning.distances.DISTANCES`.

    Raises:
        BadInput: the scanner has another null, a model cannot be looked at, gives no finite score, or models cannot be
            compared.
        Underpowered: fewer clean models than a p-value, or a distance, needs.
    """
    if scanner.null != CLEAN:
        raise BadInput(f"scanner {scanner.name!r}", f"compares with {scanner.null!r}, not with clean models", "Run it.")
    if distance not in DISTANCES:
        raise BadInput(f"distance={distance!r}", "is not known", f"Choose one of: {', '.join(sorted(DISTANCES))}.")
    _refuse_few(scanner, len(clean))
    evidence = tuple(scanner.look(suspect))
    if scanner.features is None:
        scores = [_largest(evidence), *(_largest(in_turn(scanner.look, model)) for model in clean)]
        return _ranked(scores, evidence)
    vectors = [scanner.features(suspect), *(in_turn(scanner.features, model) for model in clean)]
    _refuse_others(vectors, clean)
    models = np.stack([vector.values for vector in vectors])
    strange = _strangest(vectors[0].names, standardised(models)[0], models)
    return _ranked(DISTANCES[distance](models).tolist(), (*strange, *evidence))


def conformal_p(score: float, clean: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """``(1 + #{clean ≥ score}) / (n + 1)``: ties, also but for rounding, count against the alarm.

    >>> conformal_p(3.0, [1.0, 2.0, 2.5, 0.5]), conformal_p(2.0, [1.0, 2.0, 2.5, 0.5])
    (0.2, 0.6)
    """
    values = np.asarray(clean, dtype=np.float64)
    return (1 + int((values >= score - SAME * abs(score)).sum())) / (len(values) + 1)


def smallest_p(clean: int) -> float:
    """The smallest p-value that so many clean models can give.

    >>> smallest_p(19)
    0.05
    """
    non_negative(clean=clean)
    return 1 / (clean + 1)


def clean_models_needed(level: float, *, tests: int = 1) -> int:
    """Clean models without which no p-value can be at most ``level`` after Holm's correction for ``tests``.

    >>> clean_models_needed(0.05), clean_models_needed(0.05, tests=3)
    (19, 59)
    """
    in_range(0, 1, level=level)
    positive(tests=tests)
    return math.ceil(round(tests / level, 9)) - 1


def refuse_level(level: float, clean: int, *, tests: int = 1) -> None:
    """Refuse a level that so many clean models cannot support.

    Args:
        level: of false alarms, over all tests.
        clean: models that there are.
        tests: p-values that are corrected for each other.

    Raises:
        Underpowered: the smallest p-value is above it; says how many make it possible.

    Examples:
        >>> refuse_level(0.05, 8)
        Traceback (most recent call last):
            ...
        reticent.core.errors.Underpowered: 8 clean models: no p-value of theirs is below 0.111, and a level of 0.05 \
needs 0.05. 19 clean models make it possible.
    """
    needed = clean_models_needed(level, tests=tests)
    if clean < needed:
        raise Underpowered(
            f"{clean} clean models",
            f"no p-value of theirs is below {smallest_p(clean):.3g}, and a level of {level:g} "
            + (f"over {tests} tests " if tests > 1 else "")
            + f"needs {level / tests:.3g}",
            f"{needed} clean models make it possible.",
        )


def false_alarm_limit(alarms: int, n: int, confidence: float = 0.95) -> float:
    """Upper limit of the rate of false alarms after ``alarms`` on ``n`` clean models (Clopper-Pearson, one-sided).

    >>> round(false_alarm_limit(0, 20), 3), round(false_alarm_limit(0, 59), 3), round(false_alarm_limit(2, 60), 3)
    (0.139, 0.05, 0.101)
    """
    from reticent.stats.intervals import clopper_pearson_upper

    in_range(0, 1 - 1e-12, confidence=confidence)
    return float(clopper_pearson_upper(alarms, n, 1 - confidence))


def _refuse_few(scanner: Scanner, clean: int) -> None:
    needed = FEWEST - 1 if scanner.features is not None else 1
    if clean < needed:
        raise Underpowered(
            f"{clean} clean models",
            f"scanner {scanner.name!r} compares with at least {needed}",
            "Give a folder of them (--clean); 19 make a level of 5 % possible.",
        )


def _refuse_others(vectors: Sequence[FeatureVector], clean: Sequence[Suspect]) -> None:
    for model, vector in zip(clean, vectors[1:], strict=True):
        if vector.names != vectors[0].names:
            differing = [*sorted(set(vector.names) ^ set(vectors[0].names)), "its order of features"]
            raise BadInput(
                str(model.folder),
                f"cannot be compared with the suspect: only one of them has {differing[0]}",
                "Give clean models that were tuned in the same modules.",
            )


def in_turn(look: Callable[[Suspect], Found], model: Suspect) -> Found:
    """The answer about a model that is let go afterwards: there may be fifty-nine of them."""
    try:
        return look(model)
    finally:
        model.release()


def _largest(evidence: Sequence[ScanEvidence]) -> float:
    """The largest score, 0 without any; NaN where one is NaN."""
    return float(np.max([place.score for place in evidence])) if evidence else 0.0


def _ranked(scores: Sequence[float], evidence: Sequence[ScanEvidence]) -> Calibration:
    if not np.isfinite(scores).all():
        raise BadInput(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} models",
            "give scores that are no finite numbers, which have no rank",
            "Load them in float32 (--dtype), or leave those clean models out.",
        )
    score, *clean = scores
    return Calibration(
        score=float(score),
        p=conformal_p(score, clean),
        smallest_p=smallest_p(len(clean)),
        clean_scores=tuple(map(float, clean)),
        evidence=tuple(evidence),
    )


def _strangest(
    names: Sequence[str], distance: npt.NDArray[np.float64], models: npt.NDArray[np.float64]
) -> list[ScanEvidence]:
    """The features of the suspect that lie furthest from the clean models."""
    order = np.argsort(-np.abs(distance), kind="stable")[:SHOWN]
    return [
        ScanEvidence(
            score=float(abs(distance[place])),
            where=names[place],
            note=f"{abs(distance[place]):.1f} spreads {'above' if distance[place] > 0 else 'below'} the median of "
            f"{len(models) - 1} clean models",
        )
        for place in order
    ]
