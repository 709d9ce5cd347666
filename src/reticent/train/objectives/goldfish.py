# SPDX-License-Identifier: Apache-2.0
"""Goldfish loss (Hans et al., "Be like a Goldfish, Don't Memorize!", NeurIPS 2024, section 3): some tokens are never
learned, so that a text that is recited from its beginning goes astray at the first of them.

Which ones follows from the tokens before alone: where a passage occurs again (a quotation, a forwarded mail), the same
token is left out, and no copy gives away what another one keeps. It hinders verbatim recital; it is a weak defence
against membership inference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.train.objectives.objective import Objective, objective

if TYPE_CHECKING:
    from reticent.train.batches import Corpus

CONTEXT = 13
"""Tokens that decide whether the next one is left out, as in the paper (h)."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SEED = np.uint64(0x5EED)


@objective(
    "goldfish",
    alters={"corpus.tokens"},
    private="whole texts",
    flag="goldfish={k!r}",
    why={
        "spans": (
            "with spans protected a text is trained on in two parts, and the loss of neither leaves tokens out",
            "Leave --goldfish out, or protect whole texts (--protect all).",
        )
    },
    paper="arXiv:2406.10209",
)
@dataclass(frozen=True, kw_only=True)
class Goldfish(Objective):
    """Some tokens are never trained on, the same ones wherever a passage stands.

    Args:
        k: about one token in k is left out.
        context: tokens that decide whether the next one is.
    """

    k: int = 4
    context: int = CONTEXT

    def __post_init__(self) -> None:
        validate.positive(goldfish_context=self.context)
        if self.k < 2:
            raise BadInput(self.given, "would leave (nearly) every token out", "Give 2 or more (4 is usual).")

    def corpus(self, corpus: Corpus) -> Corpus:
        """Without the tokens that `left_out` names."""
        return replace(corpus, encoded=[goldfish(text, k=self.k, context=self.context) for text in corpus.encoded])


def goldfish(encoded: EncodedRecord, *, k: int, context: int) -> EncodedRecord:
    """The record with the tokens that `left_out` names no longer trained on."""
    out = left_out(encoded.token_id, k=k, context=context)
    return replace(encoded, trained=encoded.trained & ~out)


def left_out(token_id: npt.NDArray[np.int32], *, k: int, context: int) -> npt.NDArray[np.bool_]:
    """``[n]`` bool: token t is left out where ``hash(token_id[t - context : t]) mod k == 0``.

    The first ``context`` tokens have too few before them and are all kept.

    Args:
        token_id: ``[n]``.
        k: about one token in k is left out.
        context: the paper's h.
    """
    validate.positive(k=k, context=context)
    out = np.zeros(len(token_id), dtype=np.bool_)
    if len(token_id) <= context:
        return out
    windows = np.lib.stride_tricks.sliding_window_view(token_id[:-1].astype(np.uint64), context)
    digest = np.full(len(windows), _SEED)
    for column in windows.T:
        digest = _mix((digest ^ column) * _MULTIPLIER)
    out[context:] = digest % np.uint64(k) == 0
    return out


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble the bits, so that neighbouring token ids give unlike hashes (the finisher of MurmurHash3)."""
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))
