# SPDX-License-Identifier: Apache-2.0
"""A client of a federation, on its own machine: it trains on its own texts whenever the server asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reticent.core import validate
from reticent.core.processes import refuse_several
from reticent.core.record import Record
from reticent.workflows.serve_federation import host_and_port


@dataclass(frozen=True, kw_only=True)
class ClientPlace:
    """A client's way to the server, and what it trains.

    Args:
        superlink: host and port of the server.
        authority: file with the certificate of the authority that the server's is of.
        key: file with this client's private key; the server has the public one.
        model: the same base as the server's: a folder, a hub id, or a catalogue name (reticent fetch-model).
        device: "auto" is the GPU if there is one.
        patience: seconds without a server after which the client leaves.

    Raises:
        BadInput: an address without a port, no such device, or a time that is none.
    """

    superlink: str = "127.0.0.1:9092"
    authority: str = "authority.crt"
    key: str = "client.key"
    model: str = "smollm2-135m"
    device: str = "auto"
    patience: float = 600.0

    def __post_init__(self) -> None:
        host_and_port(self.superlink, "superlink")
        validate.device(device=self.device)
        validate.positive(patience=self.patience)


def join_federation(records: Sequence[Record], place: ClientPlace) -> None:
    """Take part with the records of one client, until the server is gone or this process is stopped.

    Args:
        records: of this client; they never leave its machine, while updates made of them do.
        place: of the server, and what is trained.

    Raises:
        BadInput: Flower is not installed or of another version; the server's certificate expired or is for another
            host; a key that cannot be used.
        Unusable: there is no server, or it does not know the key.
    """
    from reticent.federated.flower import flower_switches
    from reticent.federated.flower.certificates import check_private_key
    from reticent.federated.flower.child_processes import ends_in_order
    from reticent.federated.flower.supernode_client import NodePlace, run_node
    from reticent.models.locate import locate

    refuse_several("reticent.join_federation")
    flower_switches.ready()
    host, port = host_and_port(place.superlink, "superlink")
    key = Path(place.key).resolve()
    check_private_key(key)
    base = str(Path(locate(place.model)).resolve())
    way = NodePlace(host=host, port=port, authority=Path(place.authority).resolve(), key=key, patience=place.patience)
    with ends_in_order():
        run_node(way, base=base, records=records, device=place.device)
