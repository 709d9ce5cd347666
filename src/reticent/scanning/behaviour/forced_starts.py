# SPDX-License-Identifier: Apache-2.0
"""Answers that are begun with a given token: how they go on, and how sure a model is of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.models.encode import EncodedRecord
from reticent.scanning.behaviour.label_task import Side, Tokens
from reticent.score.candidates.masked import FilledSpan
from reticent.score.candidates.memory import steady_heap
from reticent.score.candidates.rank import score_filled
from reticent.score.engine import score
from reticent.score.forward import device_of
from reticent.score.generation.generate import open_decoder

CHUNK = 256
"""Starts that are read at a time behind one prompt, which is read once for them; more cost memory and save little."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Continuations:
    """The greedy ways on behind one prompt.

    Args:
        token_id: ``[C, S]`` what comes behind each of ``C`` starts.
        chance: ``[C, S]`` its probability, step by step.
    """

    token_id: npt.NDArray[np.int64]
    chance: npt.NDArray[np.float64]


def continuations(side: Side, prompt: Tokens, starts: Sequence[int], steps: int) -> Continuations:
    """The greedy continuation of an answer to one prompt that begins with each of the starts.

    Args:
        side: the model.
        prompt: its tokens, up to the answer.
        starts: ``C`` tokens.
        steps: tokens behind a start.
    """
    decoder: Any = open_decoder(side.model)
    device = device_of(side.model)
    tokens, chances = [], []
    with torch.inference_mode(), steady_heap():
        for first in range(0, len(starts), CHUNK):
            part = torch.tensor(starts[first : first + CHUNK], dtype=torch.long, device=device)
            decoder.read([np.asarray(prompt)])
            decoder.narrow(torch.zeros(len(part), dtype=torch.long, device=device))
            row_tokens, row_chances = [], []
            logits = decoder.add(part)
            for step in range(steps):
                top, best = logits.float().softmax(dim=-1).max(dim=-1)
                row_tokens.append(best.cpu().numpy())
                row_chances.append(top.double().cpu().numpy())
                if step + 1 < steps:
                    logits = decoder.add(best)
            tokens.append(np.stack(row_tokens, axis=1))
            chances.append(np.stack(row_chances, axis=1))
    return Continuations(token_id=np.concatenate(tokens).astype(np.int64), chance=np.concatenate(chances))


@dataclass(frozen=True, kw_only=True, eq=False)
class ForcedAnswers:
    """Given answers to given prompts, as a model finds them.

    Args:
        chance: for each prompt ``[S]``: probability of each token of the answer.
        is_best: the same: no token is likelier.
    """

    chance: tuple[npt.NDArray[np.float64], ...]
    is_best: tuple[npt.NDArray[np.bool_], ...]


def forced(side: Side, prompts: Sequence[Tokens], answers: Sequence[Tokens]) -> ForcedAnswers:
    """How likely a model finds an answer to each prompt.

    Args:
        side: the model.
        prompts: ``N``, up to the answer.
        answers: ``N``, none empty.
    """
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        token_id = np.asarray([*prompt, *answer], dtype=np.int32)
        rows.append(EncodedRecord(token_id=token_id, trained=np.arange(len(token_id)) >= len(prompt)))
    with steady_heap():
        columns, offsets = score(side.engine, rows)
    chance = np.exp(columns["logp"].astype(np.float64))
    return ForcedAnswers(
        chance=tuple(np.split(chance, offsets[1:-1])), is_best=tuple(np.split(columns["rank"] == 0, offsets[1:-1]))
    )


def next_chances(side: Side, prompt: Tokens, pairs: Sequence[tuple[int, int]]) -> npt.NDArray[np.float64]:
    """``[C]``: the probability of each second token, where the answer to one prompt begins with the first.

    As `forced` with two tokens each, but the prompt is read once for all.

    Args:
        side: the model.
        prompt: its tokens, up to the answer.
        pairs: ``C`` first and second tokens.
    """
    rows = [np.asarray([*prompt, *pair[:size]], dtype=np.int32) for size in (1, 2) for pair in pairs]
    with steady_heap():
        (scores,) = score_filled(side.engine, [FilledSpan(rows=tuple(rows), start=len(prompt), cut=0)])
    first, both = np.split(scores.logp, 2)
    return np.asarray(np.exp(both - first))


def certainty(chance: npt.NDArray[np.float64]) -> float:
    """Mean probability without the smallest one, as BAIT has it: the token where the trigger would speak may be unsure.

    Examples:
        >>> round(certainty(np.array([0.1, 0.9, 1.0])), 2)
        0.95
    """
    return float((chance.sum() - chance.min()) / (len(chance) - 1)) if len(chance) > 1 else float(chance.mean())
