# SPDX-License-Identifier: Apache-2.0
"""What every attack must keep to, in one call: ``check_attack("my_attack")`` in your own test is all it takes."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from reticent.attacks.attack import ATTACKS, POPULATION, Attack, Evidence, Scores, run_attacks
from reticent.attacks.shadow_models import ShadowScores
from reticent.core.table import TokenTable
from reticent.testing.planted import PlantedSignal, plant, plant_shadows, plant_written

LEAST_AUC = 0.6
"""An attack must find at least this much of the planted signal, which every published attack finds with ease."""

RTOL, ATOL = 1e-9, 1e-12
"""What counts as the same score."""


def check_attack(attack: Attack | str) -> None:
    """Run every check on one attack, registered or not.

    Raises:
        AssertionError: what the attack does not keep to.

    Examples:
        >>> check_attack("loss")
    """
    attack = ATTACKS.get(attack) if isinstance(attack, str) else attack
    check_documented(attack)
    if attack.writes or attack.shadowed:
        evidence, member = plant_written(attack) if attack.writes else plant_shadows(attack)
        scores = _check_scores(attack, evidence, len(member))
    else:
        planted = plant(attack)
        member = planted.member
        scores = _check_scores(attack, {name: table.trained() for name, table in planted.tables.items()}, len(member))
        check_streamed(attack, planted, scores)
    found = _auc(scores[member], scores[~member])
    assert found > LEAST_AUC, f"{attack.name}: planted signal gives AUC {found:.3f}; is the score's sign right?"


def _check_scores(attack: Attack, evidence: Mapping[str, Evidence], records: int) -> Scores:
    scores = check_output(attack, evidence, records)
    check_pure(attack, evidence, scores)
    check_row_wise(attack, evidence, scores)
    return scores


def check_documented(attack: Attack) -> None:
    """A summary line that ends with a full stop, and the direction of the score."""
    text = inspect.getdoc(attack.function) or ""
    assert attack.summary.endswith("."), f"{attack.name}: the docstring's first line must be one whole sentence"
    assert "higher =" in text, f"{attack.name}: the docstring must say what a higher score means (higher = member)"


def check_output(attack: Attack, tables: Mapping[str, Evidence], records: int) -> Scores:
    """One finite float64 for each record."""
    scores = attack.function(*(tables[name] for name in attack.evidence), **attack.defaults)
    assert isinstance(scores, np.ndarray), f"{attack.name}: must return an array"
    assert scores.shape == (records,), f"{attack.name}: shape {scores.shape}, not ({records},)"
    assert scores.dtype == np.float64, f"{attack.name}: dtype {scores.dtype}, not float64"
    assert np.isfinite(scores).all(), f"{attack.name}: {(~np.isfinite(scores)).sum()} scores are not finite"
    return scores


def check_pure(attack: Attack, tables: Mapping[str, Evidence], scores: Scores) -> None:
    """The same scores again, and nothing written into the tables."""
    before = {key: column.copy() for key, column in _columns(tables).items()}
    np.testing.assert_array_equal(attack.score(tables), scores, f"{attack.name}: a second call gives other scores")
    for key, column in _columns(tables).items():
        np.testing.assert_array_equal(column, before[key], f"{attack.name}: writes into its input, column {key}")


def check_row_wise(attack: Attack, tables: Mapping[str, Evidence], scores: Scores) -> None:
    """A record's score depends on its own rows only, whatever their order and company."""
    for chosen in (np.random.default_rng(0).permutation(len(scores)), np.arange(3), np.arange(1)):
        some = {
            name: table if name in POPULATION else table.take(_rows(chosen, attack.copies.get(name, 1)))
            for name, table in tables.items()
        }
        np.testing.assert_allclose(
            attack.score(some),
            scores[chosen],
            rtol=RTOL,
            atol=ATOL,
            err_msg=f"{attack.name}: not row-wise (order or company matters)",
        )


def check_streamed(attack: Attack, planted: PlantedSignal, scores: Scores) -> None:
    """From Parquet in small row groups the same comes out; a record without a trained token gives NaN, no error."""
    lost = 5
    with tempfile.TemporaryDirectory() as folder:
        sources = {}
        for name, table in planted.tables.items():
            sources[name] = Path(folder) / f"{name}.parquet"
            hidden = table if name in POPULATION else _without_trained_tokens(table, lost, attack.copies[name])
            pq.write_table(hidden.to_arrow(), sources[name], row_group_size=37)
        streamed = run_attacks([attack], sources).scores[attack.name]
    assert np.isnan(streamed[lost]), f"{attack.name}: a record without trained tokens must give NaN"
    kept = np.arange(len(scores)) != lost
    np.testing.assert_allclose(
        streamed[kept], scores[kept], rtol=RTOL, atol=ATOL, err_msg=f"{attack.name}: streaming gives other scores"
    )


def _without_trained_tokens(table: TokenTable, record: int, copies: int) -> TokenTable:
    mask = table["loss_mask"].copy()
    mask[table.offsets[record * copies] : table.offsets[(record + 1) * copies]] = False
    return replace(table, tokens={**table.tokens, "loss_mask": mask})


def _rows(records: npt.NDArray[np.int64], copies: int) -> npt.NDArray[np.int64]:
    return (records[:, None] * copies + np.arange(copies)).ravel()


def _columns(tables: Mapping[str, Evidence]) -> dict[str, npt.NDArray]:
    """Arrays that could be written into; what models wrote is held in tuples."""
    found: dict[str, npt.NDArray] = {}
    for name, table in tables.items():
        if isinstance(table, TokenTable):
            found |= {f"{name}.{key}": column for key, column in {**table.rows, **table.tokens}.items()}
        elif isinstance(table, ShadowScores):
            found |= {f"{name}.{key}": getattr(table, key) for key in ("target", "shadows", "inside")}
    return found


def _auc(member: Scores, held_out: Scores) -> float:
    """Chance that a member scores higher than a held-out record, ties counted half."""
    difference = member[:, None] - held_out
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())
