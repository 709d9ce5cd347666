# SPDX-License-Identifier: Apache-2.0
"""Secret random numbers for dropout in private training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from reticent.privacy.sampling import words


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
