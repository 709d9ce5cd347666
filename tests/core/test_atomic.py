"""Files are whole or not there."""

import errno
import os
import subprocess
import sys
import time

import pytest

from reticent.core.atomic import STALE, replacing, write_text
from reticent.core.errors import BadInput


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
        with replacing(tmp_path / "model") as folder:
            folder.mkdir()
            (folder / content).write_text(content)
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


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
def test_what_a_killed_process_left_is_taken_away_later(tmp_path):
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", LEFT, str(path)], check=False)
    [left] = tmp_path.iterdir()
    with replacing(path) as temporary:
        [mine] = [one for one in tmp_path.iterdir() if one != left]
        temporary.write_text("new")
        then = time.time() - 2 * STALE
        for old in (left, mine):
            os.utime(old, (then, then))
        write_text(tmp_path / "b.txt", "another file's")
        assert left.exists()
        write_text(path, "in between")
        assert not left.exists()
        assert mine.exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.txt", "b.txt"]
    assert path.read_text() == "new"
