# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import stat
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.train.private.step_log import KEY, StepLog, forget_key, open_key

LEDGER = StepLog(plan="p", settings="s", steps=3, event="e")


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    key = open_key(tmp_path / "run")
    assert len(key) == 32
    assert open_key(tmp_path / "run") == key
    assert stat.S_IMODE((tmp_path / "run" / KEY).stat().st_mode) == 0o600
    assert open_key(tmp_path / "other") != key
    forget_key(tmp_path / "run")
    forget_key(tmp_path / "run")
    assert open_key(tmp_path / "run") != key


def test_whoever_comes_at_the_same_time_gets_the_same_key(tmp_path: Path) -> None:
    with ThreadPool(8) as pool:
        keys = pool.map(lambda _: open_key(tmp_path), range(64))
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


def test_a_key_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / KEY).write_bytes(b"short")
    with pytest.raises(BadInput, match="5 bytes instead of 32"):
        open_key(tmp_path)


def test_another_plan_or_other_settings_are_refused(tmp_path: Path) -> None:
    LEDGER.write(tmp_path)
    assert StepLog.read(tmp_path) == LEDGER
    replace(LEDGER, steps=0).refuse_other(tmp_path)
    for other in (replace(LEDGER, plan="q"), replace(LEDGER, settings="t")):
        with pytest.raises(BadInput, match="noise of its steps would be used twice"):
            other.refuse_other(tmp_path)
    with pytest.raises(BadInput, match="nobody knows what its training has spent"):
        LEDGER.refuse_other(tmp_path / "nothing")
