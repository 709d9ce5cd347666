# SPDX-License-Identifier: Apache-2.0
"""Run a causal language model up to its last hidden states, and its output layer only where it is asked for.

No ``[B, T, V]`` tensor exists: the body gives ``[B, T, D]``, and the output layer is applied to a few hundred positions
at a time, into one buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from reticent.core.errors import BadInput
from reticent.models.computing_device import computing_device
from reticent.models.context import Positions, context_length, positions_of
from reticent.models.output_layer import Head, agrees, find_head, hidden_states
from reticent.score.attention import LONGEST, gains_from_plain, plain_attention

CHUNK_BYTES = {"cpu": 24 << 20, "cuda": 256 << 20}
"""Logits that exist at one time. On a CPU: what stays in the last-level cache, so that they are read from there."""
_MOST_ROWS, _LEAST_ROWS = 1024, 32
_PROBE = (24, 17)
"""Lengths of the two texts that ``open_forward`` checks the model with."""
_COMPANY = 160
"""Tokens of a text in whose company the shorter of the two is read once more."""
_SAME = {torch.float32: 1e-3, torch.float64: 1e-3}
_SAME_HALF = 0.1
"""How far apart logits may be for rounding, relatively, in the middle of a text's tokens; the second in 16 bits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Forward:
    """A model that is ready to be asked for logits at chosen positions.

    Args:
        model: a causal language model in evaluation mode, as it answers now (an adapter on or off).
        head: None if the model's logits are not its output layer's times a constant: then whole logits are computed.
        vocabulary: rows of the output layer.
        plain: whether short texts are read with plain attention (``score.attention``).
        positions: which texts may share a batch.
    """

    model: Any
    head: Head | None
    vocabulary: int
    plain: bool = False
    positions: Positions = field(default_factory=Positions)

    @property
    def path(self) -> str:
        """How logits are made, for the manifest."""
        return "output layer in chunks" if self.head is not None else "whole logits"

    def attention(self, width: int) -> AbstractContextManager[None]:
        """Within this context the model attends as it does to texts of ``width`` tokens."""
        return plain_attention(self.model) if self.plain and width <= LONGEST else nullcontext()

    def logits_at(self, token_id: torch.Tensor, where: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Logits of chosen positions, a chunk at a time.

        Texts are padded on the right. As the model is causal, what is on the right of a token cannot reach it, so no
        attention mask is needed (``open_forward`` checks that), and attention takes its fastest way.

        Args:
            token_id: ``[B, T]``.
            where: ``[M]`` places in ``[B·T]``.

        Yields:
            Which of the ``M`` places, and their logits ``[C, V]``, valid until the next chunk.
        """
        device = device_of(self.model)
        token_id, where = token_id.to(device), where.to(device)
        if self.head is None:
            with self.attention(token_id.shape[1]):
                whole = self.model(input_ids=token_id, use_cache=False).logits[:, -token_id.shape[1] :]
            yield slice(0, len(where)), whole.flatten(0, 1)[where]
            return
        with self.attention(token_id.shape[1]):
            hidden = hidden_states(self.model, self.head.module, token_id).flatten(0, 1)
        yield from self.of_hidden(hidden[where.to(hidden.device)])

    def of_hidden(self, hidden: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """The logits ``[C, V]`` of hidden states ``[M, D]`` by the output layer, a chunk at a time: which of the ``M``,
        and theirs, valid until the next chunk."""
        assert self.head is not None
        rows = chunk_rows(self.vocabulary, hidden.element_size(), hidden.device.type)
        with self.head.taking(hidden) as hidden:
            buffer = hidden.new_empty(min(rows, len(hidden)), self.vocabulary)
            for start in range(0, len(hidden), rows):
                part = hidden[start : start + rows]
                yield slice(start, start + len(part)), self.head.logits(part, out=buffer[: len(part)])


def open_forward(model: Any, name: str) -> Forward:
    """Find the model's output layer and check that going through it gives the model's own logits.

    Where a text gets other logits in the company of a long one, though what its configuration says of positions allows
    that they share a batch, each length of text gets batches of its own.

    Args:
        model: a causal language model in evaluation mode.
        name: what the person calls it, for messages.

    Raises:
        BadInput: what comes after a token changes its logits, so the model is not causal.
    """
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    positions = positions_of(model)
    texts = [_probe_text(vocabulary, length) for length in _probe_lengths(positions, context_length(model))]
    with torch.inference_mode():
        truth = [_own_logits(model, text) for text in _on(model, texts)]
        head = find_head(model)
        if head is not None and not agrees(model, head, _on(model, texts)[0], truth[0]):
            head = None
        plain = gains_from_plain(model) and _same_by_plain(model, texts[0], truth[0])
        forward = Forward(model=model, head=head, vocabulary=int(truth[0].shape[-1]), plain=plain, positions=positions)
        _check_causal(forward, texts, truth, name)
        if not _same_in_company(forward, texts[1], truth[1]):
            forward = replace(forward, positions=replace(positions, each_beyond=0))
    return forward


def device_of(model: Any) -> torch.device:
    """Where the model takes its input."""
    return computing_device(model.get_input_embeddings())


def most_read(model: Any) -> int | None:
    """Tokens that the model can read at a time; None if it sets no limit. See `models.context.context_length`."""
    return context_length(model)


def chunk_rows(vocabulary: int, element_size: int, device: str) -> int:
    """How many positions have their logits computed at a time."""
    budget = CHUNK_BYTES.get(device, CHUNK_BYTES["cuda"])
    return max(_LEAST_ROWS, min(_MOST_ROWS, budget // (vocabulary * element_size)))


def _own_logits(model: Any, text: torch.Tensor) -> torch.Tensor:
    """``[T, V]``: what anybody who calls the model on this one text gets."""
    ids = text[None]
    logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return logits[0, -len(text) :]


def _same_by_plain(model: Any, text: torch.Tensor, truth: torch.Tensor) -> bool:
    """True if plain attention gives the model's logits, up to the rounding of bfloat16."""
    try:
        with plain_attention(model):
            mine = _own_logits(model, _on(model, [text])[0])
    except (RuntimeError, TypeError, ValueError):
        return False
    apart = (mine.float() - truth.float()).norm(dim=1) / truth.float().norm(dim=1).clamp(min=1e-6)
    return bool(apart.median() <= 4 * torch.finfo(torch.bfloat16).eps)


def _check_causal(forward: Forward, texts: list[torch.Tensor], truth: list[torch.Tensor], name: str) -> None:
    """Both texts in one padded batch must give what each gives alone, but for rounding."""
    width = max(len(text) for text in texts)
    batch = torch.zeros(len(texts), width, dtype=torch.long)
    for row, text in enumerate(texts):
        batch[row, : len(text)] = text
    short = torch.arange(len(texts[1])) + width
    alone = truth[1].float()
    mine = torch.cat([part.float() for _, part in forward.logits_at(batch, short)])
    apart = (mine - alone).norm(dim=1) / alone.norm(dim=1).clamp(min=1e-6)
    if not apart.median() <= 0.1:  # not ">": NaN must not pass
        raise BadInput(
            name,
            "gives a token other logits when something follows it, or logits that are not numbers",
            "Only causal language models with finite weights can be scored.",
        )


def _same_in_company(forward: Forward, text: torch.Tensor, truth: torch.Tensor) -> bool:
    """True if a text gets its own logits with many tokens behind it, up to a border of the positions."""
    most = _COMPANY + len(text)
    width = min(most, context_length(forward.model) or most, forward.positions.next_border(len(text)) or most)
    if width <= len(text):
        return True
    vocabulary = int(forward.model.get_input_embeddings().weight.shape[0])
    batch = torch.cat([text, _probe_text(vocabulary, width - len(text))])[None]
    mine = torch.cat([part.float() for _, part in forward.logits_at(batch, torch.arange(len(text)))])
    apart = (mine - truth.float()).norm(dim=1) / truth.float().norm(dim=1).clamp(min=1e-6)
    return bool(apart.median() <= _SAME.get(_dtype_of(forward.model), _SAME_HALF))


def _probe_lengths(positions: Positions, limit: int | None) -> tuple[int, int]:
    """Those of ``_PROBE``, moved or shortened until both are read in one way."""
    long, short = _PROBE
    low, high = positions.stretch(long, limit)
    longest = min(high, low + long)
    return longest, max(low + 1, min(longest - 1, low + short))


def _probe_text(vocabulary: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(vocabulary, (length,), generator=generator)


def _on(model: Any, texts: list[torch.Tensor]) -> list[torch.Tensor]:
    device = device_of(model)
    return [text.to(device) for text in texts]


def _dtype_of(model: Any) -> torch.dtype:
    dtype: torch.dtype = model.get_input_embeddings().weight.dtype
    return dtype
