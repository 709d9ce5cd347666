# SPDX-License-Identifier: Apache-2.0
"""The one pass over the texts: token-budgeted batches of like lengths in, statistics of every trained token out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.schema import TOKEN_COLUMNS
from reticent.models.context import Positions
from reticent.models.encode import EncodedRecord
from reticent.score.forward import Forward, device_of, most_read, open_forward
from reticent.score.token_stats import as_columns, resolve_impl, token_stats
from reticent.score.windows import windows

Array = npt.NDArray[Any]

TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 16384}
_WINDOW = 4096
"""Window of models that set no limit of their own."""
EVERYWHERE_ALIKE = Positions()
"""Of a model that reads texts of all lengths in one way."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How texts are scored.

    Args:
        max_tokens: cut texts off after so many tokens; None for all of it. Give what the model was trained with.
        window: most tokens that the model reads at a time; longer texts are read in overlapping windows. None for what
            the model allows.
        tokens_per_batch: padded tokens in a batch, the knob for memory; None for 2,048 on a CPU, 16,384 on a GPU.
        impl: ``"auto"``, ``"fused"``, ``"torch"`` or ``"reference"``, see ``score.token_stats``.
    """

    max_tokens: int | None = None
    window: int | None = None
    tokens_per_batch: int | None = None
    impl: str = "auto"

    def __post_init__(self) -> None:
        given = {"max_tokens": self.max_tokens, "window": self.window, "tokens_per_batch": self.tokens_per_batch}
        validate.positive(**{name: value for name, value in given.items() if value is not None})
        if self.window is not None:
            validate.positive(window=self.window - 1)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Choices that the options leave open, made for one model on one machine.

    Args:
        impl: which statistics are used.
        why: they are.
        window: tokens that are read at a time.
        tokens_per_batch: padded tokens in a batch.
    """

    impl: str
    why: str
    window: int
    tokens_per_batch: int

    @property
    def key(self) -> tuple[str, int, int]:
        """The choices that can change the numbers, if only in their last digits."""
        return (self.impl, self.window, self.tokens_per_batch)


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """A model that is ready to score, with every choice made."""

    forward: Forward
    choices: Choices


class Chunk(NamedTuple):
    """A stretch of a text that goes through the model at once.

    ``read`` tokens from ``start`` of text ``row`` are read; ``where`` ``[m]`` are the places among them after which
    the tokens to predict come; their statistics go to ``out`` of the flat token columns.
    """

    row: int
    start: int
    read: int
    where: Array
    out: slice


def choose(model: Any, name: str, options: ScoreOptions) -> Choices:
    """Decide what the options leave open.

    Raises:
        BadInput: ``window`` is more than the model can read, or ``impl`` cannot be had here.
    """
    device = device_of(model)
    impl, reason = resolve_impl(options.impl, device)
    limit = most_read(model)
    if options.window is not None and limit is not None and options.window > limit:
        raise BadInput(f"window={options.window}", f"{name} reads at most {limit} tokens", "Give a smaller window.")
    return Choices(
        impl=impl,
        why=reason,
        window=options.window or limit or _WINDOW,
        tokens_per_batch=options.tokens_per_batch or TOKENS_PER_BATCH.get(device.type, TOKENS_PER_BATCH["cuda"]),
    )


def open_engine(model: Any, name: str, options: ScoreOptions) -> Engine:
    """Decide everything and check the model.

    Raises:
        BadInput: as ``choose``, or the model cannot be scored.
    """
    choices = choose(model, name, options)
    return Engine(forward=open_forward(model, name), choices=choices)


