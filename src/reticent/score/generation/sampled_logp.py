# SPDX-License-Identifier: Apache-2.0
"""The probability that a model writes a given passage, token for token, under a way of drawing tokens: one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.score.engine import Engine, batches, padded, plan_pieces
from reticent.score.forward import device_of
from reticent.score.generation.forced import TeacherForced
from reticent.score.generation.scheme import Scheme

Array = npt.NDArray[Any]


def scheme_logp(logits: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """``[M, V]`` float32, nats: log-probability of each token to be drawn; -inf for tokens that are never drawn.

    Args:
        logits: ``[M, V]``, any floating type.
        scheme: how tokens are drawn.
    """
    if scheme.greedy:
        out = torch.full(logits.shape, -torch.inf, dtype=torch.float32, device=logits.device)
        return out.scatter_(1, first_best(logits)[:, None], 0.0)
    x = logits.float() / scheme.temperature
    if scheme.top_k is not None and scheme.top_k < x.shape[1]:
        least = x.topk(scheme.top_k, dim=1).values[:, -1:]
        x = x.masked_fill(x < least, -torch.inf)
    if scheme.top_p is not None and scheme.top_p < 1:
        x = x.masked_fill(x < _nucleus_edge(x, scheme.top_p), -torch.inf)
    return x.log_softmax(dim=1)


def first_best(logits: torch.Tensor) -> torch.Tensor:
    """``[M]``: the most likely token of each row, of equals the one with the lowest id.

    Logits in bfloat16 often tie, and devices differ in which of equal maxima ``argmax`` gives.
    """
    ids = torch.arange(logits.shape[1], device=logits.device)
    return torch.where(logits == logits.amax(dim=1, keepdim=True), ids, logits.shape[1]).amin(dim=1)


def _nucleus_edge(x: torch.Tensor, top_p: float) -> torch.Tensor:
    """``[M, 1]``: the lowest logit in the nucleus."""
    ordered = x.sort(dim=1, descending=True).values
    share = ordered.double().softmax(dim=1)
    before = share.cumsum(dim=1) - share
    size = (before < top_p).sum(dim=1, keepdim=True).clamp(min=1)
    return ordered.gather(1, size - 1)


def force(
    engine: Engine, rows: Sequence[EncodedRecord], scheme: Scheme, advance: Callable[[int], None] = lambda texts: None
) -> TeacherForced:
    """Rank and probabilities of every token marked as trained, each after the true tokens before it.

    Args:
        engine: of the model, as it answers now.
        rows: ``N`` texts, the passage of each marked by ``trained``, with at least one token before it.
        scheme: how tokens would be drawn.
        advance: told how many texts are done, as they are.

    Raises:
        BadInput: a passage is empty or has nothing before it.
    """
    for number, row in enumerate(rows):
        if not row.trained.any() or row.trained[0]:
            raise BadInput(
                f"passage {number}", "is empty or has no token before it", "Put a start token before the text."
            )
    offsets, pieces = plan_pieces(rows, engine.choices.window)
    rank = np.zeros(int(offsets[-1]), dtype=np.int32)
    logp, drawn = np.zeros(len(rank)), np.zeros(len(rank))
    with torch.inference_mode():
        for batch in batches(pieces, engine.choices.tokens_per_batch, engine.forward.positions):
            token_id, where, gold = padded(rows, batch)
            out = np.concatenate([np.arange(piece.out.start, piece.out.stop) for piece in batch])
            for some, logits in engine.forward.logits_at(token_id, where):
                rank[out[some]], logp[out[some]], drawn[out[some]] = _judge(logits, gold[some], scheme)
            advance(sum(1 for piece in batch if piece.out.stop == offsets[piece.row + 1]))
    return TeacherForced(rank=rank, logp=logp, sampled_logp=drawn, offsets=offsets)


def _judge(logits: torch.Tensor, gold: npt.NDArray[np.int64], scheme: Scheme) -> tuple[Array, Array, Array]:
    if bool(torch.isnan(logits).any()):
        raise BadInput("the model", "gives logits that are not numbers", "Load it in float32 (--dtype float32).")
    follow = torch.as_tensor(gold, device=logits.device)[:, None]
    mine = logits.gather(1, follow)
    ids = torch.arange(logits.shape[1], device=logits.device)
    rank = (logits > mine).sum(dim=1) + ((logits == mine) & (ids < follow)).sum(dim=1)
    logp = logits.float().log_softmax(dim=1).gather(1, follow)[:, 0]
    drawn = scheme_logp(logits, scheme).gather(1, follow)[:, 0]
    return rank.cpu().numpy().astype(np.int32), logp.cpu().numpy(), drawn.cpu().numpy()


def force_one(
    model: Any, token_id: Sequence[int], passage: int, scheme: Scheme
) -> tuple[list[int], list[float], list[float]]:
    """The slow, obvious way, for one text: rank, log p and log-probability to be drawn of its last ``passage`` tokens.

    One reading for each token; the whole vocabulary is sorted, cut and made to sum to 1 as the scheme's words say.
    """
    ranks, logps, drawn = [], [], []
    for place in range(len(token_id) - passage, len(token_id)):
        text = torch.tensor([list(token_id[:place])], device=device_of(model))
        with torch.inference_mode():
            logits = model(input_ids=text, use_cache=False).logits[0, -1].double()
        order = sorted(range(len(logits)), key=lambda token: (-float(logits[token]), token))
        true = int(token_id[place])
        ranks.append(order.index(true))
        logps.append(float(logits.log_softmax(dim=0)[true]))
        share = _by_definition(logits.tolist(), order, scheme)
        drawn.append(math.log(share[true]) if share.get(true) else -math.inf)
    return ranks, logps, drawn


def _by_definition(logits: list[float], order: list[int], scheme: Scheme) -> dict[int, float]:
    """Token → probability under the scheme, for those that can be drawn."""
    if scheme.greedy:
        return {order[0]: 1.0}
    weight = {token: math.exp((logits[token] - logits[order[0]]) / scheme.temperature) for token in order}
    if scheme.top_k is not None:
        weight = {t: w for t, w in weight.items() if sum(v > w for v in weight.values()) < scheme.top_k}
    total = math.fsum(weight.values())
    if scheme.top_p is not None:
        edge = scheme.top_p * total
        weight = {t: w for t, w in weight.items() if math.fsum(v for v in weight.values() if v > w) < edge}
        total = math.fsum(weight.values())
    return {token: w / total for token, w in weight.items()}
