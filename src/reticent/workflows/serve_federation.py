# SPDX-License-Identifier: Apache-2.0
"""The server of a federation whose clients are on machines of their own: from their keys to a folder with the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.outputs import refuse_empty
from reticent.core.processes import refuse_several
from reticent.core.progress import console
from reticent.core.record import Record, write_records
from reticent.core.run_folder import RunFolder
from reticent.federated.clients import LEAST_CLIENTS
from reticent.workflows.federation_recipe import FederationRecipe, named_base

_PROGRAM = (
    "from reticent.federated.flower.launched_programs import server_program; "
    "server_program('reticent.workflows.federation_server', 'serve_plan')"
)


@dataclass(frozen=True, kw_only=True)
class ServerPlace:
    """The place of the server, and how long it waits.

    Args:
        address: host and port by which clients call it, and that the certificate is for.
        bind: address of this machine to listen on; left out, the host of --address.
        certificate: file with the server's certificate, in PEM.
        certificate_key: file with the private key to it, in PEM.
        authority: file with the certificate of the authority that signed it; clients get it too.
        patience: seconds in which all clients have to join.
        timeout: seconds after which a client that was asked counts as one that does not answer.

    Raises:
        BadInput: an address without a port, or a time that is none.

    Examples:
        >>> ServerPlace(address="federation.example.org:9092").host_and_port
        ('federation.example.org', 9092)
    """

    address: str = "127.0.0.1:9092"
    bind: str = ""
    certificate: str = "server.crt"
    certificate_key: str = "server.key"
    authority: str = "authority.crt"
    patience: float = 3600.0
    timeout: float = 3600.0

    def __post_init__(self) -> None:
        validate.positive(patience=self.patience, timeout=self.timeout)
        host_and_port(self.address, "address")

    @property
    def host_and_port(self) -> tuple[str, int]:
        """The two parts of the address."""
        return host_and_port(self.address, "address")


def host_and_port(address: str, flag: str) -> tuple[str, int]:
    """The parts of ``HOST:PORT``.

    Raises:
        BadInput: it is no such text.

    >>> host_and_port("127.0.0.1:9092", "address")
    ('127.0.0.1', 9092)
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 2**16):
        raise BadInput(f"--{flag} {address[:80]}", "is no host with a port", "Give HOST:PORT, as 127.0.0.1:9092.")
    return host.strip("[]"), int(port)


def serve_federation(
    clients: Path,
    *,
    base: str,
    out: str | Path,
    recipe: FederationRecipe,
    place: ServerPlace,
    held_out: Sequence[Record] = (),
) -> RunFolder:
    """Tune ``base`` with clients on machines of their own, as soon as all have joined, and leave a folder of the run.

    The folder holds the model, what is promised and the page, and no text: audits need the clients'. The same call
    again goes on at the round where it was.

    Args:
        clients: folder with the public key of each client, ``NAME.pub``.
        base: folder, hub id or catalogue name; clients need the same one.
        out: the run folder.
        recipe: settings of the federation and the promise; what is about data is not read.
        place: of the server.
        held_out: records on which the loss is measured after each round, of nobody who takes part.

    Raises:
        BadInput: Flower is not installed or of another version; a certificate expired or is for another host; no key,
            or one twice; too few clients; settings that contradict the promise.
        Unusable: clients did not join in time, the port is taken, or Flower ended.
        GuaranteeViolated: as `federate`.
    """
    from reticent.federated.flower import flower_switches
    from reticent.federated.flower.certificates import ServerCertificate, check_certificate, public_keys
    from reticent.federated.flower.child_processes import ends_in_order
    from reticent.federated.flower.superlink_server import ServerAddress, flower_server
    from reticent.workflows.federation_server import ServerPlan, failure_of, written

    refuse_several("reticent.serve_federation")
    refuse_empty("out", out)
    run = RunFolder(root=Path(out))
    run.refuse_foreign("federate", {"the base model": base, "the clients' keys": clients})
    flower_switches.ready()
    _check(recipe)
    host, port = place.host_and_port
    files = ServerCertificate(
        certificate=Path(place.certificate), key=Path(place.certificate_key), authority=Path(place.authority)
    )
    check_certificate(files, host)
    keys = public_keys(clients)
    _refuse_few(keys, recipe)
    about = {"base": named_base(base, run), "data": _fingerprint(keys), "title": "", "clients": sorted(keys)}
    config = {**recipe.on_record, **about}
    with run.alone(), ends_in_order():
        run.refuse_other("federate", config, begun=lambda: _begun(run))
        with run.kept_if(lambda: _begun(run)):
            run.claim("federate", config)
            address = ServerAddress(host=host, port=port, bind=place.bind or host, files=files)
            with flower_server(address, code=_PROGRAM) as server:
                held_out_file = server.plan.with_name("held_out.parquet")
                if held_out:
                    write_records(held_out_file, held_out)
                plan = ServerPlan(
                    base=base,
                    out=str(run.root.resolve()),
                    title=run.root.name,
                    federation=asdict(recipe.federation),
                    privacy=asdict(recipe.privacy),
                    nodes=server.register(keys),
                    held_out=str(held_out_file) if held_out else "",
                    patience=place.patience,
                    timeout=place.timeout,
                )
                written(plan, server.plan)
                console.print(f"serving {len(keys)} clients at {place.address}", highlight=False)
                server.run(lambda: failure_of(server.plan))
    return run


def _check(recipe: FederationRecipe) -> None:
    """Refuse settings that a deployment cannot have."""
    from reticent.models.tuning.method import check_method

    spec = recipe.federation
    check_method(spec.method, spec.method_params)
    spec.refuse_bases_apart("deployment")
    if recipe.record_privacy.is_private:
        raise BadInput(
            "a promise to each record in a deployment",
            "noise inside a client is that client's own, and here none of them would add any",
            "Leave it out, or simulate the federation (reticent.federate).",
        )
    if recipe.secure.secure_aggregation:
        raise BadInput(
            "secure_aggregation=True in a deployment",
            "a client has to remember its secrets from one message of the protocol to the next, and a node here starts "
            "a process for each message that remembers nothing",
            "Leave it out, or simulate the federation (reticent.federate).",
        )
    if spec.weighting != "uniform":
        raise BadInput(
            f"weighting={spec.weighting!r} in a deployment",
            "the server does not know how much data a client has, and what a client says of it is not believed",
            "Leave --weighting out.",
        )


def _fingerprint(keys: Mapping[str, bytes]) -> str:
    """Digest of who takes part; it is to a deployment what that of the records is to other runs."""
    return hashlib.sha256(
        json.dumps({name: key.hex() for name, key in keys.items()}, sort_keys=True).encode()
    ).hexdigest()


def _refuse_few(keys: dict[str, bytes], recipe: FederationRecipe) -> None:
    if len(keys) < LEAST_CLIENTS:
        raise BadInput(f"{len(keys)} clients", "are no federation", f"Give the keys of at least {LEAST_CLIENTS}.")
    asked = recipe.federation.clients_per_round
    if asked > len(keys):
        raise BadInput(
            f"clients_per_round={asked}", f"there are keys of {len(keys)} clients", f"Give {len(keys)} or less."
        )


def _begun(run: RunFolder) -> bool:
    from reticent.federated.server_state import FILE

    return run.model.exists() or (run.checkpoints / FILE).exists() or run.begun.exists()
