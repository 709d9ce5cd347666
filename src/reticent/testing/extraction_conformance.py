# SPDX-License-Identifier: Apache-2.0
"""What every extraction attack must keep to, in one call: ``check_extraction("my_attack")``."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.extraction import EXTRACTIONS, Continued, ExtractionAttack, ExtractionInputs, FreeGenerations
from reticent.attacks.extraction.discoverable_short import discoverable_short
from reticent.attacks.extraction.prompt_prefix import PROMPTS
from reticent.score.generation.forced import TeacherForced

UNITS = 40
_TOKENS: int = inspect.signature(discoverable_short).parameters["tokens"].default


def planted_evidence(units: int = UNITS, *, known: bool, seed: int = 0) -> ExtractionInputs:
    """Evidence from a model that knows every unit word for word, or from one that knows nothing.

    Args:
        units: of each kind.
        known: which of the two.
        seed: of lengths and texts.
    """
    rng = np.random.default_rng(seed)
    forced = _forced(rng, units, known)
    return ExtractionInputs(
        forced=forced,
        short={_TOKENS: forced},
        prompted=dict.fromkeys(PROMPTS, forced),
        greedy=_written(rng, units, 1, known),
        sampled=_written(rng, units, 3, known),
        whole=forced,
        drawn=FreeGenerations(
            target_loss=rng.uniform(0.1, 1, units) if known else rng.uniform(2, 3, units),
            base_loss=rng.uniform(2, 3, units),
            zlib_bytes=rng.integers(50, 90, units),
            copied=np.full(units, known),
        ),
    )


def check_extraction(attack: ExtractionAttack | str) -> None:
    """Run every check on one attack, registered or not.

    Raises:
        AssertionError: what the attack does not keep to.
    """
    attack = EXTRACTIONS.get(attack) if isinstance(attack, str) else attack
    text = inspect.getdoc(attack.function) or ""
    assert attack.summary.endswith("."), f"{attack.name}: the docstring's first line must be one whole sentence"
    assert "Returns ``[" in text, f"{attack.name}: the docstring must say what is returned and what 1 means"
    knows, ignorant = planted_evidence(known=True), planted_evidence(known=False)
    high, low = attack.score(knows), attack.score(ignorant)
    assert len(high) == len(low) == UNITS, f"{attack.name}: one number for each unit"
    assert _mean(high) > 0.9, f"{attack.name}: finds {_mean(high):.2f} of what is known word for word"
    assert _mean(low) < 0.2, f"{attack.name}: finds {_mean(low):.2f} where nothing is known"
    before = [column.copy() for column in _arrays(knows)]
    np.testing.assert_array_equal(attack.score(knows), high, f"{attack.name}: a second call gives other scores")
    for column, kept in zip(_arrays(knows), before, strict=True):
        np.testing.assert_array_equal(column, kept, f"{attack.name}: writes into its input")


def _mean(scores: npt.NDArray[np.float64]) -> float:
    return float(np.nanmean(scores))


def _forced(rng: np.random.Generator, units: int, known: bool) -> TeacherForced:
    lengths = rng.integers(3, 20, units)
    total = int(lengths.sum())
    logp = rng.uniform(-0.01, 0, total) if known else rng.uniform(-12, -8, total)
    return TeacherForced(
        rank=np.zeros(total, dtype=np.int32) if known else rng.integers(5, 500, total).astype(np.int32),
        logp=logp,
        drawn=logp if known else np.full(total, -np.inf),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
    )


def _written(rng: np.random.Generator, units: int, samples: int, known: bool) -> Continued:
    tokens = [rng.integers(97, 110, 12).tolist() for _ in range(units)]
    other = [[rng.integers(110, 123, 14).tolist() for _ in range(samples)] for _ in range(units)]
    written: list[Any] = [[[*one, 120, 121]] * samples for one in tokens] if known else other
    return Continued(
        secrets=[_spelt(one) for one in tokens],
        texts=[[_spelt(text) for text in texts] for texts in written],
        secret_tokens=tokens,
        tokens=written,
    )


def _spelt(tokens: list[int]) -> str:
    return "".join(map(chr, tokens))


def _arrays(evidence: ExtractionInputs) -> list[npt.NDArray[Any]]:
    assert evidence.forced is not None
    assert evidence.drawn is not None
    return [evidence.forced.rank, evidence.forced.drawn, evidence.drawn.target_loss, evidence.drawn.copied]
