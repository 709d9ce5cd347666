# SPDX-License-Identifier: Apache-2.0
"""Ids in lists and files, as people write them, and the hints where they are not there."""

import gzip
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.unlearning.listed_ids import listed_ids, nearest, shown

USERS = ("ana", "bo", "Jo Ann", "Doe, Jane", "José", "用户七", "7", "007", "sales/eve", "o'neil", "#1", " lead")


def users(given, present=USERS, **more):
    return listed_ids(given, flag="forget_users", kind="user", present=set(present), **more)


def test_ids_of_all_kinds_are_taken_as_they_stand():
    for name in USERS:
        assert users([name]) == (name,)
        assert users(name) == (name,)


def test_lists_and_commas():
    assert users("ana,bo, ana") == ("ana", "bo")
    assert users("ana,") == ("ana",)
    assert users("Doe, Jane") == ("Doe, Jane",)  # an id before it is a list
    assert users(["7", "007"]) == ("7", "007")
    assert users(["ana ", "lead"]) == ("ana", " lead")
    assert users([unicodedata.normalize("NFD", "José")]) == ("José",)


@pytest.mark.parametrize(
    "content",
    [
        b"ana\nbo\n",
        b"ana\r\nbo\r\n",
        b"ana\rbo\r",
        b"\xef\xbb\xbfana\nbo",
        "ana\r\nbo\r\n".encode("utf-16"),
        b"\n\nana  \n\n\tbo\n\n",
        b"ana\nbo\nana\nbo\n",
    ],
)
def test_files_of_lines(tmp_path, content):
    path = tmp_path / "who.txt"
    path.write_bytes(content)
    assert users(str(path)) == ("ana", "bo")


def test_files_with_fields(tmp_path):
    (tmp_path / "who.csv").write_text("user,since\nana,2020\n7,2021\n")
    (tmp_path / "who.jsonl").write_text('{"user": "ana"}\n{"user": 7}\n')
    for name in ("who.csv", "who.jsonl"):
        assert users(str(tmp_path / name)) == ("ana", "7")
    (tmp_path / "plain.csv").write_text("ana\nbo\n")
    with pytest.raises(BadInput, match=r"only the fields 'ana'.*file of text"):
        users(str(tmp_path / "plain.csv"))
    (tmp_path / "who.txt.gz").write_bytes(gzip.compress(b"ana\nJo Ann\n"))
    assert users(str(tmp_path / "who.txt.gz")) == ("ana", "Jo Ann")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.txt", b"", "is empty"),
        ("e.txt", b"\n \r\n", "is empty"),
        ("e.csv", b"", "is empty"),
        ("e.txt", "jos\u00e9".encode("latin-1"), "is not UTF-8"),
        ("e.txt", b"\x89PNG\r\n\x1a\n\x00\x00", "is not UTF-8"),
        ("e.txt", "ana\n".encode("utf-16-le"), "looks like UTF-16"),
        ("e.txt.gz", b"\x1f\x8b\x08\x00cut", "cannot be read"),
        ("e.txt", b"nobody\n", "is no user of this run"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        users(str(tmp_path / name))


def test_a_name_that_is_an_id_and_a_file_is_asked_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ana").write_text("bo\n")
    with pytest.raises(BadInput, match=r"a user of this run and a file here.*'\./ana'.*'ana,'"):
        users("ana")
    assert users("./ana") == ("bo",)
    assert users("ana,") == users(["ana"]) == ("ana",)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("anna", "Did you mean 'ana'?"),
        ("ANA", "Did you mean 'ana'?"),
        ("07", "Did you mean '007' or '7'?"),
        ("7.0", "Did you mean '007' or '7'?"),
        ("zzzzzz", "The run has 12 users, such as"),
        ("Jane", "The run has 12 users"),
        ("x" * 10_000, "x…"),
        ("ana,nobody", "'nobody': is no user"),
        ("\0", "is no user"),
        (".", "is a folder"),
        (",", "names nothing"),
    ],
)
def test_hints(given, hint):
    with pytest.raises(BadInput) as refused:
        users(given)
    assert hint in str(refused.value)
    assert len(str(refused.value)) < 400


def test_the_wrong_flag_and_a_run_without_users():
    with pytest.raises(BadInput, match=r"'r1' names a record. Use --forget_ids for records"):
        users("r1", others={"r1"})
    with pytest.raises(BadInput, match="its records have no users"):
        users("ana", present=())
    assert listed_ids("ana", flag="forget_ids", kind="record", present={"ana"}, others={"ana"}) == ("ana",)


def test_two_ids_that_look_alike_are_asked_back():
    with pytest.raises(BadInput, match="may be"):
        users([" a"], present=("a", "a "))
    assert users(["a "], present=("a", "a ")) == ("a ",)


def test_many_mistyped_ids_are_few_in_the_message():
    with pytest.raises(BadInput) as refused:
        users([f"nobody {number}" for number in range(1000)], present=[f"r{number:06d}" for number in range(50_000)])
    assert "and 995 more" in str(refused.value)
    assert len(str(refused.value)) < 600
    assert shown(["a"] * 7).endswith("and 2 more")
    assert nearest("r00123", [f"r{number:06d}" for number in range(50_000)])


@given(st.lists(st.text(min_size=1, max_size=8).filter(str.strip), min_size=1, unique=True))
def test_every_id_is_found_as_it_is_written(names):
    assert listed_ids(names, flag="forget_ids", kind="record", present=set(names)) == tuple(names)
