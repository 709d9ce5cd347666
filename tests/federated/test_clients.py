# SPDX-License-Identifier: Apache-2.0
"""Who holds what: clients of users, of groups of users, and of a folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.read import read
from reticent.federated.clients import clients_of, read_clients, with_clients


def records(users: int = 30) -> list[Record]:
    return [Record(id=f"{user}-{n}", text=f"hello {n}", user=f"u{user}") for user in range(users) for n in range(2)]


def read_place(place: Path, prefix: str) -> Sequence[Record]:
    return read(str(place), id_prefix=prefix).records


def write(path: Path, *users: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"text": f"note {n}"} | ({} if user is None else {"user": user}) for n, user in enumerate(users)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_user_stays_in_one_group_whoever_else_is_there() -> None:
    groups = {record.id: record.user for record in with_clients(records(), "3")}
    fewer = {record.id: record.user for record in with_clients(records(24), "3")}
    assert len(set(groups.values())) == 3
    assert fewer.items() <= groups.items()
    assert all(groups[f"{user}-0"] == groups[f"{user}-1"] for user in range(30))


@pytest.mark.parametrize(
    ("given", "why"), [("300", "get no data"), ("1", "number of at least"), ("nowhere/there", "neither by-user")]
)
def test_clients_that_cannot_be_are_refused(given: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        with_clients(records(), given)


def test_records_without_a_user_lie_on_no_client() -> None:
    with pytest.raises(BadInput, match="have no user"):
        with_clients([Record(id="a", text="x")], "by-user")


def test_a_folder_has_one_client_a_file_or_subfolder(tmp_path: Path) -> None:
    write(tmp_path / "ana.jsonl", None, None)
    write(tmp_path / "ben.jsonl", None, None)
    write(tmp_path / ".hidden", None)
    found = read_clients(tmp_path, read_place)
    assert [record.user for record in found] == ["ana", "ana", "ben", "ben"]
    assert len({record.id for record in found}) == 4
    assert [client.name for client in clients_of(found[::-1])] == ["ana", "ben"]


def test_a_user_in_the_folders_of_two_clients_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", "ana", "ben")
    write(tmp_path / "two.jsonl", "cem", "ana")
    with pytest.raises(BadInput, match="two clients, 'one' and 'two'"):
        read_clients(tmp_path, read_place)


def test_a_client_without_data_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", "ana")
    (tmp_path / "two.jsonl").touch()
    with pytest.raises(BadInput, match="client without data"):
        read_clients(tmp_path, read_place)
    (tmp_path / "two.jsonl").unlink()
    (tmp_path / "two").mkdir()
    with pytest.raises(BadInput, match="client without data"):
        read_clients(tmp_path, read_place)


def test_two_clients_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", "ana")
    write(tmp_path / "one" / "notes.jsonl", "ben")
    with pytest.raises(BadInput, match="one name"):
        read_clients(tmp_path, read_place)


def test_links_to_another_client_or_to_nowhere_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", "ana")
    write(tmp_path / "two" / "notes.jsonl", None)
    link = tmp_path / "zwei.jsonl"
    for target in ("one.jsonl", "two", "two/notes.jsonl"):
        link.symlink_to(tmp_path / target)
        with pytest.raises(BadInput, match=r"and zwei\.jsonl, two clients with the same records"):
            read_clients(tmp_path, read_place)
        link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="leads nowhere"):
        read_clients(tmp_path, read_place)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_a_client_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", "ana")
    write(tmp_path / os.fsdecode(b"two\xff.jsonl"), "ben")
    with pytest.raises(BadInput, match="name is no text"):
        read_clients(tmp_path, read_place)
