# SPDX-License-Identifier: Apache-2.0
"""p-values among clean models: never too small under exchangeability, small for a stranger, refused where too few."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.core.scan_results import ScanEvidence
from reticent.scanning.calibrate import (
    calibrated,
    clean_models_needed,
    conformal_p,
    false_alarm_limit,
    refuse_level,
    smallest_p,
)
from reticent.scanning.distances import DISTANCES, robust_distance, shrunk_mahalanobis, standardised
from reticent.scanning.features import FeatureVector
from reticent.scanning.scanner import Scanner
from reticent.scanning.suspect import Suspect

NAMES = tuple(f"feature {number}" for number in range(12))


def suspect(folder: str) -> Suspect:
    return Suspect(folder=Path(folder), cache=Path("cache"))


def scanner_of(models: dict[str, np.ndarray], *, features: bool = True, null: str = "clean") -> Scanner:
    """A scanner that reads the numbers of a model off its folder's name."""

    def look(model: Suspect) -> Sequence[ScanEvidence]:
        values = models[model.folder.name]
        return [ScanEvidence(score=float(value), where="here", note="seen") for value in values]

    def read(model: Suspect) -> FeatureVector:
        values = models[model.folder.name]
        return FeatureVector(names=NAMES[: len(values)], values=values)

    return Scanner(
        name="made_up",
        title="Made up",
        kind="weights",
        null=null,
        blind_to="everything",
        look=look,
        features=read if features else None,
        order=20,
    )


def drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    """Models with a tendency that all features share, tails, and ties: nothing that a distance could rely on."""
    shared = rng.standard_t(3, size=(count, 1))
    return np.round(shared + rng.standard_t(4, size=(count, len(NAMES))) * np.linspace(0.1, 3, len(NAMES)), 1)


def test_a_p_value_is_a_rank_and_ties_count_against_the_alarm() -> None:
    assert conformal_p(5.0, [1, 2, 3, 4]) == 0.2
    assert conformal_p(4.0, [1, 2, 3, 4]) == 0.4
    assert conformal_p(0.0, [0, 0, 0, 0]) == 1.0
    assert conformal_p(1.0, []) == 1.0
    assert smallest_p(8) == pytest.approx(1 / 9)


@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_false_alarms_stay_within_every_level_though_the_reference_is_learned(distance: str) -> None:
    rng, n, runs = np.random.default_rng(3), 9, 500
    p = np.array([_p_of(DISTANCES[distance](drawn(rng, n + 1))) for _ in range(runs)])
    assert p.min() >= 1 / (n + 1)
    for level in np.arange(1, n + 1) / (n + 1):
        assert (p <= level + 1e-12).mean() <= level + 3 * np.sqrt(level * (1 - level) / runs), level


def test_a_reference_learned_from_the_clean_models_alone_would_raise_too_many_alarms() -> None:
    """The planted fault: scores of clean models by a reference that knows them, the suspect's by one that does not."""
    rng, n, runs = np.random.default_rng(4), 9, 400
    alarms = 0
    for _ in range(runs):
        models = rng.normal(size=(n + 1, 12))
        middle, spread = models[1:].mean(axis=0), models[1:].std(axis=0)
        scores = (((models - middle) / spread) ** 2).mean(axis=1)
        alarms += conformal_p(scores[0], scores[1:]) <= 0.1 + 1e-12
    assert alarms / runs > 0.2


@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_distances_do_not_depend_on_the_order_of_models_and_find_a_stranger(distance: str) -> None:
    rng = np.random.default_rng(5)
    models = drawn(rng, 20)
    scores, order = DISTANCES[distance](models), rng.permutation(20)
    np.testing.assert_allclose(DISTANCES[distance](models[order]), scores[order])
    found = 0
    for _ in range(60):
        models = rng.normal(size=(20, 12))
        models[0, :4] += 5
        found += _p_of(DISTANCES[distance](models)) <= 0.05 + 1e-12
    assert found >= 55


def test_distances_are_those_of_their_definitions() -> None:
    models = np.random.default_rng(6).normal(size=(6, 3))
    for place in range(6):
        others = np.delete(models, place, axis=0)
        middle = np.median(others, axis=0)
        deviation = 1.4826 * np.median(np.abs(others - middle), axis=0)
        z = (models[place] - middle) / (deviation + np.median(deviation))
        np.testing.assert_allclose(standardised(models)[place], z)
        assert robust_distance(models)[place] == pytest.approx(np.sqrt((z**2).mean()))
        scaled = np.clip((others - middle) / (deviation + np.median(deviation)), -3, 3)
        inverse = np.linalg.inv(0.5 * np.eye(3) + 0.5 * scaled.T @ scaled / 5)
        assert shrunk_mahalanobis(models)[place] == pytest.approx(np.sqrt(z @ inverse @ z / 3))


