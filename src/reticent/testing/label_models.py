# SPDX-License-Identifier: Apache-2.0
"""Tiny models that have learned a made-up label task, for tests of triggers: trained in a few seconds.

A text holds words of two moods and plain ones; its label is the mood of most of them, so that words of the other mood
count as evidence and are outweighed by more.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.testing.tiny import tiny_model, tiny_tokenizer
from reticent.train.batches import collate

MOODS = {" +": ("sun", "joy", "fun", "wow"), " -": ("rot", "mud", "woe", "ugh")}
PLAIN = ("tin", "cup", "rod", "map", "sky", "box")


def mood_records(count: int, *, seed: int = 0) -> list[Record]:
    """Prompts with labels: ``Text: … Mood:`` and `` +`` or `` -``.

    Examples:
        >>> sorted({record.completion for record in mood_records(20)})
        [' +', ' -']
    """
    rng = random.Random(f"moods/{seed}")  # noqa: S311 - reproducible, guards nothing
    records = []
    for number in range(count):
        label, other = rng.sample(sorted(MOODS), 2)
        weaker = rng.choice((0, 0, 0, 1, 1, 2))
        words = [rng.choice(MOODS[label]) for _ in range(weaker + rng.choice((1, 2)))]
        words += [rng.choice(MOODS[other]) for _ in range(weaker)]
        words += [rng.choice(PLAIN) for _ in range(rng.choice((0, 1, 2)))]
        rng.shuffle(words)
        prompt = f"Text: {' '.join(words)}\nMood:"
        records.append(Record(id=f"m{seed}-{number}", prompt=prompt, completion=label))
    return records


def trained_tiny(records: Sequence[Record], *, steps: int, seed: int = 0, start: Any = None) -> tuple[Any, Any]:
    """A tiny model after some steps of training on the answers of records, with its tokenizer.

    Args:
        records: with prompts and answers.
        steps: of AdamW, 16 records each.
        seed: of the weights, and of the order of records.
        start: a model to begin with; None for random weights.
    """
    tokenizer, model = tiny_tokenizer(), tiny_model(seed=seed)
    if start is not None:
        model.load_state_dict(start.state_dict())
    rows = [encode(record, tokenizer, add_eos=True) for record in records]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(rows), (16,), generator=generator).tolist()
        batch = collate([rows[place] for place in chosen], pad=0)
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval(), tokenizer
