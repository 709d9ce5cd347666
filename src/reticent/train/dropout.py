# SPDX-License-Identifier: Apache-2.0
"""Random numbers for dropout: secret ones in private training, and of each process its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from reticent.privacy.sampling import words


def draws(model: Any) -> bool:
    """Does training this model draw random numbers, so that the outcome depends on who draws them?

    A setting of the architecture that looks like dropout counts, since what it is used for cannot be seen from outside.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0:
            return True
    settings = vars(model.config) if hasattr(model, "config") and hasattr(model.config, "__dict__") else {}
    return any("drop" in name and isinstance(value, float) and value > 0 for name, value in settings.items())


@contextmanager
def keyed_dropout(key: bytes, part: str, step: int, process: int, device: torch.device) -> Iterator[None]:
    """Within it, dropout follows from (key, part, step, process); the caller's random state is left as it was.

    One more unit in a batch shifts which masks the others get. Somebody who knew the seed of the masks could tell, and
    sensitivity would not be the clip norm; to whoever does not know it, the others' masks are as likely as before, and
    the guarantee holds for each draw of them, so on average (hockey-stick divergences are jointly convex).

    Args:
        key: 32 secret bytes.
        part: what is being trained on; different parts draw independently.
        step: number of the step.
        process: number of this process.
        device: where the model is.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(words(key, part, step, process, count=1)[0] >> np.uint64(1)))
        yield
