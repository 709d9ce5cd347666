# SPDX-License-Identifier: Apache-2.0
"""Planted canaries → a rank test for each tier, and its exposure in bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.auditing.verdict import ORDER, severity
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.core.results import CanaryExposure
from reticent.core.table import TokenTable
from reticent.data.canaries import Canary, named_tier
from reticent.stats.exposure import (
    ceiling,
    exposure,
    median_places,
    own_exposure_at_least,
    rank_exposure,
    skew_normal_exposure,
)
from reticent.stats.hypothesis import family_confidence
from reticent.stats.rank_test import lower_p

THREAT = ThreatModel(access="logprob", needs=("the format of the secret",))


def nll(table: TokenTable) -> npt.NDArray[np.float64]:
    """Mean negative log-likelihood (nats per token) of each row; lower = more familiar to the model."""
    trained = table.trained()
    return -trained.mean(trained["logp"])


@dataclass(frozen=True, kw_only=True)
class TierTest:
    """Test of one planted tier: are its secrets likelier to the model than secrets that were never planted?

    Args:
        tier: its name.
        repetitions: copies of each of its secrets in the training data.
        n_planted: secrets of the tier.
        n_never: number of secrets that they are compared with: controls, and secrets whose coin left them out.
        p: one-sided and exact, of this tier alone: nothing is corrected yet.
    """

    tier: str
    repetitions: int
    n_planted: int
    n_never: int
    p: float


def tier_tests(canaries: Sequence[Canary], losses: npt.NDArray[np.float64]) -> tuple[TierTest, ...]:
    """One test for each planted tier, from the least planted on.

    All secrets are drawn alike and coins decide which are planted, so if nothing was learned any of them could as well
    have been the planted ones: the p-value holds for one secret as for a thousand.

    Args:
        canaries: in the order of ``losses``.
        losses: ``[C]`` NLL in nats; lower = more exposed.
    """
    planted = np.array([canary.planted for canary in canaries], dtype=bool)
    repetitions = np.array([canary.repetitions for canary in canaries])
    never = losses[~planted]
    return tuple(
        TierTest(
            tier=named_tier(int(tier)),
            repetitions=int(tier),
            n_planted=int((planted & (repetitions == tier)).sum()),
            n_never=len(never),
            p=lower_p(losses[planted & (repetitions == tier)], never),
        )
        for tier in np.unique(repetitions[planted])
    )


def exposures(
    canaries: Sequence[Canary], losses: npt.NDArray[np.float64], *, confidence: float
) -> tuple[CanaryExposure, ...]:
    """Exposure of each tier, and of the secrets whose coin left them out, among controls that had no coin.

    Args:
        canaries: in the order of ``losses``.
        losses: ``[C]`` NLL in nats; lower = more exposed.
        confidence: for all tiers together.
    """
    controls = losses[[canary.is_control for canary in canaries]]
    tier_of = np.array([canary.repetitions * canary.planted if not canary.is_control else -1 for canary in canaries])
    tiers = [int(tier) for tier in np.unique(tier_of) if tier >= 0]
    tier_confidence = family_confidence(confidence, max(1, len(tiers)))
    return tuple(
        CanaryExposure(
            tier=named_tier(tier),
            kind="record",
            repetitions=tier,
            bits=exposure(losses[tier_of == tier], controls, confidence=tier_confidence),
            each=tuple(map(float, rank_exposure(losses[tier_of == tier], controls))),
            ceiling=ceiling(len(controls)),
            fitted=_fitted(losses[tier_of == tier], controls),
        )
        for tier in tiers
    )


def _fitted(losses: npt.NDArray[np.float64], controls: npt.NDArray[np.float64]) -> Estimate | None:
    try:
        return skew_normal_exposure(losses, controls)
    except BadInput:  # too few controls, or of another shape
        return None


def findings(tiers: Sequence[CanaryExposure], p_values: Sequence[float], level: float) -> tuple[Finding, ...]:
    """One finding for each planted tier. The test decides that it leaks, the exposure in bits gives the severity.

    Args:
        tiers: of `exposures`.
        p_values: of the planted tiers in their order (`tier_tests`), corrected for all that is tested.
        level: a tier leaks where its p-value is at most this.
    """
    planted = [tier for tier in tiers if tier.repetitions]
    return tuple(_finding(tier, p, level) for tier, p in zip(planted, p_values, strict=True))


def _finding(tier: CanaryExposure, p: float, level: float) -> Finding:
    few = median_places(len(tier.each), tier.bits.confidence) is None
    by_bits = severity("exposure_bits", _own_lower(tier) if few else tier.bits.lo)
    at_least_low = min(by_bits, Severity.LOW, key=ORDER.index)
    return Finding(
        attack="canary_exposure",
        level="canary",
        metric="exposure_bits",
        estimate=tier.bits,
        severity=at_least_low if p <= level else Severity.NONE,
        threat=THREAT,
        statement=f"Secrets {tier.tier} have a median exposure of {tier.bits.value:.1f} bits of at most "
        f"{tier.ceiling:.1f} that could be seen; the median of secrets never planted is 1 bit.",
        advice="Remove or mask secrets before training, and drop repeated records.",
        notes=(
            tier.bits.method,
            f"a rank test against secrets never planted decides: p = {p:.2g}, corrected",
            *(("severity by the median of these secrets only",) if few and p <= level else ()),
        ),
        p_value=p,
    )


def _own_lower(tier: CanaryExposure) -> float:
    """Lower bound on the exposure of these secrets alone, in bits: for the severity of a tier of few secrets."""
    controls = round(2**tier.ceiling) - 1
    return own_exposure_at_least(tier.each, controls, confidence=tier.bits.confidence)
