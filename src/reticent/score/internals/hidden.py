# SPDX-License-Identifier: Apache-2.0
"""The effect of a text on the inside of a model: hidden states pooled by layer, and how far tuning moved them.

The forward properties of a white-box auditor. Only the idea (states of the layers of a model under fine-tuning) is
that of Parsing (Sun, Wu, Zhang, arXiv:2411.07070); its own formulas could not be had, so what is computed here is this
project's reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.anatomy import transformer_blocks
from reticent.models.encode import EncodedRecord
from reticent.models.output_layer import hidden_states
from reticent.score.engine import Chunk, Engine, ScoreOptions, batches, open_engine, padded, plan_pieces
from reticent.score.forward import device_of
from reticent.score.token_stats import token_stats

Floats = npt.NDArray[np.float64]
Base = Callable[[], AbstractContextManager[Any]]
"""Gives the base model: itself, or the tuned model with its adapter switched off while the context lasts."""
Pool = Literal["mean", "last"]

_AT_ONCE = 256
"""Records whose states are held at a time, so that memory does not grow with the number of records."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ForwardProperties:
    """Properties of ``N`` records in ``L`` layers, from one pass of each model.

    Args:
        layers: numbers of the blocks, 0 = first.
        norm: ``[N, L]`` length of the pooled state of the tuned model.
        cosine: ``[N, L]`` cosine between the pooled states of the tuned model and the base; None without a base.
        moved: ``[N, L]`` length of the difference between them; None without a base.
        loss: ``[N]`` mean negative log-likelihood of the trained tokens, nats.
        gain: ``[N]`` loss less the base's loss, nats; negative: tuning made the text more likely. None without a base.
        margin_mean, margin_min: ``[N]`` logit of the token that follows less that of the best other token, over the
            trained tokens; positive where it is the model's first choice.
        entropy: ``[N]`` mean entropy of the next-token distribution, nats.
    """

    layers: tuple[int, ...]
    norm: Floats
    cosine: Floats | None
    moved: Floats | None
    loss: Floats
    gain: Floats | None
    margin_mean: Floats
    margin_min: Floats
    entropy: Floats

    def columns(self) -> dict[str, Floats]:
        """Every property as ``[N]`` by name, e.g. ``hidden_cosine.3``."""
        wide = {"hidden_norm": self.norm, "hidden_cosine": self.cosine, "hidden_moved": self.moved}
        long = {"loss": self.loss, "gain": self.gain, "entropy": self.entropy}
        long |= {"margin_mean": self.margin_mean, "margin_min": self.margin_min}
        columns_by_name = {name: value for name, value in long.items() if value is not None}
        for name, matrix in wide.items():
            if matrix is not None:
                columns_by_name |= {f"{name}.{layer}": matrix[:, place] for place, layer in enumerate(self.layers)}
        return columns_by_name


def pooled(
    model: Any,
    rows: Sequence[EncodedRecord],
    layers: Sequence[int] | None = None,
    *,
    pool: Pool = "mean",
    name: str = "the model",
    options: ScoreOptions | None = None,
) -> npt.NDArray[np.float32]:
    """Hidden states of the trained tokens, pooled over the text.

    The state of a token is what a block gives at its place, so the token itself has been read. Only tokens with
    something before them count, as in token tables. The output layer is not run.

    Args:
        model: a causal language model in evaluation mode, as it answers now.
        rows: ``N`` encoded records.
        layers: numbers of blocks, 0 = first, negative from the end; None for all.
        pool: ``"mean"`` over the trained tokens, or the ``"last"`` of them.
        name: of the model, for messages.
        options: window and tokens in a batch; ``max_tokens`` belongs to the encoding and is not read here.

    Returns:
        ``[N, L, D]`` float32, in the order of ``layers``.

    Raises:
        BadInput: a layer that is not there, or a record without a trained token that has something before it.
    """
    validate.one_of(("mean", "last"), pool=pool)
    chosen = _layers(model, layers)
    engine = open_engine(model, name, options or ScoreOptions())
    _, pieces = _plan(rows, engine)
    return _read(engine, rows, pieces, chosen, pool=pool, told=None)


