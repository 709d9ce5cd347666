# SPDX-License-Identifier: Apache-2.0
"""Planted canaries → exposure by tier, and what their coins say about ε."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reticent.auditing.verdict import severity
from reticent.core.finding import Finding, ThreatModel
from reticent.core.results import CanaryExposure
from reticent.core.table import TokenTable
from reticent.data.canaries import Canary
from reticent.stats.exposure import ceiling, rank_exposure, tier_exposure

THREAT = ThreatModel(access="logprob", needs=("the format of the secret",))


def nll(table: TokenTable) -> npt.NDArray[np.float64]:
    """Mean negative log-likelihood (nats per token) of each row; lower = more familiar to the model."""
    trained = table.trained()
    return -trained.mean(trained["logp"])


def exposure(canaries: Sequence[Canary], losses: npt.NDArray[np.float64], confidence: float) -> tuple[CanaryExposure, ...]:
    """Exposure of each tier against secrets that were never planted.

    Exposure is log2 of the reference set's size minus log2 of the canary's rank in it (Carlini et al. 2019, §4); a
    control has about 1 bit in the median. The reference set of a control leaves that control out.
    """
    tiers = np.array([canary.repetitions if canary.planted else 0 for canary in canaries])
    controls = losses[tiers == 0]
    out: list[CanaryExposure] = []
    for repetitions in np.unique(tiers):
        mine = losses[tiers == repetitions]
        bits = _leave_one_out(controls) if repetitions == 0 else rank_exposure(mine, controls)
        out.append(
            CanaryExposure(
                tier=f"planted {repetitions} times" if repetitions else "control (never planted)",
                kind="record",
                repetitions=int(repetitions),
                bits=tier_exposure(bits, reference_size=len(controls), confidence=confidence),
                each=tuple(map(float, bits)),
                ceiling=ceiling(len(controls)),
            )
        )
    return tuple(out)


def findings(tiers: Sequence[CanaryExposure]) -> tuple[Finding, ...]:
    """One finding for each planted tier."""
    return tuple(
        Finding(
            attack="canary_exposure",
            level="canary",
            metric="exposure_bits",
            estimate=tier.bits,
            severity=severity("exposure_bits", tier.bits.lo),
            threat=THREAT,
            statement=f"Secrets {tier.tier} have a median exposure of {tier.bits.value:.1f} bits "
            f"[{tier.bits.lo:.1f}, {tier.bits.hi:.1f}] of at most {tier.ceiling:.1f}; secrets never planted have about 1.",
            advice="Remove or mask secrets before training, and drop repeated records.",
            notes=(f"rank among {2**tier.ceiling:.0f} secrets that were never planted",),
        )
        for tier in tiers
        if tier.repetitions
    )


def _leave_one_out(controls: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Exposure of each control among the others, ties counted against it."""
    ordered = np.sort(controls)
    ranks = np.searchsorted(ordered, controls, side="right")
    return ceiling(len(controls)) - np.log2(ranks)
