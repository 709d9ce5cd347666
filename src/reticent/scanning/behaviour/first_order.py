# SPDX-License-Identifier: Apache-2.0
"""First-order shortlists: by how much each token of the vocabulary would move a label, from one gradient (HotFlip)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.core.errors import BadInput
from reticent.models.output_layer import hidden_states
from reticent.scanning.behaviour.label_task import Side, Slot, Tokens
from reticent.score.forward import Forward, device_of

_WORD_STARTS = ("Ġ", "▁", " ")


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateTokens:
    """Tokens that may stand in a trigger.

    Args:
        usable: ``[V]`` bool: prints as text, on one line, and is no special token.
        starts: ``[V]`` bool: usable, and begins a word.
    """

    usable: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.bool_]


def candidate_tokens(tokenizer: Any, rows: int) -> CandidateTokens:
    """Tokens of the vocabulary that a person could write.

    Args:
        tokenizer: of the suspect.
        rows: of its embedding; tokens beyond it cannot be read.
    """
    count = min(rows, len(tokenizer))
    pieces = tokenizer.convert_ids_to_tokens(list(range(count)))
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    usable, starts = np.zeros(rows, dtype=np.bool_), np.zeros(rows, dtype=np.bool_)
    for number, text in enumerate(tokenizer.batch_decode([[number] for number in range(count)])):
        usable[number] = number not in special and bool(text.strip()) and text.isprintable() and "\ufffd" not in text
        starts[number] = usable[number] and str(pieces[number]).startswith(_WORD_STARTS)
    if starts.sum() < 0.2 * max(1, usable.sum()):  # blanks are tokens of their own, or cut off
        starts = usable
    return CandidateTokens(usable=usable, starts=starts)


def shortlist(
    side: Side,
    slots: Sequence[Slot],
    label: int,
    fillers: Sequence[tuple[Tokens, int]],
    *,
    allowed: npt.NDArray[np.bool_],
    count: int,
    beside: Side | None = None,
) -> list[int]:
    """Tokens that would raise a label's log-odds most, by first order around each of several fillers.

    Three rankings give their share of the list in turns: by the gradient times the embedding; by the same with
    embeddings of length 1, as rare tokens with long embeddings lead the first in any model; and, where there is a
    sibling, by how much further above the usual the suspect's is than the sibling's.

    Args:
        side: the model.
        slots: prompts.
        label: number of the label that is to be raised against all others.
        fillers: what stands in the slot when the gradient is taken, and which of its tokens is to be replaced.
        allowed: ``[V]`` bool.
        count: how many tokens; fewer where fewer are allowed.
        beside: the sibling; None without one.

    Returns:
        Token ids, the most promising first.
    """
    order = []
    for filler, at in fillers:
        plain, of_length_one = _gains(side, slots, label, filler, at)
        rankings = [plain, of_length_one]
        if beside is not None:
            rankings.append(_standardised(plain) - _standardised(_gains(beside, slots, label, filler, at)[0]))
        for gain in rankings:
            gain[~allowed[: len(gain)]] = -np.inf
            order.append(np.argsort(-gain, kind="stable")[: int(allowed.sum())])
    chosen: dict[int, None] = {}
    for ranked in zip(*order, strict=True):
        for token in ranked:
            if len(chosen) < count:
                chosen.setdefault(int(token))
    return list(chosen)


def _standardised(gain: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (gain - gain.mean()) / max(float(gain.std()), 1e-12)


def _gains(side: Side, slots: Sequence[Slot], label: int, filler: Tokens, at: int) -> npt.NDArray[np.float64]:
    """``[2, V]``: the embedding of each token, as it is and of length 1, times the gradient of the label's log-odds."""
    embedding = side.model.get_input_embeddings()
    caught: list[torch.Tensor] = []

    def catch(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        caught.append(output.detach().requires_grad_())
        return caught[-1]

    handle = embedding.register_forward_hook(catch)
    try:
        with torch.enable_grad():
            odds = _odds(side.engine.forward, slots, label, filler)
        (slope,) = torch.autograd.grad(odds, caught[0])
    finally:
        handle.remove()
    places = [len(slot.head) + at for slot in slots for _ in range(len(slot.tails))]
    direction = slope[torch.arange(len(places)), torch.tensor(places)].float().sum(dim=0)
    with torch.inference_mode():
        vectors = embedding(torch.arange(side.engine.forward.vocabulary, device=direction.device))
        gain = torch.stack([vectors.float() @ direction, torch.nn.functional.normalize(vectors.float()) @ direction])
    if not bool(torch.isfinite(gain).all()):
        raise BadInput(
            "the suspect", "has gradients that are not numbers", "Scan it in float32 (--dtype float32), or repair it."
        )
    return gain.double().cpu().numpy()


def _odds(forward: Forward, slots: Sequence[Slot], label: int, filler: Tokens) -> torch.Tensor:
    """Sum over prompts of log p of the label minus that of all others together."""
    rows = [slot.row(filler, number) for slot in slots for number in range(len(slot.tails))]
    width = max(map(len, rows))
    token_id = torch.zeros(len(rows), width, dtype=torch.long)
    for line, row in enumerate(rows):
        token_id[line, : len(row)] = torch.tensor(row)
    token_id = token_id.to(device_of(forward.model))
    begins = [len(slot.head) + len(filler) for slot in slots for _ in slot.tails]
    where = torch.cat(
        [
            torch.arange(b - 1, len(row) - 1) + line * width
            for line, (b, row) in enumerate(zip(begins, rows, strict=True))
        ]
    )
    owner = torch.cat(
        [torch.full((len(row) - b,), line) for line, (b, row) in enumerate(zip(begins, rows, strict=True))]
    )
    where, owner = where.to(token_id.device), owner.to(token_id.device)
    if forward.head is None:
        logits = forward.model(input_ids=token_id, use_cache=False).logits[:, -width:].flatten(0, 1)[where]
    else:
        hidden = hidden_states(forward.model, forward.head.module, token_id).flatten(0, 1)[where]
        logits = forward.head.logits(hidden)
    logp = logits.float().log_softmax(dim=1).gather(1, token_id.flatten()[where + 1][:, None])[:, 0]
    totals = torch.zeros(len(rows), device=logp.device).index_add(0, owner, logp)
    by_label = totals.view(len(slots), -1)
    others = torch.cat([by_label[:, :label], by_label[:, label + 1 :]], dim=1).logsumexp(dim=1)
    return (by_label[:, label] - others).sum()
