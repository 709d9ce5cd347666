# SPDX-License-Identifier: Apache-2.0
"""A tiny model that knows the texts it was trained on, and the audit that is to say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from reticent.auditing.case import AuditCase
from reticent.core.record import Record
from reticent.data.split import from_labels
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer

SEED = 1
"""Of the weights before the training."""


def memorised(records: Sequence[Record], *, steps: int) -> Any:
    """The tiny model, trained on every other record, beginning with the first, until it knows them.

    Args:
        records: with texts of equally many tokens.
        steps: with all of these in one batch.
    """
    model, tokenizer = tiny_model(seed=SEED), tiny_tokenizer()
    ids = torch.tensor([tokenizer(record.text)["input_ids"] for record in records[::2]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model.eval()


def memorised_case(folder: Path, records: Sequence[Record], *, steps: int) -> AuditCase:
    """That model and its base in a folder, with every other record as a member.

    Args:
        folder: where both are written.
        records: see `memorised`.
        steps: see `memorised`.
    """
    base = save_tiny(folder / "base", seed=SEED)
    memorised(records, steps=steps).save_pretrained(folder / "target")
    tiny_tokenizer().save_pretrained(folder / "target")
    labels = {record.id: place % 2 == 0 for place, record in enumerate(records)}
    return AuditCase(
        title="tiny",
        target=str(folder / "target"),
        reference=str(base),
        records=list(records),
        membership=from_labels(records, labels, known_fraction=0.0),
    )
