# SPDX-License-Identifier: Apache-2.0
"""Update inversion on a replayed round: from one client's update to the tokens of its texts, and to their openings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.attacks.federated.inversion_measures import best_tokens
from reticent.attacks.federated.moved_rows import moved_rows
from reticent.attacks.federated.token_order import (
    BeamSettings,
    PrefixReader,
    Sentence,
    ordered_sentences,
)
from reticent.attacks.federated.update_span import row_span, seen_through, span_distances, span_energy
from reticent.auditing.updates.replayed_rounds import Arrays
from reticent.score.forward import device_of

Floats = npt.NDArray[np.float64]
OPENING = 12
"""Tokens of a text's beginning that are put in order."""
BEAM = BeamSettings(width=4, tried=8)
_CHUNK = 4096
"""Tokens of the vocabulary at a time."""
_A, _B = ".lora_A.", ".lora_B."


@dataclass(frozen=True, kw_only=True)
class AdaptedMatrix:
    """A matrix with LoRA on it: its name, and those of its factors."""

    name: str
    a: str
    b: str


class TokenAttack:
    """The attack on one model. Its weights may change between calls; which layers read single tokens does not.

    Args:
        model: a replayed one, in evaluation mode.
        trained: names of the arrays that travel.
        exact: whether updates are one step of plain SGD, whose rows lie in the span of the inputs; otherwise strong
            directions count for more than weak ones.
    """

    def __init__(self, model: Any, trained: Sequence[str], *, exact: bool) -> None:
        self.model, self.exact = model, exact
        self.vocabulary = int(model.get_input_embeddings().weight.shape[0])
        parameters = dict(model.named_parameters())
        table = model.get_input_embeddings().weight
        self.table = next((name for name in trained if parameters.get(name) is table), None)
        self.first = _first_layer(model, _adapted(trained))

    @property
    def can(self) -> bool:
        """True where the update of something that is trained tells tokens."""
        return self.table is not None or bool(self.first)

    def scores(self, start: Arrays, update: Arrays) -> Floats | None:
        """``[V]``, higher = more likely in the client's texts; None where the update says nothing of tokens.

        Args:
            start: the arrays that the round began with; they are in the model.
            update: of the client.
        """
        if self.table is not None:
            return moved_rows(update[self.table], start[self.table])
        firsts = [update[matrix.a] for matrix in self.first if matrix.a in update and update[matrix.a].any()]
        if firsts:
            span = row_span(firsts)
            near = self.exact and len(span.directions) < firsts[0].shape[1]
            return np.concatenate(
                [-span_distances(part, span) if near else span_energy(part, span) for part in self._read_alone()]
            )
        return self._through_second(start, update)

    def openings(self, scores: Floats, count: int, start: tuple[int, ...], update: Arrays) -> tuple[Sentence, ...]:
        """Guesses at how the client's texts begin.

        Args:
            scores: of the tokens.
            count: of different tokens in the texts, which the attacker is taken to know.
            start: tokens that every text begins with.
            update: of the client.
        """
        tokens = best_tokens(scores, count)
        return ordered_sentences(tokens, self._reader(update), length=OPENING, start=start, settings=BEAM)

    def _through_second(self, start: Arrays, update: Arrays) -> Floats | None:
        """By what moved in B, as it is where A did not move: it reads tokens through A."""
        seconds = [matrix for matrix in self.first if matrix.b in update and update[matrix.b].any()]
        if not seconds:
            return None
        parameters = dict(self.model.named_parameters())
        through = [
            (start[matrix.a] if matrix.a in start else parameters[matrix.a].detach().cpu().numpy(), update[matrix.b])
            for matrix in seconds
        ]
        spans = [(a, row_span([change])) for a, change in through]
        parts = []
        for vectors in self._read_alone():
            by_matrix = [
                -span_distances(seen_through(vectors, a), span)
                if self.exact and len(span.directions) < len(a)
                else span_energy(seen_through(vectors, a), span)
                for a, span in spans
            ]
            parts.append(np.mean(by_matrix, axis=0))
        return np.concatenate(parts)

    def _read_alone(self) -> Iterator[Floats]:
        """``[some of V, D]``: what the first layer reads of each token by itself."""
        for begin in range(0, self.vocabulary, _CHUNK):
            tokens = torch.arange(begin, min(begin + _CHUNK, self.vocabulary))[:, None]
            yield _inputs(self.model, [self.first[0].name], tokens, stop=True)[0][1][:, 0]

    def _reader(self, update: Arrays) -> PrefixReader:
        """Reads beginnings by the model, and how far their last token is from the span of the second layer."""
        deeper = [matrix for matrix in _next_layer(self.first) if matrix.a in update and update[matrix.a].any()]
        span = row_span([update[matrix.a] for matrix in deeper]) if deeper else None

        @torch.no_grad()
        def logp(prefixes: npt.NDArray[np.int64]) -> Floats:
            ids = torch.from_numpy(prefixes).to(device_of(self.model))
            logits = self.model(input_ids=ids, use_cache=False).logits[:, -1].float()
            return np.asarray(logits.log_softmax(-1).double().cpu().numpy())

        if span is None or len(span.directions) == span.directions.shape[1]:
            return PrefixReader(logp=logp)

        def distance(prefixes: npt.NDArray[np.int64]) -> Floats:
            read = _inputs(self.model, [deeper[0].name], torch.from_numpy(prefixes), stop=True)
            return span_distances(read[0][1][:, -1], span)

        return PrefixReader(logp=logp, distance=distance)


