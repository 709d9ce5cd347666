# SPDX-License-Identifier: Apache-2.0
"""State that a private training needs to resume: its secret key, and how much it has spent.

The key lies once in the training's folder while it lasts (the leading underscore keeps it out of uploads), the ledger
in each checkpoint. A resumed training draws the same batches and the same noise, so a step that is done twice is one
step and is counted once.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.lock import locked
from reticent.privacy.sampling import KEY_BYTES
from reticent.train.dropout import draws

KEY = "_noise.key"
"""Whoever has it can subtract the noise. Removed when the training ends."""

LEDGER = "privacy_ledger.json"

_DECIDING = (
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "warmup_ratio",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "optim",
    "optim_args",
    "seed",
    "bf16",
    "world_size",
)
"""Training arguments that decide where a step leads."""


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """Where a checkpoint stands.

    Args:
        plan: fingerprint of the plan, the key included.
        settings: fingerprint of what else decides the steps: optimizer, schedule, trained parameters, processes.
        steps: that were run.
        event: of one step, as the accountant has it.
    """

    plan: str
    settings: str
    steps: int
    event: str

    def write(self, checkpoint: Path) -> None:
        """Put it into the checkpoint."""
        write_text(checkpoint / LEDGER, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, checkpoint: Path) -> StepLog:
        """The ledger of a checkpoint.

        Raises:
            BadInput: there is none that can be read.
        """
        try:
            return cls(**json.loads((checkpoint / LEDGER).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(
                str(checkpoint),
                f"has no {LEDGER}, so nobody knows what its training has spent",
                "Start over, or go on from a checkpoint of a private training.",
            ) from error

    def refuse_other(self, checkpoint: Path) -> None:
        """Refuse to go on from a checkpoint of another training.

        Raises:
            BadInput: another plan (key, data, noise, steps), other settings, or it has no ledger.
        """
        stored = StepLog.read(checkpoint)
        for name, theirs, other in (("plan", stored.plan, self.plan), ("settings", stored.settings, self.settings)):
            if theirs != other:
                raise BadInput(
                    str(checkpoint),
                    f"was made with another privacy {name}: the noise of its steps would be used twice, on different "
                    "gradients, and could be subtracted",
                    f"Go on with the same script, its key from open_key() in the same folder ({KEY}), or start over in "
                    "an empty folder.",
                )

    def refuse_reuse(self, folder: Path) -> None:
        """Refuse to begin anew beside checkpoints that the same key made with other settings.

        Raises:
            BadInput: there are such checkpoints.
        """
        for path in sorted(folder.glob(f"checkpoint-*/{LEDGER}")):
            if StepLog.read(path.parent).plan == self.plan:
                self.refuse_other(path.parent)


def settings_fingerprint(args: Any, model: Any) -> str:
    """Digest of what decides the steps besides plan and data: training arguments, trained parameters, and, where there
    is dropout, processes."""
    given = args.to_dict()
    deciding = {name: given.get(name, getattr(args, name, None)) for name in _DECIDING}
    if not draws(model):
        deciding["world_size"] = 1  # clipped sums and noise are the same, however many processes make them
    parts: list[Any] = [deciding]
    parts += [[name, *p.shape] for name, p in model.named_parameters() if p.requires_grad]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def open_key(folder: str | Path) -> bytes:
    """The secret key of the training in ``folder``, made there if there is none; 32 bytes.

    All processes of a distributed run on one file system get the same: the first that comes makes it.

    Raises:
        BadInput: the file holds something else, or cannot be written.

    Examples:
        >>> len(open_key("out"))
        32
    """
    path = Path(folder) / KEY
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise BadInput(
            str(path), f"cannot be used ({error.strerror})", "Choose a folder that can be written."
        ) from error
    if len(key) != KEY_BYTES:
        raise BadInput(str(path), f"holds {len(key)} bytes instead of {KEY_BYTES}", "Start over in an empty folder.")
    return key


def alone(folder: str | Path, process: int) -> AbstractContextManager[None]:
    """Hold the lock of the folder of a training, so that no second one spends under its ledger or uses its noise.

    Args:
        folder: where key and checkpoints lie.
        process: number of this process in the training; the first holds the lock for all of them.

    Raises:
        BadInput: another training runs in ``folder``.
    """
    return locked(Path(folder), within=True) if process == 0 else nullcontext()


def forget_key(folder: str | Path) -> None:
    """Remove the key of the training in ``folder``; nobody can subtract the noise, and nobody can go on."""
    (Path(folder) / KEY).unlink(missing_ok=True)


def _make(path: Path) -> None:
    """Write a whole key beside ``path``, readable for its owner only, then link it there if nobody was faster."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
