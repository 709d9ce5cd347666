# SPDX-License-Identifier: Apache-2.0
"""Planted canaries → exposure by tier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.auditing.verdict import severity
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate, Finding, ThreatModel
from reticent.core.results import CanaryExposure
from reticent.core.table import TokenTable
from reticent.data.canaries import Canary, named_tier
from reticent.stats.exposure import ceiling, exposure, rank_exposure, skew_normal_exposure
from reticent.stats.hypothesis import family_confidence

THREAT = ThreatModel(access="logprob", needs=("the format of the secret",))


def nll(table: TokenTable) -> npt.NDArray[np.float64]:
    """Mean negative log-likelihood (nats per token) of each row; lower = more familiar to the model."""
    trained = table.trained()
    return -trained.mean(trained["logp"])


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
    each = family_confidence(confidence, max(1, len(tiers)))
    return tuple(
        CanaryExposure(
            tier=named_tier(tier),
            kind="record",
            repetitions=tier,
            bits=exposure(losses[tier_of == tier], controls, confidence=each),
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


@dataclass(frozen=True, kw_only=True)
class TierTest:
    """TEMPORARY"""

    tier: str
    repetitions: int
    p: float


def tier_tests(canaries: Sequence[Canary], losses: npt.NDArray[np.float64]) -> tuple[TierTest, ...]:
    """Raw p-values of planted tiers."""
    from scipy.stats import mannwhitneyu

    never = losses[[canary.is_control or not canary.planted for canary in canaries]]
    tier_of = np.array([canary.repetitions * canary.planted if not canary.is_control else -1 for canary in canaries])
    return tuple(
        TierTest(
            tier=named_tier(int(tier)),
            repetitions=int(tier),
            p=float(mannwhitneyu(losses[tier_of == tier], never, alternative="less").pvalue),
        )
        for tier in np.unique(tier_of)
        if tier > 0
    )


def findings(tiers: Sequence[CanaryExposure], p_values: Sequence[float], error: float) -> tuple[Finding, ...]:
    """One finding for each planted tier."""
    planted = [tier for tier in tiers if tier.repetitions]
    return tuple(
        Finding(
            attack="canary_exposure",
            level="canary",
            metric="exposure_bits",
            estimate=tier.bits,
            severity=severity("exposure_bits", tier.bits.lo, p=p, error=error),
            threat=THREAT,
            statement=f"Secrets {tier.tier} have a median exposure of {tier.bits.value:.1f} bits of at most "
            f"{tier.ceiling:.1f} that could be seen; the median of secrets never planted is 1 bit.",
            advice="Remove or mask secrets before training, and drop repeated records.",
            notes=(tier.bits.method,),
            p_value=p,
        )
        for tier, p in zip(planted, p_values, strict=True)
    )
