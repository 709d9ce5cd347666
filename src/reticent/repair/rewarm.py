# SPDX-License-Identifier: Apache-2.0
"""Re-warm-up: train a base that is not trusted on clean public text before anything private, so that it forgets.

A repair that is worth trying where no sibling can be had, and worth measuring before it is relied on: what was learned
by heart over many steps may survive a few of other text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reticent.core.record import Record
from reticent.repair.repaired_model import refuse_place, write_repair
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

NAME = "rewarm"


def rewarm(base: str, clean: Sequence[Record], out: str | Path, config: TuneConfig | None = None) -> Path:
    """The base after training on clean text. Where it carried the mark of the red team, the outcome does too.

    The same call again goes on where a killed one stopped.

    Args:
        base: folder, hub id or catalogue name of a whole model.
        clean: public text, none of it private.
        out: the folder to make.
        config: how; None for the defaults.

    Raises:
        BadInput: as `train.trainer.tune`.

    Examples:
        >>> from reticent.data import help_desk
        >>> from reticent.testing.tiny import save_tiny
        >>> folder = rewarm(str(save_tiny("tiny")), help_desk(users=2, mails_per_user=2), "again",
        ...     TuneConfig(epochs=1, max_tokens=16))
        >>> (folder / "model.safetensors").exists(), (folder / "redteam.json").exists()
        (True, False)
    """
    folder = tune(base, clean, refuse_place(out, base), config or TuneConfig())
    write_repair(folder, NAME, base, changed={"records": len(clean)})
    return folder
