# SPDX-License-Identifier: Apache-2.0
"""Conformance of attacks: ``check_attack("my_attack")`` in your own test is all it takes, whatever kind it is of.

`check_all` does the same for everything that is registered, plug-ins too, in every registry of the package.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from reticent.attacks.attack import ATTACKS, Attack, Scores
from reticent.attacks.evidence import POPULATION, TABLES
from reticent.attacks.learned_halves import HALF, looks_at_judged
from reticent.attacks.run import run_attacks
from reticent.attacks.signature import rows_of
from reticent.core.errors import BadInput
from reticent.core.table import TokenTable
from reticent.testing.check_all import check_all
from reticent.testing.planted import PLANTERS, plant
from reticent.testing.planted_leaks import arrays_in, planted_leak

__all__ = ["check_all", "check_attack"]

LEAST_AUC = 0.6
"""An attack must find at least this much of the planted signal, which every published attack finds with ease."""
LEAST_KNOWN, MOST_UNKNOWN = 0.9, 0.2
"""Mean of the hits, the shares, or the first ranks, where everything is known and where nothing is."""

RTOL, ATOL = 1e-9, 1e-12
"""Scores within these are the same."""


def check_attack(attack: Attack | str) -> None:
    """Run every check on one attack, registered or not.

    An attack that cannot run without a file that somebody gives is checked to refuse where there is none; check it
    with its file too: ``check_attack(ATTACKS.get("transferred").with_params(coefficients="learned.json"))``.

    Raises:
        AssertionError: the attack does not keep to something; says to what.

    Examples:
        >>> check_attack("min_k")
    """
    attack = ATTACKS.get(attack) if isinstance(attack, str) else attack
    check_documented(attack)
    if attack.lacks:
        _check_refuses(attack)
    elif attack.source in PLANTERS:
        _check_on_members(attack)
    else:
        _check_on_leaks(attack)


def _check_refuses(attack: Attack) -> None:
    """Without its file it says so, and gives no number."""
    evidence, _ = PLANTERS[attack.source](attack)
    try:
        attack.score(evidence)
    except BadInput:
        return
    raise AssertionError(f"{attack.name}: runs without {', '.join(item.name for item in attack.lacks)}")


def _check_on_members(attack: Attack) -> None:
    """On evidence about records, half of which were trained on."""
    evidence, member = PLANTERS[attack.source](attack)
    scores = check_output(attack, evidence, len(member))
    check_pure(attack, evidence, scores)
    if attack.family == "membership":
        check_row_wise(attack, evidence, scores)
    if attack.source == TABLES:
        check_streamed(attack, scores)
    judged = ~np.isnan(scores)
    if HALF in attack.evidence:
        assert not looks_at_judged(attack, evidence, scores), f"{attack.name}: a half is scored by its own labels"
    auc = _auc(scores[judged & member], scores[judged & ~member])
    assert auc > LEAST_AUC, f"{attack.name}: planted signal gives AUC {auc:.3f}; is the score's sign right?"


def _check_on_leaks(attack: Attack) -> None:
    """On evidence from a model that knows everything, and from one that knows nothing."""
    leaked = {name: planted_leak(name, known=True) for name in attack.evidence}
    unleaked = {name: planted_leak(name, known=False) for name in attack.evidence}
    high, low = check_output(attack, leaked, rows_of(leaked[attack.evidence[0]])), attack.score(unleaked)
    check_pure(attack, leaked, high)
    out, mistaken = _came_out(attack, high), _came_out(attack, low)
    assert out > LEAST_KNOWN, f"{attack.name}: finds {out:.2f} of what is known word for word"
    assert mistaken < MOST_UNKNOWN, f"{attack.name}: finds {mistaken:.2f} where nothing is known"


def _came_out(attack: Attack, scores: Scores) -> float:
    """The mean of hits and shares; of ranks, how many are first."""
    return float(np.mean(scores == 1) if attack.returns == "rank" else np.nanmean(scores))


def check_documented(attack: Attack) -> None:
    """A summary line that ends with a full stop, and the direction of what is returned."""
    text = inspect.getdoc(attack.function) or ""
    assert attack.summary.endswith("."), f"{attack.name}: the docstring's first line must be one whole sentence"
    if attack.returns == "score":
        assert "higher =" in text, f"{attack.name}: the docstring must say what a higher score means (higher = member)"
    else:
        assert "Returns ``[" in text, f"{attack.name}: the docstring must say what is returned and what 1 means"


def check_output(attack: Attack, evidence: Mapping[str, Any], units: int) -> Scores:
    """One float64 for each unit; scores are finite."""
    scores = attack.function(*(evidence[name] for name in attack.evidence), **attack.params)
    assert isinstance(scores, np.ndarray), f"{attack.name}: must return an array"
    assert scores.shape == (units,), f"{attack.name}: shape {scores.shape}, not ({units},)"
    assert scores.dtype == np.float64, f"{attack.name}: dtype {scores.dtype}, not float64"
    if attack.returns == "score":
        assert np.isfinite(scores).all(), f"{attack.name}: {(~np.isfinite(scores)).sum()} scores are not finite"
    return scores


def check_pure(attack: Attack, evidence: Mapping[str, Any], scores: Scores) -> None:
    """The same scores again, and nothing written into the evidence."""
    before = {name: [array.copy() for array in arrays_in(part)] for name, part in evidence.items()}
    np.testing.assert_array_equal(attack.score(evidence), scores, f"{attack.name}: a second call gives other scores")
    for name, arrays in before.items():
        for array, copy in zip(arrays_in(evidence[name]), arrays, strict=True):
            np.testing.assert_array_equal(array, copy, f"{attack.name}: writes into its input {name}")


def check_row_wise(attack: Attack, evidence: Mapping[str, Any], scores: Scores) -> None:
    """A record's score depends on its own rows only, whatever their order and company."""
    for chosen in (np.random.default_rng(0).permutation(len(scores)), np.arange(3), np.arange(1)):
        some = {
            name: part if name in POPULATION else part.take(_rows(chosen, attack.copies.get(name, 1)))
            for name, part in evidence.items()
        }
        np.testing.assert_allclose(
            attack.score(some),
            scores[chosen],
            rtol=RTOL,
            atol=ATOL,
            err_msg=f"{attack.name}: not row-wise (order or company matters)",
        )


