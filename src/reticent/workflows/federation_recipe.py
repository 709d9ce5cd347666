# SPDX-License-Identifier: Apache-2.0
"""All that a federation is asked for beyond its data and its base, and how a run folder keeps it. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.portable import portable, stands_for
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.data.stability import refuse_unstable
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.clients import BY_USER
from reticent.federated.engine_config import EngineConfig
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.record_privacy import RecordPrivacy
from reticent.federated.secure.secure_spec import SecureAggregation


@dataclass(frozen=True, kw_only=True)
class FederationRecipe:
    """How a federated run is made; what is left out is at its default.

    Args:
        federation: rounds, clients in a round, local steps, method.
        privacy: what each client is promised.
        record_privacy: what each record is promised, by noise inside its client.
        secure: whether the server sees sums of updates only.
        clients: ``"by-user"``, or how many clients users are dealt into by hash, as text.
        split: which clients take part, by coin; its unit is the client.
        canaries: secrets that are planted, each as a client of its own.
        engine: reaches the clients; a run can go on with another.

    Raises:
        BadInput: two of them contradict each other.

    Examples:
        >>> recipe = FederationRecipe(federation=FederationSpec(rounds=3), privacy=ClientPrivacy(epsilon=8.0))
        >>> recipe.clients
        'by-user'
    """

    federation: FederationSpec = field(default_factory=FederationSpec)
    privacy: ClientPrivacy = field(default_factory=ClientPrivacy)
    record_privacy: RecordPrivacy = field(default_factory=RecordPrivacy)
    secure: SecureAggregation = field(default_factory=SecureAggregation)
    clients: str = BY_USER
    split: SplitConfig = field(default_factory=SplitConfig)
    canaries: CanaryConfig = field(default_factory=CanaryConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        if self.split.split_unit == "record":
            raise BadInput(
                "split_unit='record' in a federation",
                "a client takes part or not, and with coins for records all would",
                "Leave --split_unit out.",
            )
        self.secure.refuse(self.federation, self.privacy, engine=self.engine.engine)
        if self.privacy.is_private:
            self.federation.refuse_privacy()
            refuse_unstable("user", self.split, self.canaries)
        if self.record_privacy.is_private:
            self.record_privacy.refuse_federation(self.federation)
            refuse_unstable("record", self.split, self.canaries)
            self._refuse_copies()
            if self.engine.engine != "local":
                raise BadInput(
                    f"engine={self.engine.engine!r} with a promise to each record",
                    "the ledger of each client's steps is kept by the process that trains them all, and workers apart "
                    "would have none",
                    "Give --engine local, or leave --record_epsilon and --record_noise_multiplier out.",
                )

    def _refuse_copies(self) -> None:
        """Refuse what is stable for a training in one place, where a text counts once, and not for clients apart."""
        if self.split.copies == "all":
            raise BadInput(
                "copies='all' with a promise to each record",
                "of a text that two clients have only the first one's is kept, so a record of one client would decide "
                "what another one trains on, and whoever sees that one's updates would see it",
                "Leave --copies out: each client then keeps its own.",
            )

    @property
    def copies(self) -> str:
        """``copies`` of the split, where "auto" drops nothing of a client for what another one has, if records are
        promised anything."""
        return "user" if self.record_privacy.is_private and self.split.copies == "auto" else self.split.copies

    @property
    def on_record(self) -> dict[str, Any]:
        """For the run folder."""
        parts = {"federation": self.federation.on_record, "clients": self.clients}
        parts |= {"split": asdict(self.split), "canaries": asdict(self.canaries)}
        parts |= {"privacy": asdict(self.privacy)} if self.privacy.is_private else {}
        parts |= {"secure": self.secure.on_record} if self.secure.secure_aggregation else {}
        return parts | ({"record_privacy": asdict(self.record_privacy)} if self.record_privacy.is_private else {})

    @property
    def unit(self) -> str | None:
        """The unit whose rows must not depend on others: ``"user"``, as each client is one, or ``"record"``; None where
        nothing is promised."""
        if self.privacy.is_private:
            return "user"
        return "record" if self.record_privacy.is_private else None


def named_base(base: str, run: RunFolder) -> str:
    """The run folder's name for the base, which is no path of this machine: as it has it already, where that is the
    same one."""
    recorded = (run.settings("federate") or {}).get("base")
    return recorded if isinstance(recorded, str) and stands_for(recorded, base, run.root) else portable(base, run.root)
