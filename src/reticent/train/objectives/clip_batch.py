# SPDX-License-Identifier: Apache-2.0
"""Another bound on the norm of a batch's gradient than the usual 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reticent.core import validate
from reticent.train.objectives.objective import Objective, objective


@objective(
    "clip_batch",
    alters={"gradient.batch"},
    flag="clip_batch={norm!r}",
    why={
        "private": (
            "it clips the noised sum, not each unit's gradient: it protects nobody",
            "Leave it out. What bounds each unit is --clip_norm.",
        )
    },
)
@dataclass(frozen=True, kw_only=True)
class ClipBatch(Objective):
    """The gradient of a batch is made no longer than a bound.

    Args:
        norm: that bound; 0 for none.
    """

    norm: float = 1.0

    def __post_init__(self) -> None:
        validate.non_negative(clip_batch=self.norm)

    def arguments(self) -> dict[str, Any]:
        """The bound by Hugging Face's name."""
        return {"max_grad_norm": self.norm}
