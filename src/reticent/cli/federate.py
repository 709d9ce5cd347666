# SPDX-License-Identifier: Apache-2.0
"""`reticent federate`: fine-tune a model on the texts of many clients, with a promise to each, and audit it later."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields, replace
from pathlib import Path

from reticent.core.progress import console
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.engine_config import EngineConfig
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.record_privacy import RecordPrivacy
from reticent.federated.secure.secure_spec import SecureAggregation
from reticent.workflows.inputs import DataConfig

USUAL = (
    "clients",
    "model",
    "out",
    "text_field",
    "user_field",
    "rounds",
    "clients_per_round",
    "local_steps",
    "method",
    "epsilon",
)


@dataclass(frozen=True, kw_only=True)
class FederationPlace:
    """Clients, base model and run folder of a federation.

    Args:
        clients: by-user, or a number of groups that users are dealt into by hash, or a folder with one client a file or
            subfolder.
        model: the pre-trained model: a folder, a hub id, or a catalogue name (reticent fetch-model).
        out: the run folder.
        engine: local runs all clients in this process, one after the other; ray runs Flower's simulation, with some
            worker processes that keep a base each (pip install "reticent[federated]").
        workers: of ray. Each holds a base in memory.
    """

    clients: str = "by-user"
    model: str = "smollm2-135m"
    out: str = "runs/federation"
    engine: str = "local"
    workers: int = 2


@dataclass(frozen=True, kw_only=True)
class FederationPromises(SecureAggregation, RecordPrivacy, ClientPrivacy):
    """All flags of promises; each of the three looks at its own."""

    def __post_init__(self) -> None:
        _ = self.to_clients, self.to_records, self.secure  # each refuses what contradicts itself

    @property
    def to_clients(self) -> ClientPrivacy:
        """The promise to each client."""
        return ClientPrivacy(**{field.name: getattr(self, field.name) for field in fields(ClientPrivacy)})

    @property
    def to_records(self) -> RecordPrivacy:
        """The promise to each record."""
        return RecordPrivacy(**{field.name: getattr(self, field.name) for field in fields(RecordPrivacy)})

    @property
    def secure(self) -> SecureAggregation:
        """The settings by which the server sees sums only."""
        return SecureAggregation(**{field.name: getattr(self, field.name) for field in fields(SecureAggregation)})


def _arguments(kind: type) -> str:
    """The part of a class's docstring about its fields."""
    return (inspect.getdoc(kind) or "").split("Args:\n")[1].split("\n\n")[0]


# Flags read their help off the docstring of their dataclass, and of no class that it derives from.
FederationPromises.__doc__ = f"""All flags of promises; each of the three looks at its own.

Args:
{_arguments(ClientPrivacy)}
{_arguments(RecordPrivacy)}
{_arguments(SecureAggregation)}
"""


def command(
    data: str,
    *,
    place: FederationPlace,
    data_config: DataConfig,
    split_config: SplitConfig,
    canary_config: CanaryConfig,
    federation: FederationSpec,
    privacy: FederationPromises,
) -> int:
    """Fine-tune a model on the texts of many clients, simulated on this machine, and keep some clients out by coin.

    With --epsilon each client is promised differential privacy: it takes part by a secret coin of its own, its update
    is clipped on arrival, and noise goes on the sum. With --record_epsilon each record is promised it against whoever
    sees its client's updates, by noise inside the client. With --secure_aggregation the server sees sums only, which
    clients noise before they send. The same command again goes on at the round where it was.

    Args:
        data: as for reticent tune; a folder with one client a file or subfolder where --clients names it.
    """
    from reticent.workflows.federate import FederationRecipe, federate
    from reticent.workflows.federated_data import read_clients_of

    clients, model, out = place.clients, place.model, place.out
    inputs = {"the data": data, "the clients": clients if Path(clients).is_dir() else None}
    RunFolder(root=Path(out)).refuse_foreign("federate", inputs | {"the base model": model})
    recipe = FederationRecipe(
        federation=federation,
        privacy=privacy.to_clients,
        record_privacy=privacy.to_records,
        secure=privacy.secure,
        split=split_config,
        canaries=canary_config,
        engine=EngineConfig(engine=place.engine, workers=place.workers),
    )
    source = read_clients_of(data, clients, data_config, unit=recipe.unit, model=model)
    recipe = replace(recipe, clients=source.clients)
    run = federate(
        source.records,
        base=model,
        out=out,
        title=Path(data).name,
        recipe=recipe,
        rejects=source.rejects,
        inputs=inputs,
    )
    console.print(f"model: {run.model}\nnow: reticent audit {run.root}", highlight=False, soft_wrap=True)
    return 0
