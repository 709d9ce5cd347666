# SPDX-License-Identifier: Apache-2.0
"""SecureAggregation: whether the server of a federation sees sums only. No torch, so that command lines can show their
help at once."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.federated.client_privacy import SHUFFLED, ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.secure.secure_plan import FEWEST

FLAG = "--secure_aggregation"
UNOPENED = "--secure_unopened"


@dataclass(frozen=True, kw_only=True)
class SecureAggregation:
    """Settings of secure aggregation (SecAgg+); off unless it is asked for.

    Args:
        secure_aggregation: the server sees masked updates and opens their sum alone; each client adds a share of the
            noise before. It goes with a promise to clients (epsilon or noise_multiplier) and sampling shuffled: all
            take turns, once a pass, so that how often one takes part is known, which is what the server sees.
        secure_threshold: the fewest clients of a round whose sum is opened, whose shares of noise the promise counts
            on; left out, two thirds of those that are asked. So many may fall silent as are above it.
        secure_neighbours: clients that each one shares masks with, an even number; left out, all of the round.
        secure_colluders: clients of a round that tell the server all they know. What ε is left then is in the table of
            who sees what.
        secure_bits: of the modulus; the more, the surer a sum is found that a client spoiled. Too few for all sums are
            refused.
        secure_unopened: rounds in a row that may change nothing before the run stops: each of them costs ε, and clients
            that break rounds on purpose would go on until none is left. The same command with a larger number goes on.

    Raises:
        BadInput: a value out of range, or a setting of it where it is off.

    Examples:
        >>> SecureAggregation(secure_aggregation=True).threshold_of(20)
        14
        >>> SecureAggregation(secure_threshold=5)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: secure_threshold: is a setting of secure aggregation, which is off. Give ...
    """

    secure_aggregation: bool = False
    secure_threshold: int | None = None
    secure_neighbours: int | None = None
    secure_colluders: int = 1
    secure_bits: int = 32
    secure_unopened: int = 3

    def __post_init__(self) -> None:
        validate.non_negative(secure_colluders=self.secure_colluders)
        validate.in_range(7, 32, secure_bits=self.secure_bits)
        given = {name: getattr(self, name) for name in ("secure_threshold", "secure_neighbours", "secure_unopened")}
        validate.positive(**{name: value for name, value in given.items() if value is not None})
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if changed and not self.secure_aggregation:
            raise BadInput(", ".join(changed), "is a setting of secure aggregation, which is off", f"Give {FLAG} true.")

    @property
    def on_record(self) -> dict[str, Any]:
        """Settings that decide the outcome: all but when to give up, which may be another when a run goes on."""
        return {name: value for name, value in asdict(self).items() if name != "secure_unopened"}

    def threshold_of(self, per_round: int) -> int:
        """The threshold where so many clients are asked in a round."""
        if self.secure_threshold is not None:
            return self.secure_threshold
        # More than half of the others have to hold pieces, and one more client than those to be opened.
        return max(math.ceil(2 * per_round / 3), (per_round - 1) // 2 + 2)

    def refuse(self, spec: FederationSpec, privacy: ClientPrivacy, *, engine: str) -> None:
        """Refuse what needs to see single updates, and what the promise could not be counted for.

        Raises:
            BadInput: the reason and the way out.
        """
        if not self.secure_aggregation:
            return
        self._refuse_threshold(spec.clients_per_round)
        for given, reason, fix in (*_of_updates(spec), *_of_promise(privacy), *_of_engine(engine)):
            raise BadInput(f"{given} with {FLAG}", reason, fix)

    def _refuse_threshold(self, per_round: int) -> None:
        if per_round < FEWEST:
            raise BadInput(
                f"clients_per_round={per_round} with {FLAG}",
                "with so few each knows another's update from the sum and its own",
                f"Give --clients_per_round {FEWEST} or more.",
            )
        if self.threshold_of(per_round) > per_round:
            raise BadInput(
                f"secure_threshold={self.secure_threshold}",
                f"only {per_round} clients are asked in a round, so no sum could ever be opened",
                f"Give {per_round} or less; a common choice is two thirds of them.",
            )


def _of_updates(spec: FederationSpec) -> list[tuple[str, str, str]]:
    """Settings for which a server would have to see single updates."""
    refused = []
    if spec.record_updates:
        reason = "no single update ever reaches the server, so there is none that it could keep"
        refused.append(("record_updates", reason, "Leave --record_updates out."))
    if spec.aggregation != "mean":
        reason = "the rule looks at single updates, and the server sees their sum alone"
        refused.append((f"aggregation={spec.aggregation!r}", reason, "Give --aggregation mean."))
    if spec.weighting != "uniform":
        reason = "in a sum that nobody looks into all count alike, as a weight that a client states cannot be checked"
        refused.append((f"weighting={spec.weighting!r}", reason, "Leave --weighting out."))
    return refused


def _of_promise(privacy: ClientPrivacy) -> list[tuple[str, str, str]]:
    """Promises that masked sums cannot keep, or none."""
    if not privacy.is_private:
        reason = "sums without noise tell what a client sent, by the difference of two that differ in it"
        return [("no promise to clients", reason, "Give --epsilon (8 is a usual start) or --noise_multiplier.")]
    if privacy.adaptive:
        reason = "the range of a masked vector follows from the clip norm, and a norm that moves by counts of single "
        reason += "updates would need a secure sum of its own"
        return [("adaptive=True", reason, "Give a fixed --clip_norm.")]
    if privacy.sampling != SHUFFLED:
        reason = (
            "the server sees who takes part, so coins hide nothing from it, and how often a client comes up by them "
        )
        reason += "has no bound that ε could be counted for"
        return [(f"sampling={privacy.sampling!r}", reason, "Give --sampling shuffled: all take turns, once a pass.")]
    return []


def _of_engine(engine: str) -> list[tuple[str, str, str]]:
    if engine == "local":
        return []
    reason = "its workers give their updates to the server's process as they are, where masks would hide nothing"
    return [(f"engine={engine!r}", reason, "Give --engine local.")]
