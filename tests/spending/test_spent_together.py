# SPDX-License-Identifier: Apache-2.0
"""What an audit says of the private trainings that lie beside a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reticent.auditing.guarantee import spent_together as module
from reticent.auditing.guarantee.spent_together import spent_together
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder

RECORDS = [Record(id=f"u{i}", text=f"Kennwort {i}", user=f"mieter {i % 6}") for i in range(24)]
OTHERS = [Record(id=f"v{i}", text=f"anders {i}", user=f"mieter {i % 6}") for i in range(24)]


def test_a_run_alone_has_nothing_beside_it(tmp_path: Path, promise: Any, make_run: Any) -> None:
    run = make_run(tmp_path / "a", RECORDS, promise())
    assert spent_together(run) == ()
    make_run(tmp_path / "b", OTHERS, promise())  # overlaps only, which takes reading all records
    assert spent_together(run) == ()


def test_runs_on_the_same_data_are_added_private_or_not(tmp_path: Path, promise: Any, make_run: Any) -> None:
    run = make_run(tmp_path / "a", RECORDS, promise(noise=2.0))
    make_run(tmp_path / "b", RECORDS, promise(noise=3.0))
    make_run(tmp_path / "plain", RECORDS)
    (said,) = spent_together(run)
    assert said.startswith("2 private trainings together: ε = ")
    assert "1 training on this data promised no privacy" in said


def test_what_is_broken_beside_a_run_is_none_of_the_audits_business(
    tmp_path: Path, promise: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "a", RECORDS, promise())
    make_run(tmp_path / "b", RECORDS, promise()).promise.write_text("{")
    (said,) = spent_together(run)
    assert "at least ε" in said
    assert spent_together(RunFolder(root=tmp_path / "nowhere")) == ()

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("accountants disagree")

    with monkeypatch.context() as patch:
        patch.setattr(module, "ledger", fails)
        assert spent_together(run) == ()
    monkeypatch.setattr(module, "MOST", 1)
    assert spent_together(run) == ()
