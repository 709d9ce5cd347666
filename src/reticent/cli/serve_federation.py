# SPDX-License-Identifier: Apache-2.0
"""`reticent serve-federation`: the server of a federation whose clients are on machines of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reticent.core.progress import console
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.workflows.inputs import DataConfig
from reticent.workflows.serve_federation import ServerPlace

USUAL = ("model", "out", "address", "certificate", "certificate_key", "authority", "rounds", "clients_per_round")


@dataclass(frozen=True, kw_only=True)
class ServedRun:
    """Base model and run folder.

    Args:
        model: the pre-trained model: a folder, a hub id, or a catalogue name (reticent fetch-model).
        out: the run folder.
        held_out: data of nobody who takes part, on which the loss is measured after each round.
    """

    model: str = "smollm2-135m"
    out: str = "runs/federation"
    held_out: str | None = None


def command(
    clients: str,
    *,
    place: ServedRun,
    server: ServerPlace,
    data_config: DataConfig,
    federation: FederationSpec,
    privacy: ClientPrivacy,
) -> int:
    """Tune a model with clients on machines of their own; each runs reticent join-federation.

    It begins as soon as all clients have joined. The same command again goes on at the round where it was.

    Args:
        clients: folder with the public key of each client, NAME.pub (ssh-keygen -t ecdsa -b 384 -f NAME).
    """
    from reticent.workflows.federate import HELD_OUT
    from reticent.workflows.federation_recipe import FederationRecipe
    from reticent.workflows.inputs import InputRecords, read_data, tell_rejects
    from reticent.workflows.serve_federation import serve_federation

    model, out, held_out = place.model, place.out, place.held_out
    recipe = FederationRecipe(federation=federation, privacy=privacy)
    read = read_data(held_out, data_config, model=model) if held_out else InputRecords(())
    tell_rejects(read.rejects)
    records = read.records[:HELD_OUT]
    run = serve_federation(Path(clients), base=model, out=out, recipe=recipe, place=server, held_out=records)
    console.print(f"model: {run.model}\npage: {run.federation_page}", highlight=False, soft_wrap=True)
    return 0