def _adapted(trained: Sequence[str]) -> list[AdaptedMatrix]:
    """All matrices with a factor among the trained arrays."""
    matrices: dict[str, AdaptedMatrix] = {}
    for name in trained:
        for mark in (_A, _B):
            if mark in name:
                matrix, rest = name.split(mark)
                matrices[matrix] = AdaptedMatrix(name=matrix, a=f"{matrix}{_A}{rest}", b=f"{matrix}{_B}{rest}")
    return list(matrices.values())


def _first_layer(model: Any, matrices: Sequence[AdaptedMatrix]) -> list[AdaptedMatrix]:
    """The matrices that read each token by itself: what comes before a token does not change their input.

    Positions that are added to the embedding change it; then what is read is a token in the first place.
    """
    if not matrices:
        return []
    ids = torch.tensor([[3, 5], [4, 5]]) % int(model.get_input_embeddings().weight.shape[0])
    inputs = _inputs(model, [matrix.name for matrix in matrices], ids, stop=False)
    if not inputs:
        return []
    first = inputs[0][1]
    if first.ndim != 3 or not np.allclose(first[0, -1], first[1, -1], atol=1e-6):
        return []
    alike = {name for name, x in inputs if x.shape == first.shape and np.allclose(x, first, atol=1e-6)}
    return [matrix for matrix in matrices if matrix.name in alike]


def _next_layer(matrices: Sequence[AdaptedMatrix]) -> list[AdaptedMatrix]:
    """The same matrices of the layer behind."""
    return [
        AdaptedMatrix(**{part: getattr(matrix, part).replace(".0.", ".1.", 1) for part in ("name", "a", "b")})
        for matrix in matrices
    ]


class _Enough(Exception):
    """The model need not be run any further."""


Caught = list[tuple[str, Floats]]
"""Names of modules with their inputs ``[B, T, D]``, in the order in which they are called."""


@torch.no_grad()
def _inputs(model: Any, names: Sequence[str], ids: torch.Tensor, *, stop: bool) -> Caught:
    """The inputs of some modules while the model runs.

    Args:
        stop: leave the model at the first.
    """
    caught: Caught = []

    def catcher(name: str) -> Callable[..., None]:
        def catch(_: Any, args: tuple[torch.Tensor, ...]) -> None:
            caught.append((name, args[0].detach().double().cpu().numpy()))
            if stop:
                raise _Enough

        return catch

    handles = [model.get_submodule(name).register_forward_pre_hook(catcher(name)) for name in names]
    try:
        with suppress(_Enough):
            model(input_ids=ids.to(device_of(model)), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return caught
