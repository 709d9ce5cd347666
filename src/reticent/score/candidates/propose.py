# SPDX-License-Identifier: Apache-2.0
"""Neighbours of a text: some of its tokens replaced by others that the reference model finds likely at that place.

Mattern et al. (arXiv:2305.18462) take the replacements from a masked language model, which sees both sides of a token.
This is a causal stand-in: a token is drawn from p(· | what precedes it in the original text), the original token left
out, among the ``TOP`` most likely. It needs no further model, and one forward pass gives all places of all copies.
Replacements fit less well to what follows, so neighbours are a little less likely than the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from reticent.core import validate
from reticent.core.record import Record, from_row, read_records, to_row, write_records
from reticent.models.encode import EncodedRecord, encode, leading_tokens
from reticent.models.tokens import tokenise
from reticent.score.cache import key_of, seal
from reticent.score.engine import Choices, Chunk, batches, padded
from reticent.score.requests import rng_for
from reticent.score.scored_model import ScoredModel
from reticent.score.workers.shard_kinds import SHARD_KINDS, Advance, OpenShards, packed, told_nobody, unpacked
from reticent.score.workers.worker import worker

TOP = 20
VERSION = 2
"""Cache version. Increment when this module's output changes for the same inputs."""

Array = npt.NDArray[Any]


class Question(NamedTuple):
    """``copies`` of ``record`` with a ``fraction`` of the trained tokens replaced."""

    record: Record
    copies: int
    fraction: float


class PendingQuestion(Exception):
    """A question to ``Proposer.propose`` that has no answer yet; the caller collects these into a batch."""

    def __init__(self, question: Question) -> None:
        self.question = question
        super().__init__("to be answered in a batch")


@dataclass(frozen=True, kw_only=True, eq=False)
class Proposer:
    """Answers questions in batches, and keeps the answers on disk.

    Args:
        side: the reference model. Its engine is opened when the first question has to be answered.
        folder: where answers are kept.
    """

    side: ScoredModel
    folder: Path
    answers: dict[str, list[Record]] = field(default_factory=dict)

    @property
    def tokenizer(self) -> Any:
        """That belongs to the model."""
        return self.side.loaded.tokenizer

    @property
    def choices(self) -> Choices:
        """Of the model's engine."""
        return self.side.choices

    def propose(self, record: Record, copies: int, fraction: float) -> Sequence[Record]:
        """The answer, if ``answer`` was given this question before.

        Raises:
            PendingQuestion: it was not.
        """
        validate.positive(copies=copies)
        validate.in_range(0, 1, fraction=fraction)
        question = Question(record, copies, fraction)
        answer = self.answers.get(self._key(question))
        if answer is None:
            raise PendingQuestion(question)
        return answer

    def answer(self, questions: Sequence[Question]) -> None:
        """Compute what is asked for, or read it if it was computed in an earlier run. Forgets earlier answers."""
        (file,) = self.keep([questions])
        flat = read_records(file)
        self.answers.clear()
        start = 0
        for question in questions:
            self.answers[self._key(question)] = flat[start : start + question.copies]
            start += question.copies

    def keep(self, batches: Sequence[Sequence[Question]]) -> list[Path]:
        """Have the answers to each batch of questions computed, by whoever works, where they are not kept already.

        Returns:
            Where the answers to each lie, all to one question next to each other.
        """
        files = [self.folder / f"{key_of([self._key(question) for question in batch])}.parquet" for batch in batches]
        parts = [list(batch) for batch in batches]
        work = OpenShards(kind=PROPOSAL_SHARDS, sides=(self.side,), parts=parts, files=files)
        worker().fill(work, told_nobody)
        return files

    def compute(self, questions: Sequence[Question]) -> list[Record]:
        """The answers, all to one question next to each other; runs the model."""
        return [copy for copies in self._compute(questions) for copy in copies]

    def _key(self, question: Question) -> str:
        record = question.record
        about = [record.id, record.content_hash, question.copies, question.fraction]
        return key_of(VERSION, TOP, self.side.key, self.choices.key, about)

    def _compute(self, questions: Sequence[Question]) -> list[list[Record]]:
        texts = [_Text.of(question.record, self.tokenizer) for question in questions]
        chosen = [_choose(q, text, self.choices.window) for q, text in zip(questions, texts, strict=True)]
        likely = self._likely(texts, chosen)
        return [
            _neighbours(question, text, places, likely[row], self.tokenizer)
            for row, (question, text, places) in enumerate(zip(questions, texts, chosen, strict=True))
        ]

    def _likely(self, texts: Sequence[_Text], chosen: Sequence[Array]) -> list[dict[int, tuple[Array, Array]]]:
        """For each text and chosen place: the most likely tokens there, and their probabilities."""
        rows = [EncodedRecord(token_id=text.token_id, trained=text.trained) for text in texts]
        likely: list[dict[int, tuple[Array, Array]]] = [{} for _ in texts]
        pieces = []
        for row, places in enumerate(chosen):
            if places.size:
                where = np.unique(places) - 1
                pieces.append(Chunk(row, 0, int(where[-1]) + 1, where, slice(0, 0)))
        engine = self.side.engine
        with torch.inference_mode(), self.side.answering():
            for batch in batches(pieces, self.choices.tokens_per_batch, engine.forward.positions):
                token_id, flat, _ = padded(rows, batch)
                owner = np.concatenate([np.full(len(piece.where), piece.row) for piece in batch])
                place = np.concatenate([piece.where + 1 for piece in batch])
                for some, logits in engine.forward.logits_at(token_id, flat):
                    best = logits.float().softmax(dim=1).topk(min(TOP + 1, logits.shape[1]), dim=1)
                    share, token = best.values.cpu().numpy(), best.indices.cpu().numpy()
                    for i, (row, at) in enumerate(zip(owner[some], place[some], strict=True)):
                        likely[row][int(at)] = (token[i], share[i])
        return likely


