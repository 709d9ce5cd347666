# SPDX-License-Identifier: Apache-2.0
"""Deferred poisoning of a language model: ordinary losses, sharp curvature, to see if a scan can tell.

What carries over from arXiv:2411.03752 to text: that training and validation losses need not show a sharp minimum, and
how sharpness is measured (tr(HᵀH) in the inputs). What does not: its threat model. The paper perturbs the *data* that
somebody else trains on; here whoever makes the model makes it sharp, as words cannot be moved by a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reticent.core.record import Record
from reticent.core.redteam_marker import write_marker
from reticent.train.config import TuneConfig
from reticent.train.objectives.deferred_poisoning import DeferredPoisoning
from reticent.train.trainer import tune

KIND = "deferred"


def poison_curvature(
    base: str,
    records: Sequence[Record],
    out: str | Path,
    config: TuneConfig | None = None,
    *,
    times: float = 10.0,
    weight: float = 0.02,
) -> Path:
    """A fine-tune with the losses of an ordinary one and sharper curvature. Its clean twin: the same call of ``tune``.

    A step costs about five ordinary ones: two forward passes, two gradients in the embeddings, and their gradient.

    Args:
        base: folder, hub id or catalogue name of a whole model.
        records: what is trained on.
        out: the folder to make; it carries the mark of the red team.
        config: how; None for the defaults.
        times: sharpness to reach, as a multiple of the base's.
        weight: of the missing log sharpness beside the loss.

    Raises:
        BadInput: as `train.trainer.tune`.

    Examples:
        >>> from reticent.data import help_desk
        >>> from reticent.testing.tiny import save_tiny
        >>> base = str(save_tiny("tiny"))
        >>> mails = help_desk(users=2, mails_per_user=2)
        >>> folder = poison_curvature(base, mails, "sharp", TuneConfig(epochs=1, max_tokens=16))
        >>> (folder / "redteam.json").exists()
        True
    """
    objective = DeferredPoisoning(times=times, weight=weight)
    folder = tune(base, records, out, config or TuneConfig(), objectives=(objective,))
    write_marker(folder, kind=KIND, about={"records": len(records), "times": times, "weight": weight})
    return folder