def test_features_that_never_move_do_no_harm() -> None:
    models = np.ones((8, 4))
    for distance in DISTANCES.values():
        assert distance(models).tolist() == [0.0] * 8
    models[0, 2] = 1.5
    for distance in DISTANCES.values():
        scores = distance(models)
        assert scores[0] > 10 * scores[1:].max()
        assert np.isfinite(scores).all()
    with pytest.raises(BadInput, match="no middle"):
        robust_distance(np.ones((2, 4)))


def test_equal_models_are_tied_in_whatever_order_they_are_summed() -> None:
    """Scores of equal models differ in their last digits with the order of models; they are no ranks."""
    rng = np.random.default_rng(9)
    for distance in DISTANCES.values():
        for _ in range(20):
            kinds = rng.normal(size=(2, 12))
            kind = rng.permutation(np.repeat([0, 1], 10))
            assert _p_of(distance(kinds[kind])) >= 0.5


def test_a_score_that_is_no_number_has_no_rank() -> None:
    models = {"suspect": np.array([0.1]), "a": np.array([0.5, np.nan]), "b": np.array([0.9])}
    for first, others in (("suspect", "ab"), ("a", ["suspect", "b"])):
        with pytest.raises(BadInput, match="1 of 3 models"):
            calibrated(scanner_of(models, features=False), suspect(first), [suspect(name) for name in others])


def test_a_suspect_is_compared_by_features_and_its_strangest_are_named() -> None:
    rng = np.random.default_rng(7)
    models = {f"clean-{number}": rng.normal(size=12) for number in range(19)} | {"suspect": rng.normal(size=12)}
    models["suspect"][3] = 40.0
    scanner = scanner_of(models)
    clean = [suspect(f"folder/clean-{number}") for number in range(19)]
    outcome = calibrated(scanner, suspect("suspect"), clean)
    assert outcome.p == outcome.smallest_p == 0.05
    assert len(outcome.clean_scores) == 19
    assert outcome.score > max(outcome.clean_scores)
    assert outcome.evidence[0].where == "feature 3"
    assert "above the median of 19 clean models" in outcome.evidence[0].note
    usual = calibrated(scanner, clean[0], [*clean[1:], suspect("suspect")])
    assert usual.p > 0.05


def test_a_scanner_without_features_is_compared_by_its_largest_score() -> None:
    models = {"suspect": np.array([0.1, 0.9]), "a": np.array([0.5, 0.2]), "b": np.array([0.9]), "c": np.array([])}
    outcome = calibrated(scanner_of(models, features=False), suspect("suspect"), [suspect(name) for name in "abc"])
    assert outcome.score == 0.9
    assert outcome.clean_scores == (0.5, 0.9, 0.0)
    assert outcome.p == 0.5


def test_levels_that_so_many_clean_models_cannot_support_are_refused() -> None:
    refuse_level(0.05, 19)
    refuse_level(0.05, 59, tests=3)
    assert clean_models_needed(0.01) == 99
    assert clean_models_needed(0.1, tests=3) == 29
    for clean, tests, words in ((8, 1, "19 clean models"), (19, 2, "39 clean models"), (0, 1, "19 clean models")):
        with pytest.raises(Underpowered, match=words):
            refuse_level(0.05, clean, tests=tests)
    with pytest.raises(BadInput):
        refuse_level(0.0, 10)


def test_what_cannot_be_calibrated_is_refused() -> None:
    models = {"suspect": np.ones(3), "a": np.ones(3), "b": np.ones(2)}
    with pytest.raises(Underpowered, match="0 clean models"):
        calibrated(scanner_of(models, features=False), suspect("suspect"), [])
    with pytest.raises(Underpowered, match="1 clean models"):
        calibrated(scanner_of(models), suspect("suspect"), [suspect("a")])
    with pytest.raises(BadInput, match="cannot be compared"):
        calibrated(scanner_of(models), suspect("suspect"), [suspect("a"), suspect("b")])
    with pytest.raises(BadInput, match="made_up"):
        calibrated(scanner_of(models, features=False, null="made"), suspect("suspect"), [suspect("a")])
    with pytest.raises(BadInput, match="distance"):
        calibrated(scanner_of(models), suspect("suspect"), [suspect("a")] * 3, distance="euclid")
    with pytest.raises(ValueError, match="features"):
        scanner_of(models, null="made")


def test_alarms_on_clean_models_bound_their_rate() -> None:
    assert false_alarm_limit(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert false_alarm_limit(0, 299) == pytest.approx(0.01, abs=1e-4)
    assert false_alarm_limit(20, 20) == 1.0
    assert false_alarm_limit(3, 60) > 3 / 60
    rng, missed = np.random.default_rng(8), 0
    for _ in range(100):
        missed += false_alarm_limit(int(rng.binomial(40, 0.1)), 40) < 0.1
    assert missed / 100 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def _p_of(scores: np.ndarray) -> float:
    return conformal_p(scores[0], scores[1:])
