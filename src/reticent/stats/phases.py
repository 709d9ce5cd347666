# SPDX-License-Identifier: Apache-2.0
"""Phases of a fine-tuning: fitting, memorizing without getting better, overfitting (arXiv:2205.12506)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reticent.core.validate import positive, same_length

TOLERANCE = 0.005
"""Relative change of perplexity that counts as none."""
_EPOCH = 1 - 1e-6


def phases(
    perplexity: Sequence[float],
    leak: Sequence[float],
    *,
    epoch: Sequence[float] | None = None,
    tolerance: float = TOLERANCE,
) -> tuple[str, ...]:
    """The phase at each look.

    * ``"overfitting"``: perplexity is more than ``tolerance`` above the lowest before.
    * ``"fitting"``: it is more than ``tolerance`` below the lowest that had been reached an epoch ago.
    * ``"memorization"``: neither, and ``leak`` has risen since that look of an epoch ago: nothing is gained but what
      leaks.
    * Otherwise the phase before goes on. The first look is ``"start"``.

    Where there is one look an epoch, "an epoch ago" is any look before. With several looks an epoch it keeps progress
    that is slower than ``tolerance`` a look from passing for none; "memorization" then cannot begin within the first
    epoch.

    Args:
        perplexity: ``[L]`` of held-out text, the first before training; lower is better.
        leak: ``[L]``, higher = leaks more: TPR of an attack, or the gap between held-out and member loss.
        epoch: ``[L]`` when the looks were made, rising; None for one look an epoch.
        tolerance: relative.

    Returns:
        ``[L]`` of "start", "fitting", "memorization", "overfitting".

    Raises:
        BadInput: lengths that differ.
    """
    positive(tolerance=tolerance)
    when = np.arange(len(perplexity), dtype=np.float64) if epoch is None else np.asarray(epoch, dtype=np.float64)
    same_length(perplexity=perplexity, leak=leak, epoch=when)
    names: list[str] = []
    for look, now in enumerate(perplexity):
        if not look:
            names.append("start")
            continue
        settled = [before for before in range(look) if when[look] - when[before] >= _EPOCH]
        best = min(settled or [0], key=lambda before: perplexity[before])
        if now > (1 + tolerance) * min(perplexity[:look]):
            names.append("overfitting")
        elif now < (1 - tolerance) * perplexity[best]:
            names.append("fitting")
        elif settled and leak[look] > leak[best]:
            names.append("memorization")
        else:
            names.append(names[-1])
    return tuple(names)
