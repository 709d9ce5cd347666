# SPDX-License-Identifier: Apache-2.0
"""The rows that each step of a training saw, as a digest, and by how many processes.

Two trainings with one digest saw the same rows in every step, in the same order, whether they were killed and gone on
with or not, and however many processes they had. It is kept in each checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput

NAMES = ("input_ids", "labels")


@dataclass(kw_only=True)
class SeenRows:
    """A digest that grows with each step.

    Args:
        digest: SHA-256 (hex) over all batches so far; empty before the first, and where there are no rows to be told.
        processes: ``[step, n]`` for each change of the number of processes: from that step on there were n.
        strategy: by which several share the work, see `TuneConfig`.

    >>> seen = SeenRows()
    >>> seen.add({"labels": torch.ones(2, 3)}), len(seen.digest)
    (None, 64)
    """

    digest: str = ""
    processes: list[list[int]] = field(default_factory=list)
    strategy: str = "ddp"

    def add(self, batch: Mapping[str, Any]) -> None:
        """A step sees ``batch``, of all processes together. One that holds no tokens is not told of."""
        chain = hashlib.sha256(self.digest.encode())
        tensors = [batch[name] for name in NAMES if isinstance(batch.get(name), torch.Tensor)]
        for tensor in tensors:
            chain.update(f"{tuple(tensor.shape)}".encode() + tensor.cpu().contiguous().numpy().tobytes())
        if tensors:
            self.digest = chain.hexdigest()

    def begin(self, step: int, processes: int) -> None:
        """From ``step`` on there are so many processes."""
        if not self.processes or self.processes[-1][1] != processes:
            self.processes.append([step, processes])

    def write(self, path: Path) -> None:
        """Keep it in a checkpoint."""
        write_text(path, json.dumps({"rows": self.digest, "processes": self.processes}) + "\n")

    def go_on(self, path: Path) -> None:
        """Take up what ``write`` left; what an earlier version left says nothing of it."""
        try:
            left = json.loads(path.read_text(encoding="utf-8"))
            self.digest = str(left["rows"])
            self.processes = [[int(step), int(count)] for step, count in left["processes"]]
        except (OSError, ValueError, KeyError, TypeError):
            self.digest, self.processes = "", []

    def refuse_other_number(self, processes: int) -> None:
        """Refuse to go on with another number of processes where each draws random numbers of its own.

        Raises:
            BadInput: the steps so far were made by another number.
        """
        before = self.processes[-1][1] if self.processes else 1
        if before != processes:
            raise BadInput(
                f"{processes} process{'es' if processes > 1 else ''}",
                f"the training was begun by {before}, and its dropout would be another than theirs",
                f"Start {before}, or start over (--resume false).",
            )

    @property
    def on_record(self) -> dict[str, Any]:
        """For the log: how many processes there were at the end, how they shared the work, and the rows."""
        count = self.processes[-1][1] if self.processes else 1
        about: dict[str, Any] = {"world_size": count, "strategy": self.strategy if count > 1 else "none"}
        about |= {"processes": self.processes} if len(self.processes) > 1 else {}
        return about | ({"rows": self.digest} if self.digest else {})
