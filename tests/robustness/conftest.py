# SPDX-License-Identifier: Apache-2.0
"""The real command line on tiny models: one base, one tuned run and one audited run are shared by all tests here."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from reticent.cli.main import main
from reticent.testing.random_mails import random_mails
from reticent.testing.tiny import save_tiny

TUNE = ("--epochs", "2", "--learning-rate", "0.01", "--batch-size", "16", "--max-tokens", "64", "--dtype", "float32")
AUDIT = ("--dtype", "float32")
HASHES = {}
"""Of contents that were looked at, by file and time of its last change."""


def _mails(users=40, each=4, seed=0):
    mails = random_mails(users=users, mails_per_user=each, seed=seed)
    return [{"id": mail.id, "user": mail.user, "text": mail.text} for mail in mails]


def _write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _reticent(*argv):
    """Run the command line; exit code and what it said to the person (stderr)."""
    said, printed = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
        try:
            code = main([str(word) for word in argv])
        except SystemExit as stop:
            code = stop.code
    return SimpleNamespace(code=code, err=said.getvalue(), out=printed.getvalue())


def _contents(folder):
    """Every file below the folder, hidden ones too, by the hash of its bytes; empty when there is no folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def _snapshot(*roots):
    """Everything below the roots: kind and mode, time of change, link, contents. Of folders no times: a lock comes
    and goes in those above a place. Thousands of these are made, so paths are strings and nothing is asked twice."""
    about = {}
    for root in roots:
        within = (f"{folder}/{name}" for folder, below, names in os.walk(root) for name in (*below, *names))
        for path in (str(root), *within):
            status = os.lstat(path)
            regular = stat.S_ISREG(status.st_mode)
            link = str(Path(path).readlink()) if stat.S_ISLNK(status.st_mode) else None
            content = _content(path, status) if regular else None
            about[path] = (status.st_mode, status.st_mtime_ns if regular else None, link, content)
    return about


def _content(path, status):
    """The hash of a file; that of the last look where the file has lain still since: no program can set back when it
    was last changed. Times tick slowly, so a file that was changed within the last second is read again."""
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in HASHES or time.time() - status.st_ctime < 1:
        HASHES[key] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return HASHES[key]


def _litter(folder):
    """Hidden things that a run leaves only while it is going on."""
    return [str(path) for path in Path(folder).rglob(".*")]


@pytest.fixture(scope="session")
def tools():
    """Functions and flags for the tests: modules of tests cannot import each other."""
    return SimpleNamespace(
        mails=_mails,
        write_rows=_write_rows,
        contents=_contents,
        snapshot=_snapshot,
        litter=_litter,
        tune=TUNE,
        audit=AUDIT,
    )


@pytest.fixture(scope="session")
def reticent():
    """``reticent("tune", ...)`` gives ``code``, ``err`` and ``out``."""
    return _reticent


@pytest.fixture
def refused(reticent):
    """Run a command that must be refused: exit code 2 and one message with what was given, why and how to fix it."""

    def check(*argv, given, why, fix):
        outcome = reticent(*argv)
        assert outcome.code == 2, outcome.err
        (message,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert given in message
        assert why in message.split(given, 1)[1]
        assert fix in message.split(why, 1)[1]
        assert "Traceback" not in outcome.err
        return message

    return check


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("robustness")


def _fill(folder):
    # Weights of their own: by them a cache tells where a base lies, and all processes have one cache.
    base = save_tiny(folder / "base", seed=77)
    mails = _write_rows(folder / "mails.jsonl", _mails())
    outcome = _reticent("tune", mails, "--model", base, "--out", folder / "tuned", *TUNE)
    assert outcome.code == 0, outcome.err
    copied = shutil.copytree(folder / "tuned", folder / "audited")
    outcome = _reticent("audit", copied, *AUDIT)
    assert outcome.code == 0, outcome.err


@pytest.fixture(scope="session")
def common(once_a_run):
    """A folder that all processes of this run of the tests share. Do not change anything in it: copy it."""
    return once_a_run("robustness-common", _fill)


@pytest.fixture(scope="session")
def base(common):
    """A tiny model with random weights."""
    return common / "base"


@pytest.fixture(scope="session")
def mails(common):
    """160 mails of 40 users."""
    return common / "mails.jsonl"


@pytest.fixture(scope="session")
def tuned(common):
    """A run of `reticent tune`, full fine-tuning. Do not change it: copy it."""
    return common / "tuned"


@pytest.fixture(scope="session")
def audited(common):
    """The same run, audited. Do not change it: copy it."""
    return common / "audited"
