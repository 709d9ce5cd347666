# SPDX-License-Identifier: Apache-2.0
"""ClientPrivacy: what a federation shall promise each client. No torch, so that command lines can show their help at
once."""

from __future__ import annotations

from dataclasses import dataclass, fields

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.privacy.spec import refuse_both, refuse_delta

POISSON, SHUFFLED = "poisson", "shuffled"
SAMPLING = (POISSON, SHUFFLED)


@dataclass(frozen=True, kw_only=True)
class ClientPrivacy:
    """Settings of the promise to each client; nothing given means a federation without differential privacy.

    Args:
        epsilon: the promise, as small as is needed: the noise is then chosen so that it holds.
        noise_multiplier: z, standard deviation of the noise over the clip norm, in place of epsilon.
        delta: chance that the promise may fail; left out, a tenth of 1 / clients, rounded down to a power of ten.
        clip_norm: bound on the norm of a client's update; where it adapts, that of the first round.
        adaptive: whether the clip norm follows a quantile of the norms (Andrew et al. 2021, arXiv:1905.03871).
        target_quantile: the share of updates that shall be no longer than the clip norm.
        clip_learning_rate: how fast the clip norm moves, per round, in powers of e.
        bit_noise: standard deviation of the noise on how many updates were no longer; left out, a twentieth of the
            expected clients of a round.
        sampling: "poisson" draws each client by a coin of its own, which the accountant counts; "shuffled" takes all in
            turn, once a pass, and adds the noise of a tree (DP-FTRL, Kairouz et al. 2021, arXiv:2103.00039), whose
            promise does not rest on who is drawn when.

    Raises:
        BadInput: a value out of range, both epsilon and noise_multiplier, settings of a promise with neither, settings
            of an adaptive clip norm without it, or an adaptive one with shuffled clients.

    Examples:
        >>> ClientPrivacy(epsilon=8.0).is_private, ClientPrivacy().is_private
        (True, False)
        >>> ClientPrivacy(epsilon=8.0, target_quantile=0.7)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: target_quantile: is used only where the clip norm adapts. Give ...
    """

    epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float | None = None
    clip_norm: float = 0.1
    adaptive: bool = False
    target_quantile: float = 0.5
    clip_learning_rate: float = 0.2
    bit_noise: float | None = None
    sampling: str = POISSON

    def __post_init__(self) -> None:
        validate.one_of(SAMPLING, sampling=self.sampling)
        validate.positive(clip_norm=self.clip_norm, clip_learning_rate=self.clip_learning_rate)
        given = {name: getattr(self, name) for name in ("epsilon", "noise_multiplier", "bit_noise")}
        validate.positive(**{name: value for name, value in given.items() if value is not None})
        if not 0 < self.target_quantile < 1:
            raise BadInput(
                f"target_quantile={self.target_quantile!r}",
                "must be above 0 and below 1, or the clip norm never comes to rest",
                "Give 0.5.",
            )
        refuse_delta(self.delta, of="clients")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse settings that contradict each other or would be passed over in silence."""
        refuse_both(self.epsilon, self.noise_multiplier)
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if changed and not self.is_private:
            raise BadInput(
                ", ".join(changed),
                "is a setting of a promise to clients, but neither epsilon nor noise_multiplier is given, so nothing "
                "would be private",
                "Give --epsilon (8 is a usual start).",
            )
        if self.adaptive and self.sampling == SHUFFLED:
            raise BadInput(
                "adaptive=True with sampling='shuffled'",
                "the noise of a tree is for sums that were all clipped alike, and the counts would need a tree of "
                "their own",
                "Give a fixed clip norm, or sampling='poisson'.",
            )
        of_adaptive = [n for n in ("target_quantile", "clip_learning_rate", "bit_noise") if n in changed]
        if of_adaptive and not self.adaptive:
            raise BadInput(
                ", ".join(of_adaptive),
                "is used only where the clip norm adapts",
                "Give adaptive=True, or leave it out.",
            )

    @property
    def is_private(self) -> bool:
        """True if anything is promised at all."""
        return self.epsilon is not None or self.noise_multiplier is not None
