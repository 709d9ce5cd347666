# SPDX-License-Identifier: Apache-2.0
"""Who holds what: clients of users, of groups of users, and of a folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.read import read
from reticent.federated.clients import clients_of, read_clients, with_clients
from reticent.workflows.federated_data import ClientRecords, read_clients_of
from reticent.workflows.inputs import DataConfig


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


@pytest.mark.parametrize("given", ["by-user", "2"])
def test_one_user_alone_is_no_federation_and_is_sent_to_no_flag_that_is_refused(given: str) -> None:
    with pytest.raises(BadInput, match="the records of 1 user: are no federation") as refusal:
        with_clients([Record(id=str(n), text=f"hello {n}", user="ana") for n in range(4)], given)
    assert "split_unit" not in str(refusal.value)


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


def test_links_within_a_client_to_another_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", None)
    write(tmp_path / "two" / "notes.jsonl", None)
    write(tmp_path / "three" / "deep" / "notes.jsonl", None)
    more = tmp_path / "two" / "more.jsonl"
    for target in (tmp_path / "one.jsonl", tmp_path / "three", tmp_path / "three" / "deep", tmp_path):
        more.symlink_to(target)
        with pytest.raises(BadInput, match="two clients with the same records"):
            read_clients(tmp_path, read_place)
        more.unlink()
    more.hardlink_to(tmp_path / "one.jsonl")
    with pytest.raises(BadInput, match="two clients with the same records"):
        read_clients(tmp_path, read_place)
    more.unlink()
    more.symlink_to(tmp_path / "two" / "notes.jsonl")
    assert len({record.user for record in read_clients(tmp_path, read_place)}) == 3


@pytest.mark.parametrize("other", ["Caf\u00e9", "caf\u00e9 ", "cafe\u0301", "CAF\u00c9", "ca\u00adf\u00e9"])
def test_one_user_in_two_spellings_is_in_two_folders_all_the_same(other: str, tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", "caf\u00e9", "ben")
    write(tmp_path / "two.jsonl", "cem", other)
    with pytest.raises(BadInput, match="in whatever spelling"):
        read_clients(tmp_path, read_place)


def test_a_link_to_itself_within_a_client_ends_with_no_crash(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", None)
    write(tmp_path / "two" / "notes.jsonl", None)
    (tmp_path / "two" / "loop").symlink_to("loop")
    assert len({record.user for record in read_clients(tmp_path, read_place)}) == 2


def test_where_files_have_no_numbers_clients_are_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "one.jsonl", None)
    write(tmp_path / "two.jsonl", None, None)
    stat = Path.stat

    def unnumbered(self: Path, **given: bool) -> os.stat_result:
        status = list(stat(self, **given))
        status[1] = 0  # as some network file systems have it
        return os.stat_result(status)

    monkeypatch.setattr(Path, "stat", unnumbered)
    assert len({record.user for record in read_clients(tmp_path, read_place)}) == 2


def test_two_files_of_one_name_in_two_spellings_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "caf\u00e9.jsonl", None)
    write(tmp_path / "cafe\u0301.jsonl", None)
    if len(list(tmp_path.iterdir())) == 2:  # else the disk takes the two for one
        with pytest.raises(BadInput, match="one name"):
            read_clients(tmp_path, read_place)


def test_users_who_may_be_one_person_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    with_clients(records(), "by-user")
    assert not capsys.readouterr().out
    with_clients([*records(), Record(id="x", text="y", user="U7 ")], "by-user")
    said = capsys.readouterr()
    assert "2 users differ from another in their spelling alone, such as 'u7' and 'U7 '" in " ".join(
        (said.out + said.err).split()
    )


FOLDER = {"ana": ("ana", "bea"), "ben": ("ben",), "cem": ("cem",)}


def read_of(
    tmp_path: Path,
    drop: str,
    *,
    by_user: bool = False,
    most: int | None = None,
    users: Mapping[str, tuple[str, ...]] = FOLDER,
) -> ClientRecords:
    config = DataConfig(drop_users=drop, max_records=most)
    for name, some in (FOLDER | dict(users)).items():
        write(tmp_path / "clients" / f"{name}.jsonl", *some)
    write(tmp_path / "all.jsonl", *(user for some in FOLDER.values() for user in some))
    place = str(tmp_path / ("all.jsonl" if by_user else "clients"))
    return read_clients_of(place, "by-user" if by_user else place, config, unit=None, model="none")


@pytest.mark.parametrize("by_user", [True, False])
def test_whoever_is_to_leave_leaves_and_a_name_of_nobody_is_refused(by_user: bool, tmp_path: Path) -> None:
    left = read_of(tmp_path, "ben", by_user=by_user).records
    assert {record.user for record in left} == ({"ana", "bea", "cem"} if by_user else {"ana", "cem"})
    with pytest.raises(BadInput, match="drop_users='Ben': is the name of no client and of no user"):
        read_of(tmp_path, "ana,Ben", by_user=by_user)
    with pytest.raises(BadInput, match="no client left"):
        read_of(tmp_path, "ana,bea,ben,cem", by_user=by_user)


def test_a_user_of_a_client_leaves_and_is_counted_before_the_cut(tmp_path: Path) -> None:
    whole = {record.id for record in read_of(tmp_path, "").records}
    left = {record.id for record in read_of(tmp_path, "bea").records}
    assert left < whole
    assert len(left) == 3
    with pytest.raises(BadInput, match="Name the client in --drop_users, too: ana"):
        read_of(tmp_path, "ana-user,bea-user", users={"ana": ("ana-user", "bea-user")})
    assert [record.user for record in read_of(tmp_path, "ana", by_user=True, most=2).records] == ["bea", "ben"]


@pytest.mark.parametrize("by_user", [True, False])
def test_who_has_too_few_records_may_be_named_among_those_who_leave(by_user: bool, tmp_path: Path) -> None:
    users = {"ana": ("ana", "ana", "bea"), "ben": ("ben", "ben"), "cem": ("cem", "cem")}
    for name, some in users.items():
        write(tmp_path / "clients" / f"{name}.jsonl", *some)
    write(tmp_path / "all.jsonl", *(user for some in users.values() for user in some))
    place = str(tmp_path / ("all.jsonl" if by_user else "clients"))
    config = DataConfig(drop_users="bea,ben", min_user_records=2, max_records=3)
    read = read_clients_of(place, "by-user" if by_user else place, config, unit=None, model="none").records
    assert [record.user for record in read] == ["ana", "ana", "cem", "cem"][: 3 if by_user else 4]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_a_client_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", "ana")
    write(tmp_path / os.fsdecode(b"two\xff.jsonl"), "ben")
    with pytest.raises(BadInput, match="name is no text"):
        read_clients(tmp_path, read_place)
