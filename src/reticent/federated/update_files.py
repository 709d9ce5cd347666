# SPDX-License-Identifier: Apache-2.0
"""Recorded updates: what each client sent in each round, and the global arrays that it started from.

They are as private as the texts: no noise is on them. They lie in the run folder, readable by its owner only, and are
written only where that was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from reticent.core.atomic import replacing, write_text
from reticent.federated.clients import Client
from reticent.federated.update import Update

GLOBAL = "global"
CLIENTS = "clients.json"


class UpdateFiles:
    """The recorded updates of one run.

    Args:
        folder: they lie in, ``updates`` in a run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, clients: Sequence[Client]) -> None:
        """Write who is which number, and which records each holds."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        rows = [{"name": client.name, "records": [record.id for record in client.records]} for client in clients]
        write_text(self.folder / CLIENTS, json.dumps(rows, ensure_ascii=False) + "\n")

    def write(self, round_: int, client: int | None, arrays: Update) -> None:
        """Keep the update of a client, or with None the arrays that the round begins with."""
        place = self._place(round_, client)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with replacing(place) as temporary:
            save_file({name: array.contiguous() for name, array in arrays.items()}, temporary)

    def read(self, round_: int, client: int | None = None) -> dict[str, torch.Tensor]:
        """The arrays that `write` kept."""
        tensors: dict[str, torch.Tensor] = load_file(self._place(round_, client))
        return tensors

    def rounds(self) -> list[int]:
        """Numbers of the rounds that are there."""
        return sorted(int(path.name.split("-")[1]) for path in self.folder.glob("round-*"))

    def clients_in(self, round_: int) -> list[int]:
        """Numbers of the clients whose update of a round is there."""
        folder = self._place(round_, None).parent
        return sorted(int(path.stem) for path in folder.glob("*.safetensors") if path.stem != GLOBAL)

    def people(self) -> list[Mapping[str, object]]:
        """Name and record ids of each client, by its number."""
        listed: list[Mapping[str, object]] = json.loads((self.folder / CLIENTS).read_text(encoding="utf-8"))
        return listed

    def _place(self, round_: int, client: int | None) -> Path:
        name = GLOBAL if client is None else f"{client:06d}"
        return self.folder / f"round-{round_:05d}" / f"{name}.safetensors"
