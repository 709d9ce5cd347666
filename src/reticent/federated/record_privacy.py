# SPDX-License-Identifier: Apache-2.0
"""RecordPrivacy: what each record of a client shall be promised against whoever sees that client's updates. No torch,
so that command lines can show their help at once."""

from __future__ import annotations

from dataclasses import dataclass, fields

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.federated.federation_spec import FederationSpec
from reticent.privacy.spec import refuse_both, refuse_delta


@dataclass(frozen=True, kw_only=True)
class RecordPrivacy:
    """Settings of the promise to each record, kept by noise inside clients; nothing given means none.

    It holds against the server too, and stands beside the promise to clients: the two are never added up.

    Args:
        record_epsilon: the promise, as small as is needed: the noise is then chosen so that it holds for all rounds
            that a client may be in.
        record_noise_multiplier: standard deviation of the noise of a local step over record_clip_norm, in place of
            record_epsilon.
        record_delta: chance that the promise may fail; left out, a tenth of 1 / records of all clients, rounded down to
            a power of ten.
        record_clip_norm: bound on what one record can add to a local step.

    Raises:
        BadInput: a value out of range, both record_epsilon and record_noise_multiplier, or settings with neither.

    Examples:
        >>> RecordPrivacy(record_epsilon=8.0).is_private, RecordPrivacy().is_private
        (True, False)
        >>> RecordPrivacy(record_clip_norm=0.5)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: record_clip_norm: is a setting of a promise to records, but neither ...
    """

    record_epsilon: float | None = None
    record_noise_multiplier: float | None = None
    record_delta: float | None = None
    record_clip_norm: float = 1.0

    def __post_init__(self) -> None:
        validate.positive(record_clip_norm=self.record_clip_norm)
        given = {name: getattr(self, name) for name in ("record_epsilon", "record_noise_multiplier")}
        validate.positive(**{name: value for name, value in given.items() if value is not None})
        refuse_delta(self.record_delta, of="records")
        refuse_both(self.record_epsilon, self.record_noise_multiplier)
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if changed and not self.is_private:
            raise BadInput(
                ", ".join(changed),
                "is a setting of a promise to records, but neither record_epsilon nor record_noise_multiplier is "
                "given, so no record would be protected",
                "Give --record_epsilon (8 is a usual start).",
            )

    @property
    def is_private(self) -> bool:
        """True if anything is promised at all."""
        return self.record_epsilon is not None or self.record_noise_multiplier is not None

    def refuse_federation(self, spec: FederationSpec) -> None:
        """Refuse a federation in which the promise could not be kept or checked.

        Raises:
            BadInput: stacked factors.
        """
        if self.is_private and spec.exchange == "stacked":
            raise BadInput(
                "exchange='stacked' with a promise to records",
                "the base changes from round to round, so nobody could check that nothing but noised gradients moved a "
                "client's weights",
                "Give --exchange ffa, whose average is exact, or average.",
            )
