# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from reticent.core.errors import BadInput
from reticent.core.processes import COUNTS, refuse_several


@pytest.mark.parametrize("name", COUNTS)
def test_each_launcher_is_named(name: str) -> None:
    with pytest.raises(BadInput, match=rf"{name}=4: reticent x was started as one of 4 processes.*Start one process"):
        refuse_several("reticent x", {name: "4"})
    for one in ("", "1", " 1 ", "0", "no number", "-2"):
        refuse_several("reticent x", {name: one})


def test_a_plain_process_in_an_allocation_of_many_tasks_may_run() -> None:
    refuse_several("reticent x", {"SLURM_NTASKS": "64", "SLURM_NPROCS": "64", "SLURM_PROCID": "0", "RANK": "0"})


def test_the_environment_of_this_process_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in COUNTS:
        monkeypatch.delenv(name, raising=False)
    refuse_several("reticent x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="WORLD_SIZE=2"):
        refuse_several("reticent x")
