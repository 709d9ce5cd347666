# SPDX-License-Identifier: Apache-2.0
"""PrivacySpec: what a private training shall promise. No torch, so that command lines can show their help at once."""

from __future__ import annotations

from dataclasses import dataclass, fields

from reticent.core import validate
from reticent.core.errors import BadInput

UNITS = ("record", "user")
CLIENT = "client"
"""The unit of a federation, which no single training promises anything to."""
USER_SAMPLING = ("user", "record", "group")
RECORD_SELECTION = ("random", "longest", "shortest", "low_perplexity", "high_perplexity", "random_chunk")
CLIPPING = ("flat", "per_layer", "automatic")
PROTECT = ("all", "spans")
ADD_OR_REMOVE, ZERO_OUT, REPLACE_ONE = "add_or_remove", "zero_out", "replace_one"
RELATIONS = (ADD_OR_REMOVE, ZERO_OUT, REPLACE_ONE)
"""Neighbouring relations: a unit is there or not, counts or adds nothing, is one or another."""
SMALLEST_DELTA = 1e-11
"""Below this rounding in the convolutions of a privacy loss distribution can make ε come out too small."""


@dataclass(frozen=True, kw_only=True)
class PrivacySpec:
    """Settings of the guarantee of a private training; nothing given means ordinary training.

    Args:
        epsilon: the promise, as small as is needed: the noise is then chosen so that it holds.
        noise_multiplier: standard deviation of the noise over clip_norm, in place of epsilon.
        delta: chance that the promise may fail; left out, a tenth of 1 / units, rounded down to a power of ten.
        unit: whose traces are hidden, "record" or "user".
        user_sampling: with unit "user": "user" draws users and averages some records of each, "record" draws records of
            users with at most records_per_user of them, "group" does the same and counts by group privacy (coarser).
        records_per_user: how many records of a user count, per draw of the user (user_sampling "user") or at all.
        record_selection: which ones: random, longest, shortest, low_perplexity, high_perplexity (under the base model),
            or random_chunk (pieces of all texts of the user; only with user_sampling "user").
        clip_norm: bound on what one unit can add to a step.
        clipping: flat (one norm over all layers), per_layer, or automatic (normalise instead of cutting).
        protect: "all" of a text, or only the marked "spans": the rest of it is then public and learned without noise.
        detector_recall: with protect "spans", the share of the sensitive text that is marked, above 0; 1 if all of it
            is, as with spans that were marked by hand. It is part of what the promise says.
        relation: what the data sets differ by that cannot be told apart: "add_or_remove" a unit; "zero_out", where it
            stays and adds nothing, so that the number of units may be known; "replace_one", where it is exchanged for
            any other (about twice the ε; not with user_sampling "record").

    Raises:
        BadInput: a value out of range, both epsilon and noise_multiplier, privacy settings with neither, or settings
            that are accounted for only under another relation.

    Examples:
        >>> PrivacySpec(epsilon=8.0, unit="user").is_private, PrivacySpec().is_private
        (True, False)
        >>> PrivacySpec(clip_norm=0.5)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: clip_norm: is a setting of private training, but neither epsilon nor ...
    """

    epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float | None = None
    unit: str = "record"
    user_sampling: str = "user"
    records_per_user: int = 4
    record_selection: str = "random"
    clip_norm: float = 1.0
    clipping: str = "flat"
    protect: str = "all"
    detector_recall: float | None = None
    relation: str = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        if self.unit == CLIENT:
            raise BadInput(
                f"unit={CLIENT!r}",
                "is what many clients are promised who train apart from each other, and here one training has all data",
                "Use `reticent federate`, or give --unit user.",
            )
        validate.one_of(UNITS, unit=self.unit)
        validate.one_of(USER_SAMPLING, user_sampling=self.user_sampling)
        validate.one_of(RECORD_SELECTION, record_selection=self.record_selection)
        validate.one_of(CLIPPING, clipping=self.clipping)
        validate.one_of(PROTECT, protect=self.protect)
        validate.one_of(RELATIONS, relation=self.relation)
        validate.positive(clip_norm=self.clip_norm, records_per_user=self.records_per_user)
        if self.epsilon is not None:
            validate.positive(epsilon=self.epsilon)
        if self.noise_multiplier is not None:
            validate.positive(noise_multiplier=self.noise_multiplier)
        if self.detector_recall is not None:
            validate.in_range(0, 1, detector_recall=self.detector_recall)
        refuse_delta(self.delta, of="units")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse settings that contradict each other or would be passed over in silence."""
        refuse_both(self.epsilon, self.noise_multiplier)
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if changed and not self.is_private:
            raise BadInput(
                ", ".join(changed),
                "is a setting of private training, but neither epsilon nor noise_multiplier is given, so nothing would "
                "be private",
                "Give --epsilon (8 is a usual start).",
            )
        if (self.protect == "spans") != (self.detector_recall is not None):
            raise BadInput(
                f"protect={self.protect!r} with detector_recall={self.detector_recall!r}",
                "what the spans miss has no guarantee, so how much of it they hold is part of the promise, and of no "
                "other",
                "Give --protect spans and --detector_recall together (1 if the spans were marked by hand), or neither.",
            )
        of_users = [name for name in ("user_sampling", "records_per_user", "record_selection") if name in changed]
        if of_users and self.unit == "record":
            raise BadInput(", ".join(of_users), "is only used with unit 'user'", "Give --unit user, or leave it out.")
        if self.record_selection == "random_chunk" and self.user_sampling != "user":
            raise BadInput(
                f"record_selection='random_chunk' with user_sampling={self.user_sampling!r}",
                "chunks are drawn anew each time a user is sampled, which only user_sampling 'user' does",
                "Give --user_sampling user, or another rule (longest is a good choice here).",
            )

        if self.relation == REPLACE_ONE and self.unit == "user" and self.user_sampling == "record":
            raise BadInput(
                f"relation={self.relation!r} with user_sampling='record'",
                "its accountant, a mixture of Gaussians, counts users who come or go, not users who are replaced",
                "Give --user_sampling user or group, or --relation add_or_remove or zero_out.",
            )

    @property
    def is_private(self) -> bool:
        """True if anything is promised at all."""
        return self.epsilon is not None or self.noise_multiplier is not None


def refuse_delta(delta: float | None, *, of: str) -> None:
    """Refuse a δ that nothing can be accounted for at; ``of`` names what it is chosen from where it is left out.

    Raises:
        BadInput: it is out of range.
    """
    if delta is not None and not SMALLEST_DELTA <= delta < 1:
        raise BadInput(
            f"delta={delta!r}",
            f"must be at least {SMALLEST_DELTA} (below, accounting is rounding) and below 1",
            f"Leave it out: it is then chosen from the number of {of}.",
        )


def refuse_both(epsilon: float | None, noise_multiplier: float | None) -> None:
    """Refuse a promise that is given twice.

    Raises:
        BadInput: both are given.
    """
    if epsilon is not None and noise_multiplier is not None:
        raise BadInput(
            f"epsilon={epsilon!r} and noise_multiplier={noise_multiplier!r}",
            "each follows from the other",
            "Give one of them.",
        )
