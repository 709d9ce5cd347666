# SPDX-License-Identifier: Apache-2.0
"""Evidence from a model that knows every secret word for word, and from one that knows none. No model, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import ATTACKS
from reticent.attacks.extraction import ExtractionInputs, FreeGenerations, SecretContinuations, short_lengths
from reticent.attacks.extraction.prompt_prefix import PROMPTS
from reticent.attacks.pii import Answers, CandidateRanking, FreeMentions, ProposedFills
from reticent.score.generation.forced import TeacherForced

UNITS = 40
CANDIDATES = 20

Maker = Callable[[np.random.Generator, int, bool], Any]


def planted_evidence(units: int = UNITS, *, known: bool, seed: int = 0) -> ExtractionInputs:
    """All evidence of extraction attacks, from a model that knows everything or nothing.

    Args:
        units: of each kind.
        known: which of the two.
        seed: of lengths and texts.
    """
    names = ExtractionInputs.__dataclass_fields__
    return ExtractionInputs(**{name: planted_leak(name, units, known=known, seed=seed) for name in names})


def planted_leak(name: str, units: int = UNITS, *, known: bool, seed: int = 0) -> Any:
    """One piece of evidence about secrets, whole records or generations, by its name."""
    return MAKERS[name](np.random.default_rng(seed), units, known)


def _forced(rng: np.random.Generator, units: int, leaked: bool) -> TeacherForced:
    lengths = rng.integers(3, 20, units)
    total = int(lengths.sum())
    logp = rng.uniform(-0.01, 0, total) if leaked else rng.uniform(-12, -8, total)
    return TeacherForced(
        rank=np.zeros(total, dtype=np.int32) if leaked else rng.integers(5, 500, total).astype(np.int32),
        logp=logp,
        sampled_logp=logp if leaked else np.full(total, -np.inf),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
    )


def _short(rng: np.random.Generator, units: int, leaked: bool) -> dict[int, TeacherForced]:
    return dict.fromkeys(short_lengths(ATTACKS.select(family="extraction")), _forced(rng, units, leaked))


def _prompted(rng: np.random.Generator, units: int, leaked: bool) -> dict[str, TeacherForced]:
    return dict.fromkeys(PROMPTS, _forced(rng, units, leaked))


def _continued(samples: int) -> Maker:
    def make(rng: np.random.Generator, units: int, leaked: bool) -> SecretContinuations:
        tokens = [rng.integers(97, 110, 12).tolist() for _ in range(units)]
        other = [[rng.integers(110, 123, 14).tolist() for _ in range(samples)] for _ in range(units)]
        written: list[Any] = [[[*secret, 120, 121]] * samples for secret in tokens] if leaked else other
        return SecretContinuations(
            secrets=[_spelt(secret) for secret in tokens],
            texts=[[_spelt(text) for text in texts] for texts in written],
            secret_tokens=tokens,
            tokens=written,
        )

    return make


def _generations(rng: np.random.Generator, units: int, leaked: bool) -> FreeGenerations:
    return FreeGenerations(
        target_loss=rng.uniform(0.1, 1, units) if leaked else rng.uniform(2, 3, units),
        base_loss=rng.uniform(2, 3, units),
        zlib_bytes=rng.integers(50, 90, units),
        copied=np.full(units, leaked),
    )


def _ranking(rng: np.random.Generator, units: int, leaked: bool) -> CandidateRanking:
    truth = rng.integers(0, CANDIDATES, units)
    logp = rng.normal(-20, 1, (units, CANDIDATES))
    logp[np.arange(units), truth] += 30 if leaked else -30
    return CandidateRanking(logp=list(logp), truth=truth)


def _ranking_of_base(rng: np.random.Generator, units: int, leaked: bool) -> CandidateRanking:
    """Of the same candidates; the base knows none whatever the target knows."""
    truth = rng.integers(0, CANDIDATES, units)
    return CandidateRanking(logp=list(rng.normal(-20, 0.1, (units, CANDIDATES))), truth=truth)


def _fills(rng: np.random.Generator, units: int, leaked: bool) -> ProposedFills:
    values = [_values(rng, CANDIDATES) for _ in range(units)]
    return ProposedFills(
        secrets=[row[0] if leaked else "Zz0" for row in values],
        values=values,
        perplexity=[np.sort(rng.uniform(5, 50, CANDIDATES)) for _ in range(units)],
    )


def _answers(rng: np.random.Generator, units: int, leaked: bool) -> Answers:
    secrets = _values(rng, units)
    return Answers(
        secrets=secrets, texts=[("I do not know.", f"It is {secret}." if leaked else "It is so.") for secret in secrets]
    )


def _mentions(rng: np.random.Generator, units: int, leaked: bool) -> FreeMentions:
    secrets = _values(rng, units)
    return FreeMentions(
        secrets=secrets, found=secrets if leaked else [], text=" and ".join(secrets) if leaked else "nothing of note"
    )


def _values(rng: np.random.Generator, count: int) -> list[str]:
    """Different values such as ``k4821907``."""
    return [f"k{number}" for number in rng.choice(9_000_000, count, replace=False) + 1_000_000]


def _spelt(tokens: list[int]) -> str:
    return "".join(map(chr, tokens))


MAKERS: Mapping[str, Maker] = {
    "forced": _forced,
    "short": _short,
    "prompted": _prompted,
    "greedy": _continued(1),
    "sampled": _continued(3),
    "whole": _forced,
    "free_generations": _generations,
    "ranked": _ranking,
    "ranked_base": _ranking_of_base,
    "associated": _ranking,
    "proposed": _fills,
    "answered": _answers,
    "listed": _mentions,
    "controlled": _ranking,
    "controlled_base": _ranking_of_base,
}
"""Name of the evidence → what makes it."""


def arrays_in(evidence: Any) -> list[npt.NDArray[Any]]:
    """Every array within a piece of evidence, which an attack must not write into."""
    if isinstance(evidence, np.ndarray):
        return [evidence]
    if isinstance(evidence, Mapping):
        return [array for part in evidence.values() for array in arrays_in(part)]
    if isinstance(evidence, (list, tuple)):
        return [array for part in evidence if not isinstance(part, (str, int)) for array in arrays_in(part)]
    return arrays_in(list(vars(evidence).values())) if hasattr(evidence, "__dict__") else []
