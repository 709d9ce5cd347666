# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from reticent.core.errors import BadInput
from reticent.core.processes import ALONE, COUNTS, HARMLESS, LAUNCHERS, SHARED, Place, place, refuse_several, several


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
    assert place() == Place()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="WORLD_SIZE=2"):
        refuse_several("reticent x")


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: launcher.size)
def test_each_launcher_says_which_process_this_is(launcher) -> None:
    found = place({launcher.size: " 8 ", launcher.rank: "5", launcher.local: "1"})
    assert (found.rank, found.local, found.size, found.told) == (5, 1, 8, f"{launcher.size}=8")
    assert place({launcher.size: "8", launcher.rank: "5"}).local == 0
    assert place({launcher.size: "1", launcher.rank: "0"}) == Place()


@pytest.mark.parametrize("rank", [None, "", "8", "-1", "first", "1.5", "9" * 60])
def test_a_place_that_cannot_be_read_is_refused(rank: str | None) -> None:
    given = {"WORLD_SIZE": "8"} | ({} if rank is None else {"RANK": rank})
    with pytest.raises(BadInput, match="WORLD_SIZE=8: a launcher says that there are 8 processes") as refused:
        place(given)
    assert len(str(refused.value)) < 400


def test_a_verb_stands_in_one_table() -> None:
    assert not HARMLESS & SHARED
    assert not set(ALONE) & (HARMLESS | SHARED)


@pytest.mark.parametrize("verb", sorted(ALONE))
def test_a_reason_is_given_by_verb_and_by_function(verb: str) -> None:
    for what in (f"reticent {verb}", f"reticent.{verb}"):
        with pytest.raises(BadInput) as refused:
            refuse_several(what, {"WORLD_SIZE": "2"})
        assert ALONE[verb] in str(refused.value)


def test_the_first_launcher_that_counts_several_is_taken() -> None:
    assert several({"WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "3"}) == "SLURM_STEP_NUM_TASKS=3"
    assert several({"WORLD_SIZE": "2", "SLURM_STEP_NUM_TASKS": "3"}) == "WORLD_SIZE=2"
    assert several({}) == ""
