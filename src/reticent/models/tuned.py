# SPDX-License-Identifier: Apache-2.0
"""What a tuned folder says about itself: which method made it, from what, and how its weights are stored."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from reticent.core.errors import BadInput

FILE = "reticent_tuning.json"
Storage = Literal["weights", "peft", "bottleneck"]
"""``weights``: a whole model; ``peft``: a PEFT adapter; ``bottleneck``: bottleneck adapters of this package."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Provenance of a tuned model, saved beside its weights.

    Args:
        method: name in ``TUNINGS``.
        params: hyper-parameters the method was given or took by default.
        base: what the person named as the model to tune.
        base_fingerprint: SHA-256 (hex) of its weights.
        storage: how the weights lie in the folder.
    """

    method: str
    base: str
    base_fingerprint: str
    storage: Storage = "weights"
    params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # As JSON has them (lists, not tuples), so that what is read equals what was written.
        object.__setattr__(self, "params", json.loads(json.dumps(self.params)))

    def write(self, folder: Path) -> None:
        """Write it into ``folder``."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_tuned(folder: Path) -> Tuned | None:
    """What the folder says, or None where ``reticent tune`` did not make it.

    Raises:
        BadInput: the file is broken.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return Tuned(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BadInput(str(path), f"is broken ({error})", "Copy the folder again, or tune again.") from error
