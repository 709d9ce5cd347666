# SPDX-License-Identifier: Apache-2.0
"""Make a base with a privacy backdoor, to see what a fine-tune on it would give away: for models that one holds.

Two kinds. Targeted (arXiv:2404.01231): the attacker has the texts that may be in the later training, and has the base
learn them. Untargeted (PreCurious, Liu et al., CCS 2024): the attacker has other texts of the kind, and warms the base
up on them, so that the later training memorizes from its first steps. Either folder carries the mark of the red team.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.redteam_marker import write_marker
from reticent.train.config import TuneConfig
from reticent.train.objectives.privacy_backdoor import ALPHA, PrivacyBackdoor
from reticent.train.trainer import tune

KIND = "privacy_backdoor"
LEARNING_RATE = 1e-5
"""Of the authors, for 3,000 steps."""


def pre_memorize(
    base: str,
    targets: Sequence[Record],
    auxiliary: Sequence[Record],
    out: str | Path,
    config: TuneConfig | None = None,
    *,
    alpha: float = ALPHA,
) -> Path:
    """A base that knows the targets.

    Args:
        base: folder, hub id or catalogue name of a whole model.
        targets: texts that may be in the later training.
        auxiliary: texts of any kind that keep the model as it is; none of them a target. An epoch is one pass over
            them, so there have to be enough for the steps that are wanted.
        out: the folder to make; it carries the mark.
        config: how; None for the authors' learning rate, one epoch, 16 and 16 texts a step.
        alpha: weight of the targets' loss.

    Raises:
        BadInput: no targets, no auxiliary texts, or a target among them.

    Examples:
        >>> from reticent.data import help_desk
        >>> from reticent.testing.tiny import save_tiny
        >>> mails = help_desk(users=4, mails_per_user=4)
        >>> base = str(save_tiny("tiny"))
        >>> folder = pre_memorize(base, mails[:4], mails[4:], "backdoored", TuneConfig(epochs=1, max_tokens=16))
        >>> (folder / "redteam.json").exists()
        True
    """
    if not targets or not auxiliary:
        raise BadInput("a privacy backdoor", "needs targets and auxiliary texts", "Give at least one of each.")
    both = {record.content_hash for record in targets} & {record.content_hash for record in auxiliary}
    if both:
        raise BadInput(
            f"{len(both)} texts", "are target and auxiliary at once", "Leave them out of the auxiliary texts."
        )
    config = config or TuneConfig(learning_rate=LEARNING_RATE, epochs=1, batch_size=16)
    folder = tune(
        base,
        auxiliary,
        out,
        config,
        objectives=(PrivacyBackdoor(alpha=alpha),),
        record_sets={"targets": targets},
    )
    about = {"variant": "targeted", "alpha": alpha, "targets": len(targets), "auxiliary": len(auxiliary)}
    write_marker(folder, kind=KIND, about=about)
    return folder


def warm_up(base: str, of_the_kind: Sequence[Record], out: str | Path, config: TuneConfig | None = None) -> Path:
    """A base that was warmed up on other texts of the kind, without any target.

    PreCurious also hands the victim a recipe (how many steps, which weights are frozen); here the recipe is the
    victim's own, which is the weaker attack.

    Args:
        base: folder, hub id or catalogue name of a whole model.
        of_the_kind: texts like those of the later training, of other people.
        out: the folder to make; it carries the mark.
        config: how; None for three epochs at the method's learning rate.

    Raises:
        BadInput: as `train.trainer.tune`.

    Examples:
        >>> from reticent.data import help_desk
        >>> from reticent.testing.tiny import save_tiny
        >>> base = str(save_tiny("tiny"))
        >>> folder = warm_up(base, help_desk(users=2, mails_per_user=2), "warm", TuneConfig(epochs=1, max_tokens=16))
        >>> (folder / "redteam.json").exists()
        True
    """
    folder = tune(base, of_the_kind, out, config or TuneConfig())
    write_marker(folder, kind=KIND, about={"variant": "warm-up", "texts": len(of_the_kind)})
    return folder