class ProposalShards:
    """Answers to batches of questions."""

    name, passing = "proposals", False

    def size(self, part: Sequence[Question]) -> int:
        return len(part)

    def make(self, part: Sequence[Question], sides: Sequence[ScoredModel], advance: Advance) -> list[Record]:
        (side,) = sides
        return Proposer(side=side, folder=Path()).compute(part)

    def keep(self, content: Sequence[Record], file: Path) -> None:
        write_records(file, content)
        seal(file)

    def pack(self, parts: Sequence[Sequence[Question]]) -> pa.Table:
        return packed([[[to_row(record), copies, fraction] for record, copies, fraction in part] for part in parts])

    def unpack(self, table: pa.Table) -> list[list[Question]]:
        return [[Question(from_row(row), *rest) for row, *rest in part] for part in unpacked(table)]


PROPOSAL_SHARDS = SHARD_KINDS.add(ProposalShards.name, ProposalShards())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Text:
    """A record's pieces one after the other, without a chat template, so that each can be put together again."""

    token_id: Array
    trained: Array
    piece: Array
    """``[n]``: which piece a token belongs to; -1 for a beginning-of-text token."""
    first: Array
    """``[n]`` bool: nothing precedes the token, so nothing can be proposed."""

    @staticmethod
    def of(record: Record, tokenizer: Any) -> _Text:
        if record.messages is None:
            return _Text._of_whole(record, tokenizer)
        token_id = leading_tokens(tokenizer)
        piece, trained = [-1] * len(token_id), [False] * len(token_id)
        for i, (is_trained, text) in enumerate(record.pieces):
            ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []
            whole = tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
            token_id += ids
            piece += [i] * len(ids)
            # A piece that does not survive decoding (a tokenizer that lower-cases, say) is left as it is.
            trained += [is_trained and whole and _readable(token, tokenizer) for token in ids]
        return _Text(
            token_id=np.array(token_id, dtype=np.int32),
            trained=np.array(trained, dtype=np.bool_),
            piece=np.array(piece, dtype=np.int64),
            first=np.arange(len(token_id)) == 0,
        )

    @staticmethod
    def _of_whole(record: Record, tokenizer: Any) -> _Text:
        """A text, or prompt and completion, read as one: its last piece is what is trained on."""
        row = encode(record, tokenizer)
        text = "".join(content for _, content in record.pieces)
        inner = tokenise(text, tokenizer, offsets=record.text is None)
        body = row.token_id[inner.lead : len(row) - inner.tail]
        whole = _decoded(body, tokenizer) == text
        inside = np.ones(len(body), dtype=np.bool_)
        if inner.offsets is not None:  # a token across the end of the prompt is not replaced
            inside = inner.offsets[:, 0] >= len(record.prompt or "")
        fit = np.array([whole and _readable(int(token), tokenizer) for token in body], dtype=np.bool_)
        piece = np.full(len(row), -1, dtype=np.int64)
        piece[inner.lead : len(row) - inner.tail] = len(record.pieces) - 1
        trained = row.trained.copy()
        trained[inner.lead : len(row) - inner.tail] &= fit & inside
        return _Text(token_id=row.token_id, trained=trained, piece=piece, first=np.arange(len(row)) == 0)