def score(
    engine: Engine, rows: Sequence[EncodedRecord], advance: Callable[[int], None] = lambda texts: None
) -> tuple[dict[str, Array], Array]:
    """Score every trained token that has something before it.

    The batches follow from ``rows`` and the engine alone, so the same call gives the same bytes.

    Args:
        engine: of the model.
        rows: ``N`` texts.
        advance: told how many texts are done, as they are.

    Returns:
        The columns of ``schema.TOKEN_COLUMNS``, each ``[T]``, and ``[N + 1]`` offsets into them. A text without a
        token to predict has none.
    """
    offsets, pieces = plan_pieces(rows, engine.choices.window)
    total = int(offsets[-1])
    columns: dict[str, Array] = {name: np.zeros(total, dtype=column.dtype) for name, column in TOKEN_COLUMNS.items()}
    columns["loss_mask"][:] = True
    left = np.bincount([piece.row for piece in pieces], minlength=len(rows))
    advance(int((left == 0).sum()))
    with torch.inference_mode():
        for batch in batches(pieces, engine.choices.tokens_per_batch, engine.forward.positions):
            _score_batch(engine, rows, batch, columns)
            done = np.bincount([piece.row for piece in batch], minlength=len(rows))
            left -= done
            advance(int(((left == 0) & (done > 0)).sum()))
    return columns, offsets


def plan_pieces(rows: Sequence[EncodedRecord], window: int) -> tuple[Array, list[Chunk]]:
    """``[N + 1]`` offsets of the predicted tokens, and the stretches of text that must be read for them.

    What lies behind the last trained token is not read, and windows without a trained token are left out.
    """
    targets = [np.flatnonzero(row.trained[1:]) + 1 for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(target) for target in targets], dtype=np.int64)])
    pieces: list[Chunk] = []
    for row, target in enumerate(targets):
        for start, first, stop in windows(int(target[-1]) + 1 if len(target) else 0, window):
            low, high = np.searchsorted(target, (first, stop))
            if low < high:
                where = target[low:high] - 1 - start
                out = slice(int(offsets[row] + low), int(offsets[row] + high))
                pieces.append(Chunk(row, start, int(where[-1]) + 1, where, out))
    return offsets, pieces


def batches(pieces: Sequence[Chunk], tokens: int, positions: Positions = EVERYWHERE_ALIKE) -> Iterator[list[Chunk]]:
    """Pieces of like lengths together, longest first, at most ``tokens`` in a batch with its padding (or one piece).

    Those that the model reads in different ways (``positions``) never share a batch.
    """
    batch: list[Chunk] = []
    for piece in sorted(pieces, key=lambda piece: -piece.read):
        if batch:
            full = (len(batch) + 1) * batch[0].read > tokens
            if full or positions.regime(piece.read) != positions.regime(batch[0].read):
                yield batch
                batch = []
        batch.append(piece)
    if batch:
        yield batch


def padded(rows: Sequence[EncodedRecord], batch: Sequence[Chunk]) -> tuple[torch.Tensor, torch.Tensor, Array]:
    """``[B, T]`` ids padded with 0 on the right, ``[M]`` places in ``[B·T]`` to predict from, ``[M]`` gold ids."""
    width = batch[0].read
    token_id = np.zeros((len(batch), width), dtype=np.int64)
    for line, piece in enumerate(batch):
        token_id[line, : piece.read] = rows[piece.row].token_id[piece.start : piece.start + piece.read]
    where = np.concatenate([line * width + piece.where for line, piece in enumerate(batch)])
    gold = np.concatenate([rows[piece.row].token_id[piece.start + piece.where + 1] for piece in batch])
    return torch.from_numpy(token_id), torch.from_numpy(where), gold.astype(np.int64)


def _score_batch(
    engine: Engine, rows: Sequence[EncodedRecord], batch: Sequence[Chunk], columns: dict[str, Array]
) -> None:
    token_id, where, gold = padded(rows, batch)
    out = np.concatenate([np.arange(piece.out.start, piece.out.stop) for piece in batch])
    columns["token_id"][out] = gold
    highest = max(int(token_id.max()), int(gold.max()))
    if highest >= engine.forward.vocabulary:
        raise BadInput(
            f"token {highest}",
            f"is not among the {engine.forward.vocabulary:,} tokens that the model knows",
            "Use the tokenizer that the model was trained with.",
        )
    for some, logits in engine.forward.logits_at(token_id, where):
        stats = as_columns(token_stats(logits, gold[some], impl=engine.choices.impl))
        for name, values in stats.items():
            columns[name][out[some]] = values
