# SPDX-License-Identifier: Apache-2.0
"""Files are whole or not there."""

import errno
import os
import stat
import subprocess
import sys
import time

import pytest

from reticent.core import atomic
from reticent.core.atomic import (
    LISTING,
    STALE,
    replacing,
    replacing_folder,
    replacing_together,
    sweep,
    write_text,
)
from reticent.core.errors import BadInput, Unusable


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with replacing_folder(tmp_path / "model", kind="model") as folder:
            folder.mkdir()
            (folder / content).write_text(content)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [LISTING, "two"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "model" / "two").stat().st_mode) == 0o600


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path):
    place = tmp_path / "model"

    def refused(match, kind="model"):
        before = snapshot(tmp_path)
        with pytest.raises(BadInput, match=match), replacing_folder(place, kind=kind) as folder:
            folder.mkdir()
        assert snapshot(tmp_path) == before

    place.write_text("a note")
    refused("is a file")
    place.unlink()
    place.mkdir()
    (place / "thesis.tex").write_text("mine")
    refused("did not make as a model")
    (place / "thesis.tex").unlink()
    with replacing_folder(place, kind="model") as folder:  # an empty folder holds nothing of anybody's
        folder.mkdir()
        (folder / "weights").write_text("ours")
    refused("did not make as a corpus", kind="corpus")
    refused("did not make as an ensemble", kind="ensemble")
    (place / "notes.md").write_text("mine")
    refused("'notes.md', which reticent did not write")


@pytest.mark.parametrize("there", ["folder", "full folder", "device"])
def test_a_file_never_takes_the_place_of_what_is_no_file(tmp_path, there):
    place = tmp_path / "report.html"
    if there == "device":
        os.mkfifo(place)
    else:
        place.mkdir()
    if there == "full folder":
        (place / "thesis.tex").write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(BadInput, match=r"is a folder|no ordinary file"):
        write_text(place, "page")
    with pytest.raises(BadInput), replacing_together([tmp_path / "a", place]) as temporary:
        temporary[tmp_path / "a"].write_text("a")
    assert snapshot(tmp_path) == before


def test_a_file_made_a_folder_by_its_writer_is_not_moved(tmp_path):
    with pytest.raises(BadInput, match="cannot be written"), replacing(tmp_path / "a") as temporary:
        temporary.mkdir()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_and_a_loop_refused(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "page")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "page").read_text() == "x"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(Unusable):
        write_text(tmp_path / "loop", "x")


def test_several_files_come_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    write_text(first, "old")
    with pytest.raises(RuntimeError), replacing_together([first, second]) as temporary:
        temporary[first].write_text("new")
        temporary[second].write_text("new")
        raise RuntimeError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
    with replacing_together([first, second], public=[second]) as temporary:
        temporary[first].write_text("new")
        temporary[second].write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert stat.S_IMODE(second.stat().st_mode) == 0o644


def test_folders_made_on_the_way_go_again(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "new" / "deep" / "a") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_can_be_written_and_one_too_long_is_refused(tmp_path):
    write_text(tmp_path / ("a" * 250), "x")
    with pytest.raises(Unusable, match="cannot be written"):
        write_text(tmp_path / ("a" * 300), "x")
    assert len(list(tmp_path.iterdir())) == 1


def snapshot(folder):
    return {
        path: (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_disk_or_read_only_folder_is_bad_input_and_leaves_nothing(tmp_path, number):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(BadInput, match="cannot be written"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(number, "no")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        (tmp_path / "missing").read_text()


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "y")


LEFT = """
import os, signal, sys
from reticent.core.atomic import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("private")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs process numbers that can be asked for")
def test_what_a_killed_process_left_is_taken_away(tmp_path):
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", LEFT, str(path)], check=False)
    [left] = tmp_path.iterdir()
    with replacing(path) as temporary:
        assert not left.exists()
        [mine] = tmp_path.iterdir()
        temporary.write_text("new")
        write_text(path, "in between")
        assert mine.exists()
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="needs folders that can be locked")
def test_what_a_process_still_holds_stays_though_its_number_is_unknown_here(tmp_path):
    """As of a process in another container of the same name."""
    import fcntl

    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", LEFT, str(path)], check=False)
    [left] = tmp_path.iterdir()
    held = os.open(left, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    write_text(path, "new")
    sweep(tmp_path)
    assert left.exists()
    os.close(held)
    sweep(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="needs process numbers that can be asked for")
def test_where_folders_cannot_be_locked_it_takes_an_hour(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "fcntl", None)
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", LEFT, str(path)], check=False)
    [left] = tmp_path.iterdir()
    write_text(path, "new")
    assert left.exists()
    then = time.time() - 2 * STALE
    os.utime(left, (then, then))
    write_text(path, "new")
    assert not left.exists()
