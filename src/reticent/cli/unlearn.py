# SPDX-License-Identifier: Apache-2.0
"""`reticent unlearn`: take records or people out of a run's model."""

from __future__ import annotations

from reticent.core.progress import console
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.request import ForgetRequest

USUAL = (
    "out",
    "forget_users",
    "forget_ids",
    "forget_file",
    "forget_pattern",
    "forget_copies",
    "method",
    "learning_rate",
    "retain_budget",
    "dry_run",
)


def command(
    run: str,
    *,
    out: str = "runs/unlearned",
    request: ForgetRequest,
    unlearn_config: UnlearnConfig,
    dry_run: bool = False,
) -> int:
    """Take records or people out of a fine-tuned model, until they look like texts that it never saw.

    Half of what is forgotten tells when to stop, the other half judges (`reticent verify`). The same command again
    goes on from the last checkpoint; a further request goes on from this run folder.

    Args:
        run: the run folder of reticent tune, or of an earlier unlearning.
        out: the run folder to make. It holds ids and no text.
        dry_run: say what would be forgotten, what repeats it, what could be shown and what training again would cost,
            and do nothing.
    """
    if dry_run:
        from reticent.workflows.unlearn import describe

        console.print("\n".join(describe(run, request, unlearn_config)), highlight=False, soft_wrap=True, markup=False)
        return 0
    from reticent.workflows.unlearn import unlearn

    folder = unlearn(run, out=out, forget=request, config=unlearn_config)
    console.print(f"model: {folder.model}\nnow: reticent verify {folder.root}", highlight=False, soft_wrap=True)
    return 0
