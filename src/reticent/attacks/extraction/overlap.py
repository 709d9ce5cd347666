# SPDX-License-Identifier: Apache-2.0
"""Overlap: texts that share a run of tokens with a corpus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core import validate

Array = npt.NDArray[Any]


def shares_run(texts: Sequence[Array], corpus: Iterable[Array], length: int) -> npt.NDArray[np.bool_]:
    """``[N]``: the text has ``length`` adjacent tokens that also stand next to each other in a text of the corpus.

    Exact. The runs of ``texts`` are held in memory, the corpus is only read through, so it may be large.

    Args:
        texts: ``N`` arrays of token ids.
        corpus: arrays of token ids.
        length: of the run.
    """
    validate.positive(length=length)
    owners: dict[bytes, set[int]] = {}
    for number, text in enumerate(texts):
        for run in _runs(text, length):
            owners.setdefault(run, set()).add(number)
    shared = np.zeros(len(texts), dtype=np.bool_)
    for text in corpus:
        for run in owners.keys() & set(_runs(text, length)):
            shared[list(owners[run])] = True
    return shared


def _runs(text: Array, length: int) -> list[bytes]:
    """Every run of ``length`` tokens, as bytes."""
    whole = np.ascontiguousarray(text, dtype="<i4").tobytes()
    return [whole[start : start + 4 * length] for start in range(0, len(whole) - 4 * length + 1, 4)]
