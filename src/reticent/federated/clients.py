# SPDX-License-Identifier: Apache-2.0
"""Clients of a federation: users, groups of users by hash, or a folder with one client a file or subfolder.

In a federated run the ``user`` of a record is its client: that is whom coins are thrown for, who is drawn, and who can
leave. Where a client is one person these are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.coin import uniform
from reticent.data.user_spelling import spelling, tell_alike

BY_USER = "by-user"
RULE = 1
"""Increment when users go to other groups."""
LEAST_CLIENTS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Client:
    """One client and its records.

    Args:
        name: of the user, the group, the file or the subfolder.
        records: that it trains on.
    """

    name: str
    records: tuple[Record, ...]


def with_clients(records: Sequence[Record], clients: str) -> list[Record]:
    """The records with their client as ``user``.

    Args:
        records: of users.
        clients: ``"by-user"``, or how many groups users are dealt into by hash, as text.

    Raises:
        BadInput: records without a user, or of one alone; a group that gets no user.

    Examples:
        >>> mails = [Record(id=name, text="hello", user=name) for name in ("ana", "ben", "cem", "dua")]
        >>> [record.user for record in with_clients(mails, "by-user")]
        ['ana', 'ben', 'cem', 'dua']
        >>> sorted({record.user for record in with_clients(mails, "2")})
        ['client 1', 'client 2']
    """
    nobody = sum(record.user is None for record in records)
    if nobody:
        raise BadInput(
            f"{nobody} of {len(records)} records",
            "have no user, so nobody knows on which client they lie",
            "Name the field of the users (--user_field), or give a folder with one client a file (--clients FOLDER).",
        )
    users = {record.user for record in records}
    if len(users) < LEAST_CLIENTS:
        raise BadInput(
            f"the records of {len(users)} user{'' if len(users) == 1 else 's'}",
            "are no federation: nobody takes part beside, and nobody is held out",
            f"Give records of at least {LEAST_CLIENTS} users, or a folder with one client a file (--clients FOLDER).",
        )
    tell_alike(record.user for record in records)
    if clients == BY_USER:
        return list(records)
    if not clients.isdecimal() or int(clients) < LEAST_CLIENTS:
        raise BadInput(
            f"clients={clients!r}",
            f"is neither by-user, nor a folder, nor a number of at least {LEAST_CLIENTS}",
            "Give --clients by-user, a number of groups, or a folder with one client a file.",
        )
    return _in_groups(records, int(clients))


def _in_groups(records: Sequence[Record], count: int) -> list[Record]:
    grouped = [replace(record, user=f"client {_group(str(record.user), count) + 1}") for record in records]
    filled = {record.user for record in grouped}
    if len(filled) < count:
        users = len({record.user for record in records})
        raise BadInput(
            f"clients={count}",
            f"{count - len(filled)} of {count} clients get no data: {users} users are dealt by hash",
            "Give fewer clients.",
        )
    return grouped


def _group(user: str, count: int) -> int:
    return int(uniform(RULE, "client", user) * count)


def read_clients(folder: Path, read_place: Callable[[Path, str], Sequence[Record]]) -> list[Record]:
    """The records of a folder with one client a file or subfolder; hidden files are passed over.

    Args:
        folder: of clients. A file's name without its ending is that of the client.
        read_place: reads the records of one file or subfolder; the second argument is a prefix for ids, so that equal
            texts of two clients have two.

    Raises:
        BadInput: fewer than two clients; one without data; two of one name, or of one place by a link; a user in the
            folders of two. Names that differ in case, blanks or forms of letters alone are one.
    """
    places = sorted(place for place in folder.iterdir() if not place.name.startswith("."))
    if len(places) < LEAST_CLIENTS:
        raise BadInput(str(folder), f"holds {len(places)} clients", "Give a folder with one file or subfolder each.")
    _refuse_links(folder, places)
    records: list[Record] = []
    names: dict[str, Path] = {}
    home: dict[str, str] = {}
    for place in places:
        name = name_of(place)
        before = names.setdefault(spelling(name), place)
        if before != place:
            raise BadInput(str(folder), f"has {before.name} and {place.name}, two clients of one name", "Rename one.")
        records += _of_client(place, name, read_place, home)
    return records


def name_of(place: Path) -> str:
    """The name of the client whose file or subfolder this is."""
    return place.name if place.is_dir() else place.stem


def _refuse_links(folder: Path, places: Sequence[Path]) -> None:
    """Refuse links that lead nowhere or to another client's place, however deep they lie: records of two clients are
    hidden by neither. Refuse names that are no text, too."""
    homes: dict[Path, Path] = {}
    files: dict[tuple[int, int], Path] = {}
    for place in places:
        try:
            place.name.encode()
        except UnicodeEncodeError as error:
            raise BadInput(str(folder), f"has a client whose name is no text ({place.name!r})", "Rename it.") from error
        if not place.exists():
            raise BadInput(str(place), "is a link that leads nowhere", "Take it away, or mend it.")
        _refuse_same(folder, homes.setdefault(place.resolve(), place), place)
    for place in places:
        for path in [place, *place.rglob("*")]:
            if path.is_symlink() and path.exists():  # one that leads nowhere, or to itself, holds nothing
                _refuse_same(folder, homes.setdefault(path.resolve(), place), place)
            if path.is_file() and (about := path.stat()).st_ino:  # 0 for all, where a file system numbers no files
                _refuse_same(folder, files.setdefault((about.st_dev, about.st_ino), place), place)
    for home, place in homes.items():
        for around in home.parents:
            _refuse_same(folder, homes.get(around, place), place)


def _refuse_same(folder: Path, one: Path, other: Path) -> None:
    if one != other:
        raise BadInput(
            str(folder),
            f"has {one.name} and {other.name}, two clients with the same records by way of a link: what hides one "
            "client would not hide whose records these are",
            "Leave one of them.",
        )


def _of_client(
    place: Path, name: str, read_place: Callable[[Path, str], Sequence[Record]], home: dict[str, str]
) -> list[Record]:
    if _is_empty(place):
        raise BadInput(str(place), "is a client without data", "Take it away, or put its records there.")
    prefix = hashlib.sha256(name.encode()).hexdigest()[:8]
    read_records = read_place(place, f"{prefix}-")
    if not read_records:
        raise BadInput(str(place), "is a client without data", "Take it away, or put its records there.")
    for record in read_records:
        if record.user is not None and (other := home.setdefault(spelling(record.user), name)) != name:
            raise BadInput(
                f"user {record.user[:80]!r}",
                f"has records in the folders of two clients, {other!r} and {name!r}, in whatever spelling: what hides "
                "one client would not hide this user",
                "Put all records of a user into one client's folder, or rename one of them where they are two people.",
            )
    return [replace(record, user=name) for record in read_records]


def _is_empty(place: Path) -> bool:
    if place.is_dir():
        return not any(not path.name.startswith(".") for path in place.iterdir())
    return place.stat().st_size == 0


def clients_of(records: Sequence[Record]) -> list[Client]:
    """The clients of what is trained on, ordered by name, so that the order of records changes no number of a client.

    >>> mails = [Record(id="1", text="hi", user="ben"), Record(id="2", text="hello", user="ana")]
    >>> [client.name for client in clients_of(mails)]
    ['ana', 'ben']
    """
    by_name: dict[str, list[Record]] = {}
    for record in records:
        by_name.setdefault(record.id if record.user is None else record.user, []).append(record)
    return [Client(name=name, records=tuple(by_name[name])) for name in sorted(by_name)]