def forward_properties(
    model: Any,
    rows: Sequence[EncodedRecord],
    *,
    base: Base | None = None,
    name: str = "the model",
    options: ScoreOptions | None = None,
    advance: Callable[[int], None] = lambda texts: None,
) -> ForwardProperties:
    """Pooled states beside the base's, and loss, margin and entropy of the trained tokens: one pass of each model.

    Args:
        model: the tuned model in evaluation mode.
        rows: ``N`` encoded records.
        base: see ``Base``; None where there is none, which leaves out what compares with it.
        name: of the model, for messages.
        options: as in ``pooled``.
        advance: told how many texts are done, as they are.

    Raises:
        BadInput: a model cannot be scored, or a record has no trained token that has something before it.
    """
    options = options or ScoreOptions()
    layers = _layers(model, None)
    engine = open_engine(model, name, options)
    engine_of_base = None
    if base is not None:
        with base() as beneath:
            engine_of_base = open_engine(beneath, f"the base of {name}", options)
    offsets, _ = _plan(rows, engine)
    told = _TrainedTokens.of(int(offsets[-1]))
    told_base = _TrainedTokens.of(int(offsets[-1]))
    count = len(rows)
    norm, cosine, moved = (np.zeros((count, len(layers))) for _ in range(3))
    for some in lots_at_once(rows):
        part = [rows[index] for index in some]
        places = np.concatenate([np.arange(offsets[index], offsets[index + 1]) for index in some])
        mine = _states(engine, part, layers, told, places)
        norm[some] = np.linalg.norm(mine, axis=2)
        if base is not None and engine_of_base is not None:
            with base():
                theirs = _states(engine_of_base, part, layers, told_base, places)
            moved[some] = np.linalg.norm(mine - theirs, axis=2)
            cosine[some] = _cosine(mine, theirs)
        advance(len(some))
    loss = -_means(told.logp, offsets)
    return ForwardProperties(
        layers=layers,
        norm=norm,
        cosine=cosine if base is not None else None,
        moved=moved if base is not None else None,
        loss=loss,
        gain=loss + _means(told_base.logp, offsets) if base is not None else None,
        margin_mean=_means(told.margin, offsets),
        margin_min=np.minimum.reduceat(told.margin, offsets[:-1]) if count else np.zeros(0),
        entropy=_means(told.entropy, offsets),
    )


def lots_at_once(rows: Sequence[EncodedRecord]) -> list[npt.NDArray[np.int64]]:
    """Numbers of the rows that are read together (one lot at least): `forward_properties` of a lot, in its order, are
    those of all rows to the last bit. Like lengths are together, so that little is padded."""
    order = np.argsort(np.array([-len(row) for row in rows], dtype=np.int64), kind="stable")
    return [order[start : start + _AT_ONCE] for start in range(0, max(1, len(rows)), _AT_ONCE)]


# ---- one pass -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _TrainedTokens:
    """``[T]`` of every trained token: log p, margin and entropy."""

    logp: Floats
    margin: Floats
    entropy: Floats

    @classmethod
    def of(cls, tokens: int) -> _TrainedTokens:
        return cls(logp=np.zeros(tokens), margin=np.zeros(tokens), entropy=np.zeros(tokens))


