# SPDX-License-Identifier: Apache-2.0
"""Speculative decoding of an emulated fine-tune: its small tuned model goes ahead, the ensemble reads several tokens at
once and keeps those that it would have drawn itself.

Exact, and more than in distribution: each token is drawn from the ensemble's own prediction by the uniform that belongs
to its place, and a proposal (the small model's token by the same uniform) only decides what has been read already. So
the texts are those of `generate` without it, but for rounding, whatever the small model proposes. A rule that accepts
by the ratio of two probabilities would accept a few more, and would give other texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

from reticent.models.blended_logits import ABSENT
from reticent.models.emulated import EmulatedModel
from reticent.score.forward import device_of
from reticent.score.generation.drawing import Line, draw
from reticent.score.generation.scheme import Scheme

FIRST_AHEAD, MOST_AHEAD = 3, 8
"""Tokens that the small model proposes at first, and at most: one more than were kept the last time."""


@dataclass(frozen=True, kw_only=True)
class DraftCount:
    """How far the small model went ahead in one text.

    Args:
        proposed: tokens that it proposed.
        accepted: those that the ensemble drew too.
    """

    proposed: int = 0
    accepted: int = 0

    def plus(self, proposed: int, accepted: int) -> DraftCount:
        """With those of one more round."""
        return DraftCount(proposed=self.proposed + proposed, accepted=self.accepted + accepted)


def can_draft(model: Any) -> bool:
    """True if ``model`` is an ensemble whose small tuned model can go ahead of it."""
    return isinstance(model, EmulatedModel) and model.alone is None


def write_drafted(model: EmulatedModel, line: Line, scheme: Scheme, ends: frozenset[int]) -> DraftCount | None:
    """Write one text to its end, as `generate` does with a batch of one.

    Args:
        model: for which `can_draft` holds; within ``torch.inference_mode``.
        line: the text; its tokens are put into it.
        scheme: how tokens are drawn.
        ends: tokens that end a text.

    Returns:
        How far the small model went ahead; None, and nothing written, where what was read cannot be taken back.
    """
    ensemble, drafter = _Reader(model, None), _Reader(model.tuned.model, model)
    logits = ensemble.read(line.prefix.tolist(), 1)
    if not ensemble.can_forget or line.token_id:
        return None
    count, ahead = DraftCount(), FIRST_AHEAD
    going = _take(line, draw(logits, scheme, line.chance[:1]).tolist(), logits, ends)
    while going:
        text = [*line.prefix.tolist(), *line.token_id]
        room = line.limit - len(line.token_id)
        proposals = _propose(drafter, text, min(ahead, room - 1), scheme, line)
        logits = ensemble.read([text[-1], *proposals], len(proposals) + 1)
        step = len(line.token_id)
        tokens = draw(logits, scheme, line.chance[step : step + len(logits)]).tolist()
        same = next((i for i, token in enumerate(proposals) if tokens[i] != token), len(proposals))
        going = _take(line, tokens[: same + 1], logits, ends)
        count, ahead = count.plus(len(proposals), same), min(MOST_AHEAD, same + 1)
        read = len(line.prefix) + len(line.token_id) - 1
        ensemble.forget(read)
        drafter.forget(read)
    return count


def _propose(drafter: _Reader, text: Sequence[int], ahead: int, scheme: Scheme, line: Line) -> list[int]:
    """The next tokens by the small tuned model alone, each by the uniform of its place."""
    proposals: list[int] = []
    unread = list(text[drafter.length :])
    while len(proposals) < ahead:
        step = len(line.token_id) + len(proposals)
        (token,) = draw(drafter.read(unread, 1), scheme, line.chance[step : step + 1]).tolist()
        proposals.append(token)
        unread = [token]
    return proposals


def _take(line: Line, tokens: Sequence[int], logits: torch.Tensor, ends: frozenset[int]) -> bool:
    """Put tokens into the text until it ends; True if it goes on."""
    chosen = torch.tensor(tokens, device=logits.device)[:, None]
    logp = logits[: len(tokens)].float().log_softmax(dim=1).gather(1, chosen)[:, 0].tolist()
    for token, value in zip(tokens, logp, strict=True):
        line.stopped = token in ends
        if line.stopped:
            return False
        line.token_id.append(token)
        line.logp.append(value)
        if len(line.token_id) == line.limit:
            return False
    return True


class _Reader:
    """A model that reads one text, and can forget its last tokens.

    Args:
        model: to read.
        small_of: the ensemble whose small model it is: tokens are then given and predicted by the large one's numbers.
    """

    def __init__(self, model: Any, small_of: EmulatedModel | None) -> None:
        self.model, self.small_of = model, small_of
        self.past: Any = None
        self.length = 0

    def read(self, token_id: Sequence[int], keep: int) -> torch.Tensor:
        """Read on; ``[keep, V]`` logits of what follows each of the last ``keep`` tokens."""
        ids = torch.tensor([list(token_id)], device=device_of(self.model))
        if self.small_of is not None:
            ids = self.small_of.token_ids_of(self.small_of.tuned, ids)
        more = {} if self.past is None else {"past_key_values": self.past}
        more |= {"logits_to_keep": keep} if self._keeps() else {}
        output = self.model(input_ids=ids, use_cache=True, **more)
        self.past, self.length = output.past_key_values, self.length + len(token_id)
        return self._of_large(output.logits[0, -keep:])

    def forget(self, length: int) -> None:
        """Go back to the first ``length`` tokens."""
        if self.length > length:
            self.past.crop(length - self.length)
            self.length = length

    @property
    def can_forget(self) -> bool:
        """True if all that was read is kept token by token, in each of the models."""
        caches = getattr(self.past, "caches", [self.past])
        layers = [layer for cache in caches for layer in getattr(cache, "layers", [None])]
        return all(type(layer) is DynamicLayer for layer in layers)

    def _keeps(self) -> bool:
        return self.small_of is None or "logits_to_keep" in self.small_of.tuned.takes

    def _of_large(self, logits: torch.Tensor) -> torch.Tensor:
        if self.small_of is None:
            return logits
        if self.small_of.small_id is None:
            return logits[:, : len(self.small_of.get_input_embeddings().weight)]
        ids = self.small_of.small_id
        return logits.index_select(1, ids.clamp(min=0)).masked_fill(ids == ABSENT, -torch.inf)