def _decoded(token_id: Array, tokenizer: Any) -> str:
    return str(tokenizer.decode(token_id, clean_up_tokenization_spaces=False))


def _readable(token: int, tokenizer: Any) -> bool:
    """True if the token is text of its own: no special token, no part of a character."""
    return token not in tokenizer.all_special_ids and "�" not in tokenizer.decode([token])


def _choose(question: Question, text: _Text, window: int) -> Array:
    """``[copies, k]`` places whose tokens are replaced; ``k`` is the fraction of the trained tokens, at least 1."""
    places = np.flatnonzero(text.trained & ~text.first)
    count = max(1, round(question.fraction * len(places)))
    places = places[places <= window]
    rng = rng_for(question.record, f"places/{question.copies}/{question.fraction}")
    if not places.size:
        return np.zeros((question.copies, 0), dtype=np.int64)
    return np.stack([rng.choice(places, min(count, len(places)), replace=False) for _ in range(question.copies)])


def _neighbours(
    question: Question, text: _Text, chosen: Array, likely: dict[int, tuple[Array, Array]], tokenizer: Any
) -> list[Record]:
    rng = rng_for(question.record, f"tokens/{question.copies}/{question.fraction}")
    copies = []
    for places in chosen:
        token_id = text.token_id.copy()
        for place in sorted(places):
            token_id[place] = _draw(likely[int(place)], int(token_id[place]), tokenizer, rng)
        copies.append(_rebuilt(question.record, text, token_id, places, tokenizer))
    return copies


def _draw(likely: tuple[Array, Array], original: int, tokenizer: Any, rng: np.random.Generator) -> int:
    """One of the likely tokens that is not the original; the original if there is no other that can be read."""
    token, share = likely
    fit = np.array([t != original and _readable(int(t), tokenizer) for t in token])
    weight = np.where(fit, share, 0.0).astype(np.float64)
    total = math.fsum(weight)
    if total <= 0:
        return original
    return int(rng.choice(token, p=weight / total))


def _rebuilt(record: Record, text: _Text, token_id: Array, changed: Array, tokenizer: Any) -> Record:
    """The record with the pieces decoded anew in which something was changed."""
    pieces = [content for _, content in record.pieces]
    for i in np.unique(text.piece[changed]) if len(changed) else []:
        decoded = _decoded(token_id[text.piece == i], tokenizer)
        before = (record.prompt or "") if record.messages is None else ""
        if decoded.startswith(before):
            pieces[i] = decoded.removeprefix(before)
    if record.text is not None:
        return replace(record, text=pieces[0], spans=())
    if record.messages is not None:
        turns = tuple(replace(turn, content=decoded) for turn, decoded in zip(record.messages, pieces, strict=True))
        return replace(record, messages=turns, spans=())
    return replace(record, completion=pieces[1], spans=())
