# SPDX-License-Identifier: Apache-2.0
"""How many processes a launcher started for this one command, which of them this is, and which verbs they can share.

No torch here, so that a refusal comes at once. What the processes of a shared verb do is in `reticent.train.ranks`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from reticent.core.errors import BadInput, ReticentError


@dataclass(frozen=True, kw_only=True)
class _Launcher:
    """Names of the variables in which a launcher tells each process its place."""

    size: str
    rank: str
    local: str


LAUNCHERS = (
    _Launcher(size="WORLD_SIZE", rank="RANK", local="LOCAL_RANK"),
    _Launcher(size="OMPI_COMM_WORLD_SIZE", rank="OMPI_COMM_WORLD_RANK", local="OMPI_COMM_WORLD_LOCAL_RANK"),
    _Launcher(size="PMI_SIZE", rank="PMI_RANK", local="MPI_LOCALRANKID"),
    _Launcher(size="SLURM_STEP_NUM_TASKS", rank="SLURM_PROCID", local="SLURM_LOCALID"),
)
"""torchrun and accelerate, Open MPI, MPICH, srun. The size of a whole Slurm allocation (``SLURM_NTASKS``) is not among
them: one plain process has it too."""

COUNTS = tuple(launcher.size for launcher in LAUNCHERS)

HARMLESS = frozenset({"env"})
"""Verbs that may run in any number of processes at once: they neither train nor write."""

SHARED = frozenset({"audit", "tune"})
"""Verbs whose work several processes can share."""

ALONE: Mapping[str, str] = {
    "compare": "it starts a process for each training itself",
    "demo": "it is the whole of several verbs, one after the other",
    "federate": "its clients take turns in one process, or are processes of their own through --engine",
    "gate": "it reads one file of results and decides once",
    "prepare": "it writes one file, in the order of what it reads",
    "report": "it writes one page",
    "synthesize": "its steps are spent one after the other, under one ledger",
    "unlearn": "its looks decide when it stops, and one process makes them",
    "view": "it shows one page",
}
"""Why a verb is done by one process, where there is more to say than that all of them would write the same folder. A
verb that stands in none of these tables is done by one process too."""


class EndedElsewhere(ReticentError):
    """Another process of the same command ended it, and says why there.

    Args:
        said: what it says.
        exit_code: with which it ends.
    """

    def __init__(self, said: str, exit_code: int = 2) -> None:
        self.exit_code = exit_code
        super().__init__(said)


@dataclass(frozen=True, kw_only=True)
class Place:
    """This process among those that were started for one command.

    Args:
        rank: its number, from 0.
        local: its number on its machine, from 0.
        size: how many there are; 1 where it was started alone.
        told: the variable that says so; empty where it was started alone.
    """

    rank: int = 0
    local: int = 0
    size: int = 1
    told: str = ""


def place(environment: Mapping[str, str] | None = None) -> Place:
    """This process's place, as its launcher says it.

    Args:
        environment: variables; None for those of this process.

    Raises:
        BadInput: a launcher says that there are several, and not which of them this is.

    >>> place({"WORLD_SIZE": "1", "SLURM_NTASKS": "8"}).size
    1
    >>> place({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"})
    Place(rank=3, local=1, size=4, told='SLURM_STEP_NUM_TASKS=4')
    """
    environment = os.environ if environment is None else environment
    for launcher in LAUNCHERS:
        size = _number(environment.get(launcher.size))
        if size is None or size < 2:
            continue
        told = f"{launcher.size}={size}"
        rank = _number(environment.get(launcher.rank))
        if rank is None or rank >= size:
            given = environment.get(launcher.rank)
            raise BadInput(
                told,
                f"a launcher says that there are {size} processes, and which of them this is cannot be read "
                f"({launcher.rank}={'' if given is None else given[:40]})",
                f"Start it with torchrun, accelerate launch or srun, or unset {launcher.size} for one process.",
            )
        return Place(rank=rank, local=_number(environment.get(launcher.local)) or 0, size=size, told=told)
    return Place()


def meeting_point(at: Place, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables by which the processes find each other, by the names that torch and accelerate read.

    torchrun, accelerate and mpirun are asked for MASTER_ADDR and MASTER_PORT; under srun they follow from the step.

    Args:
        at: this process.
        environment: variables; None for those of this process.

    Raises:
        BadInput: nothing says where the first process listens.

    >>> step = {"SLURM_STEP_NODELIST": "gpu[003-006,9],login", "SLURM_JOB_ID": "41", "SLURM_STEP_ID": "2"}
    >>> meeting_point(Place(rank=3, local=1, size=4, told="SLURM_STEP_NUM_TASKS=4"), step)["MASTER_ADDR"]
    'gpu003'
    """
    environment = os.environ if environment is None else environment
    found = {"RANK": str(at.rank), "LOCAL_RANK": str(at.local), "WORLD_SIZE": str(at.size)}
    nodes = environment.get("SLURM_STEP_NODELIST", "").strip()
    by_slurm = at.told.startswith("SLURM_") and nodes
    if not environment.get("MASTER_ADDR") and by_slurm:
        found["MASTER_ADDR"] = _first_host(nodes)
    if not environment.get("MASTER_PORT") and by_slurm:
        job, step = _number(environment.get("SLURM_JOB_ID")) or 0, _number(environment.get("SLURM_STEP_ID")) or 0
        found["MASTER_PORT"] = str(20_000 + (31 * job + step) % 20_000)
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not (environment.get(name) or found.get(name))]
    if missing:
        raise BadInput(
            at.told,
            f"nothing says where the first of {at.size} processes listens ({' and '.join(missing)} not set)",
            "Start them with torchrun, or set both to an address and a free port of the first machine.",
        )
    return found


def several(environment: Mapping[str, str] | None = None) -> str:
    """The variable that says that there are several processes, with its value; empty where there is one.

    >>> several({"WORLD_SIZE": "2"}), several({"WORLD_SIZE": "1"})
    ('WORLD_SIZE=2', '')
    """
    environment = os.environ if environment is None else environment
    counts = {name: _number(environment.get(name)) or 1 for name in COUNTS}
    return next((f"{name}={count}" for name, count in counts.items() if count > 1), "")


def refuse_several(what: str, environment: Mapping[str, str] | None = None) -> None:
    """Refuse to run as one of several processes.

    Each of them would read, train and write the same folder: batches are doubled under one key, a model is lost while
    another process deletes its checkpoints, and a good private run ends with a promise that seems broken.

    Args:
        what: was started, for the message: ``reticent`` and the verb, or the name of a function.
        environment: variables; None for those of this process.

    Raises:
        BadInput: a launcher says that there are several.

    >>> refuse_several("reticent gate", {"WORLD_SIZE": "1", "SLURM_NTASKS": "8"})
    >>> refuse_several("reticent gate", {"WORLD_SIZE": "2"})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    reticent.core.errors.BadInput: WORLD_SIZE=2: reticent gate was started as one of 2 processes, and it reads one ...
    """
    told = several(environment)
    if told:
        name, _, count = told.partition("=")
        verb = what.replace(".", " ").split()[-1]
        raise BadInput(
            told,
            f"{what} was started as one of {count} processes, and "
            f"{ALONE.get(verb, 'all of them would do the same work and write the same folder')}",
            f"Start one process: no torchrun, accelerate launch, mpirun or srun with several tasks, and no {name} "
            f"in the environment.{_who_can()}",
        )


def _who_can() -> str:
    verbs = " and ".join(f"reticent {verb}" for verb in sorted(SHARED))
    return f" Several processes can share: {verbs}." if verbs else ""


def _first_host(nodes: str) -> str:
    """The first of a list of hosts as Slurm writes it.

    >>> _first_host("a1,a2"), _first_host("n[07-09]"), _first_host("n[3,5]-ib")
    ('a1', 'n07', 'n3-ib')
    """
    head, bracket, rest = nodes.partition("[")
    if not bracket or "," in head:
        return nodes.split(",")[0]
    inner, _, tail = rest.partition("]")
    return head + inner.split(",")[0].split("-")[0] + tail.split(",")[0]


def _number(value: str | None) -> int | None:
    text = (value or "").strip()
    return int(text) if text.isdecimal() else None
