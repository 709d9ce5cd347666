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
from reticent.federated.clients import BY_USER, name_of, read_clients
from reticent.workflows.inputs import DataConfig, of_users, read_data, unwanted_in


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
            settings that would void the promise; a name in ``drop_users`` that is nobody's.
    """
    private = unit is not None
    refuse_unstable(unit, config)
    folder = Path(clients)
    if clients == BY_USER or clients.isdecimal() or not folder.is_dir():
        refuse_prepared(unit, data)
        read = read_data(data, _whole(config), each_alone=private, model=model)
        return ClientRecords(_left(read.records, config), clients, read.rejects)
    if not Path(data).is_dir() or not folder.samefile(data):
        raise BadInput(
            f"{data} with --clients {clients}",
            "both name data, and they are not the same folder",
            f"Give reticent federate {clients} --clients {clients}.",
        )
    rejects: list[str] = []
    leave = _Leaving(unwanted_in(config))

    def read_place(place: Path, prefix: str) -> list[Record]:
        refuse_prepared(unit, str(place))
        part = read_data(str(place), _whole(config), id_prefix=prefix, each_alone=private, model=model)
        rejects.append(part.rejects)
        leave.meet(part.records, name_of(place))
        return leave.of_client(place, _chosen(part.records, config, replace(config, drop_users="")))

    read_all = read_clients(folder, read_place)
    leave.refuse_nobody()
    records = [record for record in read_all if record.user not in leave.names]
    if not records:
        raise BadInput(str(folder), "has no client left after --drop_users", "Name fewer.")
    return ClientRecords(records, BY_USER, "".join(rejects))


def _whole(config: DataConfig) -> DataConfig:
    """Settings by which users are met before any is left out, where some are to leave: also who has too few records."""
    return replace(config, drop_users="", min_user_records=1, max_records=None) if unwanted_in(config) else config


def _chosen(records: Sequence[Record], config: DataConfig, by: DataConfig) -> Sequence[Record]:
    """Those of the records of `_whole` that are read, by settings of users."""
    return of_users(records, by)[: config.max_records] if unwanted_in(config) else records


class _Leaving:
    """Leaves out clients and users by name, and knows of whom there was anything: a name that is misspelt would let one
    stay who was to leave.

    Args:
        names: of clients and users.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.met: set[str] = set()

    def meet(self, records: Sequence[Record], *clients: str) -> None:
        """Take note of who has records, and of clients."""
        self.met |= {*clients, *(record.user for record in records if record.user)} & self.names

    def of_client(self, place: Path, records: Sequence[Record]) -> list[Record]:
        """The records of one client without those of users who leave; all of them where it leaves itself."""
        remaining = [record for record in records if record.user not in self.names]
        if name_of(place) in self.names:
            return list(records)
        if records and not remaining:
            raise BadInput(
                str(place),
                "is a client without data once its users are left out",
                f"Name the client in --drop_users, too: {name_of(place)}.",
            )
        return remaining

    def refuse_nobody(self) -> None:
        """Refuse names of nobody.

        Raises:
            BadInput: there is one.
        """
        nobody = sorted(self.names - self.met)
        if nobody:
            raise BadInput(
                f"drop_users={nobody[0][:80]!r}",
                "is the name of no client and of no user, so nobody is left out for it",
                "Give names as the data spells them.",
            )


def _left(records: Sequence[Record], config: DataConfig) -> Sequence[Record]:
    """The records of users who stay, at most ``max_records`` of them."""
    leave = _Leaving(unwanted_in(config))
    if not leave.names:
        return records
    leave.meet(records)
    leave.refuse_nobody()
    chosen = _chosen(records, config, config)
    if not chosen:
        raise BadInput("the data", "has no client left after --drop_users", "Name fewer.")
    return chosen
