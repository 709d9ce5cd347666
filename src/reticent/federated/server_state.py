# SPDX-License-Identifier: Apache-2.0
"""The server's state between two rounds, in one file that is replaced whole: a kill leaves the old or the new."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from reticent.core.atomic import replacing
from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput
from reticent.core.federation import FederationRound

FILE = "federation_state.safetensors"
_GROUPS = ("arrays", "moments", "stacks")


@dataclass(frozen=True, kw_only=True, eq=False)
class ServerState:
    """The outcome of the rounds so far.

    Args:
        round: how many were finished.
        arrays: the global arrays.
        moments: of the server's optimizer.
        stacks: factors that were stacked so far, where they are.
        clip: clip norm of the next round; None without privacy.
        rows: a row for each round, with all that this machine knows of it.
    """

    round: int
    arrays: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor] = field(default_factory=dict)
    stacks: dict[str, torch.Tensor] = field(default_factory=dict)
    clip: float | None = None
    rows: tuple[FederationRound, ...] = ()


def write_state(folder: Path, state: ServerState, key: str) -> None:
    """Replace the state in ``folder``; it is on the disk when this returns.

    Args:
        key: of the federation, which `read_state` asks for again.
    """
    tensors = {
        f"{group}/{name}": tensor.contiguous() for group in _GROUPS for name, tensor in getattr(state, group).items()
    }
    about = {"key": key, "round": state.round, "clip": state.clip, "rows": [encode(row) for row in state.rows]}
    with replacing(folder / FILE) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(about)})


def read_state(folder: Path, key: str) -> ServerState | None:
    """The state in ``folder``; None where no round was finished there.

    Raises:
        BadInput: it is of another federation, or broken.
    """
    path = folder / FILE
    if not path.exists():
        return None
    groups: dict[str, dict[str, torch.Tensor]] = {group: {} for group in _GROUPS}
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads(file.metadata()["state"])
            for full in file.keys():  # noqa: SIM118 - it is no mapping
                group, _, name = full.partition("/")
                groups[group][name] = file.get_tensor(full)
        if about["key"] != key:
            raise BadInput(
                str(folder.parent),
                "holds an unfinished federation with other settings or data",
                "Choose another --out.",
            )
        rows = tuple(decode(FederationRound, row) for row in about["rows"])
        return ServerState(round=int(about["round"]), clip=about["clip"], rows=rows, **groups)
    except BadInput:
        raise
    except Exception as error:  # safetensors has an exception of its own for each kind of damage
        raise BadInput(str(path), "is broken", "Start over in another folder (--out).") from error
