# SPDX-License-Identifier: Apache-2.0
"""Texts by private prediction: token after token, one batched pass for all references of all texts of a step.

`write_naively` does the same in the obvious way: one reference at a time, no cache, numbers in lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.privacy.sampling import words
from reticent.score.forward import device_of
from reticent.score.generation.generate import Decoder
from reticent.synthesis.clipped_prediction import candidates, choose, choose_naively, contributions, scores_of
from reticent.synthesis.prediction_check import PredictionWatch

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """Numbers of private prediction.

    Args:
        clip: C, in nats.
        references: B, that sums are divided by.
        temperature: τ.
        tokens: the most of a text.
        top_k: of the public logits, before it is extended.
        ends: token ids that end a text.
        key: 32 secret bytes, by which tokens are chosen.
    """

    clip: float
    references: int
    temperature: float
    tokens: int
    top_k: int
    ends: frozenset[int]
    key: bytes = field(repr=False)

    def score(self, public: torch.Tensor, private: torch.Tensor, owner: torch.Tensor, units: int) -> torch.Tensor:
        """``[V]`` scores of one token; see `contributions`."""
        clipped = contributions(public, private, owner, units=units, clip=self.clip)
        return scores_of(public, clipped, references=self.references)

    def beginning(self, public: torch.Tensor) -> torch.Tensor:
        """``[V]`` public logits for a first token: no text ends before it began, whatever its references say, so this
        tells nothing of them."""
        ends = [end for end in self.ends if end < len(public)]
        return public.index_fill(0, torch.tensor(ends, dtype=torch.long, device=public.device), -torch.inf)

    def chance(self, text: int, position: int) -> float:
        """The secret uniform number in [0, 1) that a token is chosen by."""
        return int(words(self.key, "token of", text, position, count=1)[0] >> np.uint64(11)) * 2.0**-53


@dataclass(kw_only=True, eq=False)
class PendingText:
    """One text that is being written.

    Args:
        number: of the text, from 0.
        words: public, before it.
        public: token ids of the prompt without a private text.
        private: token ids of the prompt with each private record.
        owner: for each of these the number of its unit among those behind this text.
        units: how many stand behind it.
    """

    number: int
    words: str
    public: Tokens
    private: tuple[Tokens, ...] = field(repr=False)
    owner: tuple[int, ...]
    units: int
    token_id: list[int] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Of the batch: the public one first."""
        return 1 + len(self.private)


def write_texts(
    decoder: Decoder, texts: Sequence[PendingText], settings: PredictionSettings, watch: PredictionWatch
) -> None:
    """Write all ``texts`` to their ends, into their ``token_id``.

    Args:
        decoder: of the public model.
        texts: begun, none written.
        settings: numbers.
        watch: looks at every token.

    Raises:
        GuaranteeViolated: a check failed.
        BadInput: logits that are not numbers.
    """
    with torch.inference_mode():
        watch.probe(settings.score)
        logits = decoder.read([prompt for text in texts for prompt in (text.public, *text.private)])
        _look(texts, logits, settings, watch)
        alive = list(texts)
        while alive:
            going: list[PendingText] = []
            rows: list[int] = []
            drawn: list[int] = []
            start = 0
            for text in alive:
                token = _next(text, logits[start : start + text.rows], settings, watch)
                if token not in settings.ends:
                    text.token_id.append(token)
                    if len(text.token_id) < settings.tokens:
                        going.append(text)
                        rows += range(start, start + text.rows)
                        drawn += [token] * text.rows
                start += text.rows
            if len(going) < len(alive):
                decoder.narrow(torch.tensor(rows, dtype=torch.long, device=logits.device))
            alive = going
            if alive:
                logits = decoder.add(torch.tensor(drawn, dtype=torch.long, device=logits.device))


def _next(text: PendingText, logits: torch.Tensor, settings: PredictionSettings, watch: PredictionWatch) -> int:
    """The next token of one text, out of the logits ``[rows, V]`` of its public prompt and its references."""
    public, private = logits[0], logits[1:]
    owner = torch.tensor(text.owner, dtype=torch.long, device=logits.device)
    position = len(text.token_id)
    scores = settings.score(public, private, owner, text.units)
    eligible = public if position else settings.beginning(public)
    allowed = candidates(eligible, top_k=settings.top_k, clip=settings.clip)
    chance = settings.chance(text.number, position)
    token = choose(scores, allowed, temperature=settings.temperature, chance=chance)
    watch.choice(position, token, eligible)
    return token


def _look(
    texts: Sequence[PendingText], logits: torch.Tensor, settings: PredictionSettings, watch: PredictionWatch
) -> None:
    """Check the first token of each text."""
    start = 0
    for text in texts:
        rows = logits[start : start + text.rows]
        owner = torch.tensor(text.owner, dtype=torch.long, device=logits.device)
        watch.sensitivity(settings.score, rows[0], rows[1:], owner)
        watch.public(text.words, rows[0])
        start += text.rows


def logits_after(model: Any, prompt: Sequence[int] | Tokens) -> torch.Tensor:
    """``[V]`` logits after one prompt, by the model itself."""
    token_id = torch.as_tensor(np.asarray(prompt, dtype=np.int64)[None], device=device_of(model))
    logits: torch.Tensor = model(input_ids=token_id, use_cache=False).logits[0, -1]
    return logits


def write_naively(
    model: Any, text: PendingText, settings: PredictionSettings, chance: Callable[[int, int], float] | None = None
) -> list[int]:
    """The slow, obvious way, for one text: each prompt is read alone and from its beginning for every token.

    Args:
        model: in evaluation mode.
        text: begun; it is not written into.
        settings: numbers.
        chance: (text, position) → the uniform number; None for that of the settings.
    """
    chance = chance or settings.chance
    written: list[int] = []
    with torch.inference_mode():
        while len(written) < settings.tokens:
            public = logits_after(model, [*text.public, *written])
            eligible = (public if written else settings.beginning(public)).tolist()
            private: list[list[list[float]]] = [[] for _ in range(text.units)]
            for prompt, unit in zip(text.private, text.owner, strict=True):
                private[unit].append(logits_after(model, [*prompt, *written]).tolist())
            token = choose_naively(
                eligible,
                private,
                clip=settings.clip,
                references=settings.references,
                top_k=settings.top_k,
                temperature=settings.temperature,
                chance=chance(text.number, len(written)),
            )
            if token in settings.ends:
                break
            written.append(token)
    return written
