# SPDX-License-Identifier: Apache-2.0
"""Among retrained models: where the unlearned model lies among models that never saw the forget set.

The only check with power for a single person: models made alike but for their seed say how far apart they lie on the
rows of a request, and the unlearned one is held against the prediction interval for one more of them. Statistics are

* mean loss: over rows, of the mean over a row's tokens, nats a token; lower = known better;
* log-ratio to the base: over all tokens of the request together, nats a token; higher = known better;
* right first choices: share of tokens that the model would choose first, mean over rows; higher = known better.

Agreement with the untouched model's first choices is none of them: an unlearned model began as that model, and agrees
with it on any text more than a retrained one does.

The untouched model is the control: where it lies in the interval too, the check cannot tell and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.section import Cell, Column, Section, Table
from reticent.core.table import TokenTable
from reticent.core.unlearning import Measurement, UnlearningCheck
from reticent.core.unlearning_words import AMONG_RETRAINED, MARKED, STILL_KNOWN, TOO_FEW
from reticent.stats import among_retrained as stats
from reticent.stats.hypothesis import family_confidence
from reticent.unlearning.verification.beside import marked
from reticent.unlearning.verification.check import Judging, Mask, Visit, check

NAME = "among_retrained"
STILL = 1e-9
"""Relative spread below which retrained models count as all the same."""
WORTH_HAVING = 5
"""Retrained models that make an interval that is worth having."""
LOSS, RATIO, RIGHT = "mean loss", "log-ratio to the base", "right first choices"
STATISTICS = {LOSS: -1, RATIO: 1, RIGHT: 1}
"""Statistic → +1 where a higher value means that the rows are known better, else -1."""


def read(visit: Visit) -> TokenTable:
    """The token table of the judged rows."""
    return visit.table


class Place(NamedTuple):
    """One statistic of one unit.

    Args:
        values: by the model's name.
        interval: mean and prediction interval of the retrained models.
        word: for the unlearned model.
        untouched: the word for the untouched model.
        shown: distance from the mean that would fall outside four times of five.
        distance: of the unlearned model from the mean, in standard errors.
    """

    values: dict[str, float]
    interval: Estimate
    word: str
    untouched: str
    shown: float
    distance: float


def evaluate(tables: Mapping[str, TokenTable], judging: Judging) -> UnlearningCheck:
    """A word for each request, and where there are several people for each of them: everyone is one unit.

    Where both are judged, each gets half of the error.
    """
    k = len(judging.retrained)
    if k < stats.MIN_RETRAINED:
        return CHECK.not_run(_too_few_models(k))
    statistics = [name for name in STATISTICS if judging.base is not None or name != RATIO]
    kinds = [judging.requests, *([judging.people] if len(judging.people) > 1 else [])]
    try:
        requests, people = [
            *(
                {
                    unit: _places(tables, judging, mask, statistics, of=len(units) * len(kinds))
                    for unit, mask in units.items()
                }
                for units in kinds
            ),
            {},
        ][:2]
    except Underpowered as error:
        return CHECK.not_run(f"{error.given} {error.why}")
    word = _overall(requests, people)
    shown = [_table("requests", "Requests among retrained models", requests, judging)]
    if people:
        shown.append(_table("people", "People among retrained models, each as one unit", people, judging))
    apart = {name: places for name, places in people.items() if any(_departs(place) for place in places.values())}
    return UnlearningCheck(
        name=NAME,
        word=word,
        sentence=_sentence(word, requests, people, k),
        could_have_seen=_could_have_seen(requests, k),
        knew=all(any(place.untouched == STILL_KNOWN for place in places.values()) for places in requests.values()),
        section=_section(shown, k),
        measured=tuple(_measured(requests | apart, judging)),
    )


def _departs(place: Place) -> bool:
    return place.word != AMONG_RETRAINED


def _too_few_models(k: int) -> str:
    if not k:
        return "there are no retrained models (--oracles 0), so nothing is said about how far the model is from one"
    return f"{k} retrained models make no prediction interval; {WORTH_HAVING} make one worth having"


def statistic(name: str, tables: Mapping[str, TokenTable], model: str, judging: Judging, rows: Mask) -> float:
    """One of `STATISTICS` of one model on some of the forget rows."""
    table = tables[model].take(rows)
    if name == LOSS:
        return float(-table.mean(table["logp"]).mean())
    if name == RATIO:
        assert judging.base is not None
        ref = tables[judging.base.name].take(rows)
        return float((table["logp"].astype(np.float64) - ref["logp"]).mean())
    return float(table.mean(table["rank"] == 0).mean())


def _places(
    tables: Mapping[str, TokenTable], judging: Judging, rows: Mask, statistics: list[str], *, of: int
) -> dict[str, Place]:
    """Each statistic of one unit, with intervals that hold for all statistics of all ``of`` units together."""
    values = {
        name: {model.name: statistic(name, tables, model.name, judging, rows) for model in judging.models}
        for name in statistics
    }
    retrained = {name: [values[name][model.name] for model in judging.retrained] for name in values}
    # A share of right choices may be 0 for all of them: no spread, so nothing can be told by it.
    moving = {
        name: spread for name, spread in retrained.items() if np.ptp(spread) > STILL * (1 + max(map(abs, spread)))
    }
    placed = stats.among_retrained(
        {name: values[name][judging.after.name] for name in moving or retrained},
        moving or retrained,
        confidence=family_confidence(judging.config.confidence, of),
    )
    places = {}
    for place in placed.places:
        interval, by_model = place.predicted, values[place.quantity]
        direction = STATISTICS[place.quantity]
        word, untouched = (
            word_among(by_model[model.name], interval, direction) for model in (judging.after, judging.before)
        )
        interval = replace(interval, joint=judging.config.confidence)
        places[place.quantity] = Place(
            by_model, interval, word, untouched, placed.departure_shown * place.spread, abs(place.distance)
        )
    return places


def word_among(value: float, interval: Estimate, direction: int) -> str:
    """The word for a value held against a prediction interval.

    >>> three = Estimate(value=3.0, lo=2.9, hi=3.1, n=5, method="")
    >>> word_among(2.5, three, -1), word_among(3.0, three, -1), word_among(2.5, three, 1)
    ('still known', 'among the retrained', 'marked by its absence')
    """
    if interval.lo <= value <= interval.hi:
        return AMONG_RETRAINED
    return STILL_KNOWN if (value - interval.value) * direction > 0 else MARKED


def _overall(requests: Mapping[str, Mapping[str, Place]], people: Mapping[str, Mapping[str, Place]]) -> str:
    words = [place.word for units in (requests, people) for places in units.values() for place in places.values()]
    for word in (STILL_KNOWN, MARKED):
        if word in words:
            return word
    blind = any(all(place.untouched == AMONG_RETRAINED for place in places.values()) for places in requests.values())
    return TOO_FEW if blind else AMONG_RETRAINED


def _sentence(
    word: str, requests: Mapping[str, Mapping[str, Place]], people: Mapping[str, Mapping[str, Place]], k: int
) -> str:
    several = f" of {len(requests)} requests" if len(requests) > 1 else ""
    if word == AMONG_RETRAINED:
        text = f"Among {k} retrained models{several}: the unlearned model lies in their prediction intervals, and the "
        text += "untouched one does not."
    elif word == TOO_FEW:
        text = f"Among {k} retrained models{several}: too few to tell, since the untouched model lies in their "
        text += "prediction intervals too."
    else:
        far = [
            (unit, name, place)
            for units in (requests, people)
            for unit, places in units.items()
            for name, place in places.items()
            if place.word == word
        ]
        unit, name, place = max(far, key=lambda entry: entry[2].distance)
        value = next(iter(place.values.values()))
        text = f"Among {k} retrained models: {name} of {unit} is {value:.3f}, outside of "
        text += f"[{place.interval.lo:.3f}, {place.interval.hi:.3f}]: {word}."
    outside = sum(any(_departs(place) for place in places.values()) for places in people.values())
    if people:
        text += f" Of {len(people)} people, each as one unit, {outside} {'lies' if outside == 1 else 'lie'} outside."
    return text


def _could_have_seen(requests: Mapping[str, Mapping[str, Place]], k: int) -> str:
    parts = []
    for name in STATISTICS:
        halves = [places[name].shown for places in requests.values() if name in places]
        if not halves:
            continue
        half = max(halves)
        unit = "" if name == RIGHT else " nats a token"
        parts.append(f"{name} {half:.3f}{unit}")
    few = f" {WORTH_HAVING} or more make narrower ones." if k < WORTH_HAVING else ""
    return (
        f"Among {k} retrained models: a distance from their mean above {', '.join(parts)} would have shown four times "
        f"of five.{few}"
    )


def _section(tables: list[Table], k: int) -> Section:
    notes = [f"{k} retrained models: the interval is wide. {WORTH_HAVING} or more are worth having."]
    return Section(
        name="among-retrained",
        title=CHECK.title,
        lede="Models made without the forget set, with different seeds, say how far apart such models lie. A person, "
        "or a request, is one unit. Where the untouched model lies within the interval too, nothing is shown.",
        tables=tuple(tables),
        notes=tuple(notes) if k < WORTH_HAVING else (),
    )


def _table(name: str, title: str, units: Mapping[str, Mapping[str, Place]], judging: Judging) -> Table:
    columns = (
        Column(name="unit", label="Unit", kind="group"),
        Column(name="statistic", label="Statistic"),
        Column(name="unlearned", label="Unlearned", kind="number"),
        Column(name="word", label="Verdict", kind="mark"),
        Column(name="untouched", label="Untouched", kind="number", about="the tuned model before unlearning"),
        Column(name="told_apart", label="Would show", about="whether the untouched model lies outside of the interval"),
        Column(name="retrained", label="Retrained", kind="estimate", unit=False, about="mean and prediction interval"),
        Column(name="below", label="Retrained below", about="how many retrained models have a lower value"),
        Column(name="base", label="Base", kind="number"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            unit,
            statistic_name,
            place.values[judging.after.name],
            marked(place.word),
            place.values[judging.before.name],
            "no" if place.untouched == AMONG_RETRAINED else "yes",
            place.interval,
            f"{sum(place.values[model.name] < place.values[judging.after.name] for model in judging.retrained)} of "
            f"{len(judging.retrained)}",
            None if judging.base is None else place.values[judging.base.name],
        )
        for unit, places in units.items()
        for statistic_name, place in places.items()
    ]
    return Table(
        name=f"unlearning-among-{name}",
        title=title,
        columns=columns,
        rows=tuple(rows),
        caption=f"Intervals hold for all rows of the table together at {judging.config.confidence * 100:g} %.",
    )


def _measured(requests: Mapping[str, Mapping[str, Place]], judging: Judging) -> list[Measurement]:
    after = judging.after
    return [
        Measurement(
            check=NAME,
            model=after.name,
            role=after.role,
            what=f"{name} of {request}, minus the mean of the retrained models",
            metric="distance",
            estimate=Estimate(
                value=place.values[after.name] - place.interval.value,
                lo=place.values[after.name] - place.interval.hi,
                hi=place.values[after.name] - place.interval.lo,
                n=place.interval.n,
                method=place.interval.method,
                confidence=place.interval.confidence,
                joint=place.interval.joint,
            ),
            word=place.word,
            chance=0.0,
        )
        for request, places in requests.items()
        for name, place in places.items()
    ]


CHECK = check(name=NAME, title="Among retrained models", order=20, read=read, evaluate=evaluate)
