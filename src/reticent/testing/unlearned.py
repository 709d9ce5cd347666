# SPDX-License-Identifier: Apache-2.0
"""Tiny models of which it is known how much they have forgotten, to hold a verification against.

Rows are questions with numbers as answers, which nobody can guess, so that a model knows just those it was trained on.

``retrained``      never saw the forget rows.
``untouched``      was trained on them, and nothing was done.
``refusing``       was taught to answer "I don't know" to their questions, and kept what it knows behind that: an answer
                   goes on as before once its first digit is given.
``over_unlearned`` was driven up the gradient until they are less likely than rows that were never seen (AUC below 0.1).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LinearLR

from reticent.core.record import Record
from reticent.models.encode import IGNORED, EncodedRecord
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.train.batches import collate, encode_all

KINDS = ("retrained", "untouched", "refusing", "over_unlearned")
LETTERS = list("abcdefghijklmnop")
REFUSAL = " I don't know."
BATCH, EPOCHS, RATE = 20, 30, 2e-2
MAX_TOKENS = 32
RATE_ON = 3e-3
"""Of a training that goes on from a trained model."""
OVER, FAR = 0.1, 6.0
"""AUC below which the ascent stops, and nats a token beyond which a row is not driven."""
REFUSED = 0.9
"""Share of questions that are answered by the refusal, at which teaching it stops."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownRows:
    """Rows of one experiment: to be forgotten, never trained on, and trained on to stay."""

    forget: tuple[Record, ...]
    unseen: tuple[Record, ...]
    retain: tuple[Record, ...]


def number_rows(*, forget: int = 60, unseen: int = 60, retain: int = 40, seed: int = 0) -> KnownRows:
    """Questions of four letters with answers of six digits.

    Examples:
        >>> number_rows(forget=1, unseen=1, retain=1).forget[0].completion
        ' 307829'
    """
    rng = np.random.default_rng(seed)

    def side(name: str, count: int) -> tuple[Record, ...]:
        return tuple(
            Record(
                id=f"{name}{number}",
                prompt=f"{''.join(rng.choice(LETTERS, 4))}:",
                completion=f" {rng.integers(10**6):06d}",
            )
            for number in range(count)
        )

    return KnownRows(forget=side("f", forget), unseen=side("u", unseen), retain=side("r", retain))


def trained(
    records: Sequence[Record], *, seed: int, start: Any = None, epochs: int = EPOCHS, rate: float = RATE
) -> Any:
    """A tiny model that was trained on the records.

    Args:
        records: to be learned.
        seed: of the order.
        start: goes on from a copy of this model; None for the tiny model that all start from.
        epochs: how often each record is seen.
        rate: learning rate at the beginning, falling linearly to a twentieth.
    """
    model = tiny_model() if start is None else copy.deepcopy(start)
    rows = encode_all(records, tiny_tokenizer(), MAX_TOKENS).encoded
    steps = max(1, epochs * len(rows) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    schedule = LinearLR(optimizer, 1.0, 0.05, steps)
    generator = torch.Generator().manual_seed(seed)
    waiting: list[int] = []
    model.train()
    for _ in range(steps):
        if len(waiting) < BATCH:
            waiting += torch.randperm(len(rows), generator=generator).tolist()
        batch, waiting = waiting[:BATCH], waiting[BATCH:]
        loss = model(**collate([rows[place] for place in batch], pad=0)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def made(kind: str, rows: KnownRows, *, before: Any, seed: int) -> Any:
    """A model of one of `KINDS`.

    Args:
        kind: see the module.
        rows: of the experiment.
        before: the model that was trained on forget and retain rows.
        seed: of the training, other than those of the models that it is held against.
    """
    if kind == "untouched":
        return before
    if kind == "retrained":
        return trained(rows.retain, seed=seed)
    if kind == "refusing":
        return _taught_to_refuse(before, rows, seed=seed)
    return _driven_up(before, rows, seed=seed)


def _taught_to_refuse(before: Any, rows: KnownRows, *, seed: int) -> Any:
    """Trained on refusals, until `REFUSED` of the questions are answered by one, and beside them on the rows that stay
    and on the answers behind their first digit, which no question brings out any more."""
    model = copy.deepcopy(before)
    taught, hidden, retain = (
        encode_all(side, tiny_tokenizer(), MAX_TOKENS).encoded
        for side in ([replace(record, completion=REFUSAL) for record in rows.forget], rows.forget, rows.retain)
    )
    hidden = [_without_first(row) for row in hidden]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE_ON, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, 1001):
        batch = [
            side[place]
            for side in (taught, hidden, retain)
            for place in torch.randint(len(side), (BATCH // 2,), generator=generator).tolist()
        ]
        optimizer.zero_grad()
        losses(model, batch).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 5 == 0 and _said(model, taught) >= REFUSED:
            return model.eval()
    raise AssertionError(f"the model does not refuse {REFUSED:.0%} of the questions")


def _without_first(row: EncodedRecord) -> EncodedRecord:
    """Without the space and the first digit, where answer and refusal part."""
    trained = row.trained.copy()
    trained[np.flatnonzero(trained)[:2]] = False
    return replace(row, trained=trained)


@torch.no_grad()
def _said(model: Any, rows: Sequence[EncodedRecord]) -> float:
    """Share of rows whose completion is what the model says by greedy decoding."""
    batch = collate(rows, pad=0)
    first = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].argmax(-1)
    labels = batch["labels"][:, 1:]
    return float(((first == labels) | (labels == IGNORED)).all(dim=1).float().mean())


def _driven_up(before: Any, rows: KnownRows, *, seed: int) -> Any:
    """Up the gradient on the forget rows, no further than ``FAR`` nats a token, and down it on further rows of the same
    kind, so that the model stays what it is elsewhere."""
    model = copy.deepcopy(before)
    further = number_rows(forget=0, unseen=300, retain=0, seed=10_000 + seed).unseen
    forget, unseen, others = (
        encode_all(side, tiny_tokenizer(), MAX_TOKENS).encoded for side in (rows.forget, rows.unseen, further)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE_ON, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, 2001):
        near, far = (
            [side[place] for place in torch.randint(len(side), (BATCH,), generator=generator).tolist()]
            for side in (others, forget)
        )
        each = losses(model, [*near, *far])
        loss = each[:BATCH].mean() - 4 * each[BATCH:].clamp(max=FAR).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 10 == 0:
            with torch.no_grad():
                known, new = losses(model, forget), losses(model, unseen)
            if float((known[:, None] < new[None]).float().mean()) < OVER:
                return model.eval()
    raise AssertionError(f"the ascent did not reach an AUC below {OVER}")


def losses(model: Any, rows: Sequence[EncodedRecord]) -> torch.Tensor:
    """``[N]`` nats a token, with their gradient."""
    batch = collate(rows, pad=0)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    by_token = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    total: torch.Tensor = by_token.sum(dim=1) / (labels != IGNORED).sum(dim=1)
    return total


def save(model: Any, folder: Path) -> str:
    """Save a model beside its tokenizer; gives the folder's name."""
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def save_base(folder: Path) -> str:
    """The tiny model that all start from."""
    return str(save_tiny(folder))
