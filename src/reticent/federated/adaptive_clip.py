# SPDX-License-Identifier: Apache-2.0
"""A clip norm that follows a quantile of the norms of updates, at a price that is part of the round's one Gaussian.

After Andrew, Thakkar, McMahan and Ramaswamy, "Differentially private learning with adaptive clipping" (NeurIPS 2021,
arXiv:1905.03871), Algorithm 1 and Theorem 1. In each round:

* a client's bit is 1 where its update is no longer than C, else 0; bits are summed less a half each, so that one client
  moves the sum by at most 1/2, and noise of standard deviation σ_b goes on it;
* b̄ = noisy sum / expected clients + 1/2, and the next C is C·exp(-η·(b̄ - γ));
* the updates of the round were clipped to C, and get noise of z_Δ·C, of that same C, with
  z_Δ = (z^-2 - (2·σ_b)^-2)^(-1/2).

Both releases together are one Gaussian of multiplier z: divide each by its noise, and a client moves them by at most
((1/z_Δ)² + (1/(2·σ_b))²)^(1/2) = 1/z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from reticent.core import validate
from reticent.core.errors import BadInput

SHARE = 20
"""The noise of the bits is a 20th of the expected clients unless it is said otherwise, as in the paper."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveClip:
    """The rule by which a clip norm follows the norms.

    Args:
        quantile: γ, the share of updates that shall be no longer than the clip norm.
        learning_rate: η.
        bit_noise: σ_b, standard deviation of the noise on the sum of the bits.

    Examples:
        >>> rule = AdaptiveClip(quantile=0.5, learning_rate=0.2, bit_noise=10.0)
        >>> round(rule.update_noise(1.0), 5)
        1.00125
        >>> rule.following(2.0, 0.5), rule.following(2.0, 0.0) > 2.0  # none was short enough: it grows
        (2.0, True)
    """

    quantile: float = 0.5
    learning_rate: float = 0.2
    bit_noise: float

    def __post_init__(self) -> None:
        validate.positive(learning_rate=self.learning_rate, bit_noise=self.bit_noise)
        if not 0 < self.quantile < 1:
            raise BadInput(f"quantile={self.quantile!r}", "must be above 0 and below 1", "Give 0.5.")

    def update_noise(self, noise_multiplier: float) -> float:
        """z_Δ: what the noise on the updates must be over C, so that it and the bits cost what z costs.

        Raises:
            BadInput: the bits alone cost more than z allows; z_Δ would be imaginary.
        """
        left = noise_multiplier**-2 - (2 * self.bit_noise) ** -2
        if left <= 0:
            raise BadInput(
                f"bit_noise={self.bit_noise:g} with a noise multiplier of {noise_multiplier:.3g}",
                "the count of short updates alone would give away more than is promised for the whole round",
                f"Give more than {noise_multiplier / 2:.3g}, which is the default from "
                f"{math.floor(SHARE * noise_multiplier / 2) + 1} clients a round on, or a fixed clip norm.",
            )
        return 1 / math.sqrt(left)

    def fraction(self, noised_sum: float, expected: float) -> float:
        """b̄, from the noised sum of the bits less a half each. A client that is missing counts as half short.

        >>> AdaptiveClip(bit_noise=1.0).fraction(-5.0, 10)  # ten answered, none was short
        0.0
        """
        return noised_sum / expected + 0.5

    def following(self, clip: float, fraction: float) -> float:
        """The clip norm of the next round, from that of this one and b̄."""
        return clip * math.exp(-self.learning_rate * (fraction - self.quantile))


def bit(norm: float, clip: float) -> float:
    """A half where the update is no longer than ``clip``, else minus a half.

    >>> bit(1.0, 1.0), bit(1.5, 1.0)
    (0.5, -0.5)
    """
    return 0.5 if norm <= clip else -0.5
