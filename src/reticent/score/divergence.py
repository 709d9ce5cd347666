# SPDX-License-Identifier: Apache-2.0
"""How far fine-tuning moved a model on given texts: KL(target‖base) of the next token, over the whole vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.models.load import LoadedModel
from reticent.score.engine import Chunk, padded, plan_pieces
from reticent.score.forward import Forward, most_read, open_forward

_POSITIONS = 256
"""Places at a time whose logits of both models are in memory, in float32."""
_WINDOW = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Divergence:
    """KL divergence of ``N`` records.

    Args:
        kl: ``[N]`` sum over the record's trained tokens of KL(target‖base) in nats, at least 0; 0 for a record
            without a token to predict.
        tokens: ``[N]`` how many tokens that is.
    """

    kl: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]


def divergence(
    target: LoadedModel, base: LoadedModel, records: Sequence[Record], *, max_tokens: int | None = None
) -> Divergence:
    """KL(target‖base) = ``Σ_v p_T(v) (log p_T(v) - log p_B(v))`` of each next token; in float32, whatever the weights.

    It is not a leak: it says how much of the base's behaviour is left, as low-rank tuning is to be held against
    (arXiv:2405.18572).

    Args:
        target, base: of one vocabulary; records are encoded with ``base``'s tokenizer.
        records: texts that neither was trained on.
        max_tokens: cut texts off after so many tokens.

    Raises:
        BadInput: the models know different numbers of tokens, or one of them cannot be scored.
    """
    forwards = open_forward(target.model, target.source), open_forward(base.model, base.source)
    if forwards[0].vocabulary != forwards[1].vocabulary:
        raise BadInput(
            f"{target.source} and {base.source}",
            f"know {forwards[0].vocabulary:,} and {forwards[1].vocabulary:,} tokens",
            "Give a model and the base that it was tuned from.",
        )
    rows = [encode(record, base.tokenizer, max_tokens=max_tokens) for record in records]
    window = min(most_read(target.model) or _WINDOW, most_read(base.model) or _WINDOW)
    offsets, pieces = plan_pieces(rows, window)
    kl = np.zeros(int(offsets[-1]))
    with torch.inference_mode():
        for piece in pieces:
            token_id, where, _ = padded(rows, [piece])
            for start in range(0, len(where), _POSITIONS):
                some = where[start : start + _POSITIONS]
                out = _places(piece, start, len(some))
                kl[out] = _kl(_log_p(forwards[0], token_id, some), _log_p(forwards[1], token_id, some))
    before = np.concatenate([[0.0], np.cumsum(kl)])
    return Divergence(kl=before[offsets[1:]] - before[offsets[:-1]], tokens=np.diff(offsets))


def _places(piece: Chunk, start: int, length: int) -> slice:
    return slice(piece.out.start + start, piece.out.start + start + length)


def _log_p(forward: Forward, token_id: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """``[M, V]`` float32."""
    parts = [logits.float().log_softmax(-1) for _, logits in forward.logits_at(token_id, where)]
    return torch.cat(parts)


def _kl(target: torch.Tensor, base: torch.Tensor) -> npt.NDArray[np.float64]:
    """``[M]``; rounding may push a tiny one below 0, which is cut off."""
    divergence = (target.exp() * (target - base)).sum(-1).clamp_min(0)
    return divergence.double().cpu().numpy()
