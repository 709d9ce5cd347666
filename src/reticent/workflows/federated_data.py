# SPDX-License-Identifier: Apache-2.0
"""Records of clients: from one file of users, or from a folder with one client a file or subfolder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.stability import refuse_prepared, refuse_unstable
from reticent.federated.clients import BY_USER, read_clients
from reticent.workflows.inputs import DataConfig, read_data


class ClientRecords(NamedTuple):
    """Records with users, how these are clients, and the rows that were skipped."""

    records: Sequence[Record]
    clients: str
    rejects: str = ""


def read_clients_of(data: str, clients: str, config: DataConfig, *, unit: str | None, model: str) -> ClientRecords:
    """Records as a person names them.

    Args:
        data: file, folder or hub id.
        clients: ``"by-user"``, a number of groups, or the folder of ``data`` with one client a file or subfolder.
        config: fields of the data.
        unit: what is promised privacy, ``"user"`` for clients or ``"record"``: nothing may make its rows depend on
            those of others; None where nothing is promised.
        model: that will read the records, for chats.

    Raises:
        BadInput: the data cannot be read; it is not the folder that ``clients`` names; what `read_clients` refuses;
            settings that would void the promise.
    """
    private = unit is not None
    refuse_unstable(unit, config)
    folder = Path(clients)
    if clients == BY_USER or clients.isdecimal() or not folder.is_dir():
        refuse_prepared(unit, data)
        read = read_data(data, config, each_alone=private, model=model)
        return ClientRecords(read.records, clients, read.rejects)
    if not Path(data).is_dir() or not folder.samefile(data):
        raise BadInput(
            f"{data} with --clients {clients}",
            "both name data, and they are not the same folder",
            f"Give reticent federate {clients} --clients {clients}.",
        )
    rejects: list[str] = []

    def read_place(place: Path, prefix: str) -> list[Record]:
        refuse_prepared(unit, str(place))
        part = read_data(str(place), replace(config, drop_users=""), id_prefix=prefix, each_alone=private, model=model)
        rejects.append(part.rejects)
        return list(part.records)

    unwanted = {name.strip() for name in config.drop_users.split(",")}
    records = [record for record in read_clients(folder, read_place) if record.user not in unwanted]
    return ClientRecords(records, BY_USER, "".join(rejects))