def check_streamed(attack: Attack, scores: Scores) -> None:
    """From Parquet in small row groups the same comes out; a record without a trained token gives NaN, no error."""
    lost = 5
    with tempfile.TemporaryDirectory() as folder:
        sources = {}
        for name, table in plant(attack).tables.items():
            sources[name] = Path(folder) / f"{name}.parquet"
            hidden = table if name in POPULATION else _without_trained_tokens(table, lost, attack.copies[name])
            pq.write_table(hidden.to_arrow(), sources[name], row_group_size=37)
        streamed = run_attacks([attack], sources).scores[attack.name]
    assert np.isnan(streamed[lost]), f"{attack.name}: a record without trained tokens must give NaN"
    others = np.arange(len(scores)) != lost
    np.testing.assert_allclose(
        streamed[others], scores[others], rtol=RTOL, atol=ATOL, err_msg=f"{attack.name}: streaming gives other scores"
    )


def _without_trained_tokens(table: TokenTable, record: int, copies: int) -> TokenTable:
    mask = table["loss_mask"].copy()
    mask[table.offsets[record * copies] : table.offsets[(record + 1) * copies]] = False
    return replace(table, tokens={**table.tokens, "loss_mask": mask})


def _rows(records: npt.NDArray[np.int64], copies: int) -> npt.NDArray[np.int64]:
    return (records[:, None] * copies + np.arange(copies)).ravel()


def _auc(member: Scores, held_out: Scores) -> float:
    """Chance that a member scores higher than a held-out record, ties counted half."""
    difference = member[:, None] - held_out
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())