def _states(
    engine: Engine, rows: Sequence[EncodedRecord], layers: Sequence[int], told: _TrainedTokens, places: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """Pooled states of some records; what the tokens tell goes to ``places`` of ``told``."""
    offsets, pieces = _plan(rows, engine)
    part = _TrainedTokens.of(int(offsets[-1]))
    states = _read(engine, rows, pieces, layers, pool="mean", told=part)
    told.logp[places], told.margin[places], told.entropy[places] = part.logp, part.margin, part.entropy
    return states


def _plan(rows: Sequence[EncodedRecord], engine: Engine) -> tuple[npt.NDArray[Any], list[Chunk]]:
    """As the engine's, but each stretch is read up to its last trained token itself, not up to what predicts it."""
    offsets, pieces = plan_pieces(rows, max(2, engine.choices.window - 1))
    empty = np.flatnonzero(np.diff(offsets) == 0)
    if len(empty):
        raise BadInput(
            f"record number {empty[0]} ({len(empty)} of {len(rows)})",
            "has no trained token with something before it, so it has no states to pool",
            "Leave such records out.",
        )
    return offsets, [piece._replace(read=piece.read + 1) for piece in pieces]


def _read(
    engine: Engine,
    rows: Sequence[EncodedRecord],
    pieces: Sequence[Chunk],
    layers: Sequence[int],
    *,
    pool: Pool,
    told: _TrainedTokens | None,
) -> npt.NDArray[np.float32]:
    """``[N, L, D]``, and the statistics of the trained tokens where ``told`` takes them."""
    model = engine.forward.model
    device = device_of(model)
    final = {}
    for piece in pieces:  # the last stretch of each text; stretches come in reading order
        final[piece.row] = piece.out.stop
    caught: dict[int, torch.Tensor] = {}
    states: torch.Tensor | None = None
    count = torch.zeros(len(rows), device=device)
    with torch.inference_mode(), _listening(model, layers, caught):
        for batch in batches(pieces, engine.choices.tokens_per_batch, engine.forward.positions):
            token_id, where, gold = padded(rows, batch)
            position = where.to(device) + 1
            owner = torch.cat([torch.full((len(piece.where),), piece.row) for piece in batch]).to(device)
            if told is None:
                _run_body(engine, token_id.to(device))
            else:
                _run_whole(engine, token_id, where, gold, batch, told)
            if pool == "last":
                last = _last(batch, final).to(device)
                position, owner = position[last], owner[last]
            for place, layer in enumerate(layers):
                given = caught[layer][:, -token_id.shape[1] :].flatten(0, 1)[position].float()
                if states is None:
                    states = torch.zeros(len(rows), len(layers), given.shape[-1], device=device)
                states[:, place].index_add_(0, owner, given)
            count.index_add_(0, owner, torch.ones(len(owner), device=device))
            caught.clear()
    if states is None:
        return np.zeros((0, len(layers), 0), dtype=np.float32)
    means: npt.NDArray[np.float32] = (states / count[:, None, None]).cpu().numpy()
    return means


def _run_body(engine: Engine, token_id: torch.Tensor) -> None:
    """Run the model for its states alone."""
    head = engine.forward.head
    with engine.forward.attention(token_id.shape[1]):
        if head is None:
            engine.forward.model(input_ids=token_id, use_cache=False)
        else:
            hidden_states(engine.forward.model, head.module, token_id)


def _run_whole(
    engine: Engine,
    token_id: torch.Tensor,
    where: torch.Tensor,
    gold: npt.NDArray[np.int64],
    batch: Sequence[Chunk],
    told: _TrainedTokens,
) -> None:
    """Run the model and keep what the trained tokens tell."""
    out = np.concatenate([np.arange(piece.out.start, piece.out.stop) for piece in batch])
    for some, logits in engine.forward.logits_at(token_id, where):
        stats = token_stats(logits, gold[some], impl=engine.choices.impl)
        told.logp[out[some]], told.entropy[out[some]] = stats.logp, -stats.mu
        target = torch.as_tensor(gold[some], device=logits.device)[:, None]
        gold_logit = logits.gather(1, target)[:, 0].float()
        others = logits.scatter_(1, target, -torch.inf).amax(1)  # the chunk is ours until the next one
        told.margin[out[some]] = (gold_logit - others.float()).cpu().numpy()


@contextmanager
def _listening(model: Any, layers: Sequence[int], caught: dict[int, torch.Tensor]) -> Iterator[None]:
    """Within it, what the chosen blocks give goes to ``caught``."""

    def catch(layer: int, module: nn.Module, args: Any, output: Any) -> None:
        caught[layer] = output[0] if isinstance(output, tuple) else output

    blocks = transformer_blocks(model)
    handles = [blocks[layer].register_forward_hook(partial(catch, layer)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(model: Any, layers: Sequence[int] | None) -> tuple[int, ...]:
    count = len(transformer_blocks(model))
    if layers is None:
        return tuple(range(count))
    wrong = [layer for layer in layers if not -count <= layer < count]
    if wrong or not layers:
        raise BadInput(f"layers={list(layers)}", f"the model has {count} blocks", f"Use 0 to {count - 1}.")
    return tuple(layer % count for layer in layers)


def _last(batch: Sequence[Chunk], final: dict[int, int]) -> torch.Tensor:
    """True at a batch's trained tokens that are the last of their text."""
    places = np.cumsum([len(piece.where) for piece in batch]) - 1
    return torch.from_numpy(places[[piece.out.stop == final[piece.row] for piece in batch]])


def _cosine(states: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> Floats:
    lengths = np.linalg.norm(states, axis=2) * np.linalg.norm(other, axis=2)
    product = np.einsum("nld,nld->nl", states, other, dtype=np.float64)
    return np.asarray(product / np.maximum(lengths, 1e-30))


def _means(tokens: Floats, offsets: npt.NDArray[Any]) -> Floats:
    if len(offsets) < 2:
        return np.zeros(0)
    return np.asarray(np.add.reduceat(tokens, offsets[:-1]) / np.diff(offsets))
