# SPDX-License-Identifier: Apache-2.0
"""Where one model lies among models that were trained likewise without the forget set: prediction intervals.

The only test of this package with power for a *single* person or record: how much a quantity varies from one retraining
to the next is measured on retrained models, whatever the number of rows it is averaged over. It assumes that retrained
models are draws of one Gaussian, and asks if the unlearned model could be one more draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr
from scipy.stats import t as student

from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range
from reticent.stats.hypothesis import family_confidence
from reticent.stats.scores import Floats, as_scores

MIN_RETRAINED = 3
"""Retrained models below which their spread is not known at all."""


@dataclass(frozen=True, kw_only=True)
class RetrainedPlace:
    """Where one quantity of the model lies.

    Args:
        quantity: its name.
        value: of the model in question.
        predicted: mean of the retrained models, with the interval in which one more of them is expected, jointly with
            the other quantities; ``n`` counts the retrained models.
        spread: standard deviation over retrained models.
        distance: ``(value - mean) / (spread·sqrt(1 + 1/k))``: Student's t with k - 1 degrees of freedom.
        p_value: of "a draw like the retrained ones", two-sided, adjusted for the number of quantities (Bonferroni).
        inside: true if the value lies in the interval.
    """

    quantity: str
    value: float
    predicted: Estimate
    spread: float
    distance: float
    p_value: float
    inside: bool


@dataclass(frozen=True, kw_only=True)
class AmongRetrained:
    """All quantities together.

    Args:
        places: one a quantity, in their order.
        inside: true if all lie in their intervals: of a retrained model it is so with at least ``confidence``.
        p_value: the smallest adjusted one.
        retrained: how many models.
        confidence: of all intervals together.
        departure_shown: departure from the mean, in standard deviations of retrained models, that would fall outside
            with probability 0.8. What lies nearer may go unseen.
    """

    places: tuple[RetrainedPlace, ...]
    inside: bool
    p_value: float
    retrained: int
    confidence: float
    departure_shown: float


def among_retrained(
    values: Mapping[str, float], retrained: Mapping[str, ArrayLike], *, confidence: float = 0.95
) -> AmongRetrained:
    """Prediction interval ``mean ± t(k - 1)·s·sqrt(1 + 1/k)`` for each quantity, all of them together by Bonferroni.

    With one quantity and k = 5 models at 95 % the interval is ± 3.04 s.

    Args:
        values: quantity → the model's value, such as its mean loss on the rows of a request.
        retrained: quantity → ``[k]``, the same of each retrained model. All quantities have the same k models.
        confidence: that all quantities of one more retrained model lie inside, at least.

    Raises:
        BadInput: names that differ, NaN or infinite numbers, models that differ in number.
        Underpowered: fewer than 3 retrained models, or models that do not differ at all (such as copies of one).

    Examples:
        >>> place = among_retrained({"loss": 2.0}, {"loss": [2.1, 1.9, 2.2, 2.0, 1.8]})
        >>> place.inside, round(place.places[0].predicted.lo, 2), round(place.places[0].predicted.hi, 2)
        (True, 1.52, 2.48)
        >>> among_retrained({"loss": 4.0}, {"loss": [2.1, 1.9, 2.2, 2.0, 1.8]}).inside
        False
    """
    in_range(0, 1, confidence=confidence)
    models = _models(values, retrained)
    single = family_confidence(confidence, len(models))
    places = [_place(name, float(values[name]), models[name], single, confidence) for name in values]
    k = len(next(iter(models.values())))
    return AmongRetrained(
        places=tuple(places),
        inside=all(place.inside for place in places),
        p_value=min(place.p_value for place in places),
        retrained=k,
        confidence=confidence,
        departure_shown=smallest_departure(k, confidence=single),
    )


@lru_cache(maxsize=256)
def smallest_departure(retrained: int, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Distance from the mean, in standard deviations, that falls outside of the interval with probability ``power``.

    Args:
        retrained: models, at least 3.
        confidence: of the interval of this quantity by itself.
        power: in (0, 1).

    Examples:
        >>> round(smallest_departure(5), 1), round(smallest_departure(20), 1)
        (4.1, 3.0)
    """
    in_range(0, 1, confidence=confidence, power=power)
    _enough(retrained)
    freedom = retrained - 1
    middles = (np.arange(1000) + 0.5) / 1000
    # Thresholds of a standard normal error, one for each thousandth of the spreads that retrained models may show.
    limits = float(student.ppf((1 + confidence) / 2, freedom)) * np.sqrt(chdtri(freedom, middles) / freedom)

    def missing(departure: float) -> float:
        return float((ndtr(departure - limits) + ndtr(-departure - limits)).mean()) - power

    if missing(0.0) >= 0:
        return 0.0
    return float(brentq(missing, 0.0, float(limits.max()) + 10)) * math.sqrt(1 + 1 / retrained)


def _models(values: Mapping[str, float], retrained: Mapping[str, ArrayLike]) -> dict[str, Floats]:
    if not values or set(values) != set(retrained):
        raise BadInput(
            f"quantities {sorted(values)} and {sorted(retrained)}",
            "must be the same, and at least one",
            "Measure each quantity on the model and on all retrained models.",
        )
    models = {name: as_scores(of, name=f"retrained {name}") for name, of in retrained.items()}
    if len({len(of) for of in models.values()}) > 1:
        raise BadInput("retrained", "quantities have different numbers of models", "Measure all on the same models.")
    for name, of in models.items():
        if not (np.isfinite(of).all() and math.isfinite(values[name])):
            raise BadInput(f"{name}", "is not finite for every model", "Mend the measurement.")
        _enough(len(of))
        if float(of.std()) <= 1e-12 * (1 + float(np.abs(of).max())):
            raise Underpowered(
                f"{name} of {len(of)} retrained models",
                "is the same for all of them, so no spread can be told",
                "Retrain with different seeds; if they were, take a quantity that is not cut off.",
            )
    return models


def _enough(retrained: int) -> None:
    if retrained < MIN_RETRAINED:
        raise Underpowered(
            f"{retrained} retrained models",
            "do not show how much retraining varies",
            f"Retrain at least {MIN_RETRAINED}, better 5, without the forget set.",
        )


def _place(name: str, value: float, models: Floats, single: float, confidence: float) -> RetrainedPlace:
    k = len(models)
    mean, spread = float(models.mean()), float(models.std(ddof=1))
    error = spread * math.sqrt(1 + 1 / k)
    half = float(student.ppf((1 + single) / 2, k - 1)) * error
    distance = (value - mean) / error
    tests = (1 - confidence) / (1 - single)
    predicted = Estimate(
        value=mean,
        lo=mean - half,
        hi=mean + half,
        n=k,
        method="prediction interval of one more retrained model, Student t",
        confidence=single,
        joint=None if tests < 1.5 else confidence,
    )
    return RetrainedPlace(
        quantity=name,
        value=value,
        predicted=predicted,
        spread=spread,
        distance=distance,
        p_value=min(1.0, tests * 2 * float(student.sf(abs(distance), k - 1))),
        inside=predicted.lo <= value <= predicted.hi,
    )
