# SPDX-License-Identifier: Apache-2.0
"""Recorded updates: what each client sent in each round, and the global arrays that it started from.

They are as private as the texts: no noise is on them. They lie in the run folder, readable by its owner only, and are
written only where that was asked for. The files are those of `reticent.attacks.federated.recorded_updates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from reticent.attacks.federated.recorded_updates import RecordedUpdates, client_hash
from reticent.federated.update import Update


class UpdateFiles:
    """The recorded updates of one run, by the numbers of its clients.

    Args:
        folder: they lie in, ``updates`` in a run folder.
        key: secret of the run folder: only who has it can tell whose update a file is.
        names: of the clients, in the order of their numbers.
    """

    def __init__(self, folder: Path, key: str, names: Sequence[str] = ()) -> None:
        self.recorded, self.key = RecordedUpdates(folder), key
        self.begin(names)

    def begin(self, names: Sequence[str]) -> None:
        """Say who is which number."""
        self.hashes = [client_hash(name, self.key) for name in names]

    def begin_round(self, round_: int, arrays: Update) -> None:
        """Keep the arrays that a round begins with, and forget updates that it had before it was cut off: a client may
        answer otherwise, or not at all, where the round is run again."""
        for path in (self.recorded.root / f"round-{round_:04d}").glob("client-*.safetensors"):
            path.unlink()
        self.write(round_, None, arrays)

    def write(self, round_: int, client: int | None, arrays: Update) -> None:
        """Keep the update of a client, or with None the arrays that the round begins with."""
        named = "" if client is None else self.hashes[client]
        self.recorded.write({name: array.numpy() for name, array in arrays.items()}, round_=round_, client=named)

    def read(self, round_: int, client: int | None = None) -> dict[str, torch.Tensor]:
        """The arrays that `write` kept."""
        recorded = self.recorded
        arrays = recorded.start(round_) if client is None else recorded.update(round_, self.hashes[client])
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def clients_in(self, round_: int) -> list[int]:
        """Numbers of the clients whose update of a round is there."""
        there = set(self.recorded.clients(round_))
        return [number for number, named in enumerate(self.hashes) if named in there]
