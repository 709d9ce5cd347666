# SPDX-License-Identifier: Apache-2.0
"""How many processes a launcher started for this one command, and the refusal of more than one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from reticent.core.errors import BadInput

COUNTS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
"""Variables in which a launcher tells each process how many of it there are: torchrun and accelerate, Open MPI, MPICH,
srun. The size of a whole Slurm allocation (``SLURM_NTASKS``) is not among them: one plain process has it too."""


def refuse_several(what: str, environment: Mapping[str, str] | None = None) -> None:
    """Refuse to run as one of several processes.

    Each of them would read, train and write the same folder: batches are doubled under one key, a model is lost while
    another process deletes its checkpoints, and a good private run ends with a promise that seems broken.

    Args:
        what: was started, for the message.
        environment: variables; None for those of this process.

    Raises:
        BadInput: a launcher says that there are several.

    >>> refuse_several("reticent tune", {"WORLD_SIZE": "1", "SLURM_NTASKS": "8"})
    >>> refuse_several("reticent tune", {"WORLD_SIZE": "2"})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    reticent.core.errors.BadInput: WORLD_SIZE=2: reticent tune was started as one of 2 processes, ...
    """
    environment = os.environ if environment is None else environment
    for name in COUNTS:
        count = environment.get(name, "").strip()
        if count.isdecimal() and int(count) > 1:
            raise BadInput(
                f"{name}={count}",
                f"{what} was started as one of {int(count)} processes, and all of them would train and write the same "
                "folder",
                f"Start one process: no torchrun, accelerate launch, mpirun or srun with several tasks, and no {name} "
                "in the environment. Under torchrun, train with PrivateTrainerMixin in a script of your own.",
            )
