# SPDX-License-Identifier: Apache-2.0
"""The held-out loss, and what of it tells a person whether training helped: before and after, on the same texts.

A private training shows no loss on what it is trained on, so this is all that can be seen of it. What is measured tells
of the held-out records alone, the base's loss as well as those of the epochs; see `train.private`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reticent.core.atomic import write_text
from reticent.models.encode import EncodedRecord
from reticent.train.batches import IGNORED, collate, read_alike
from reticent.train.gathered import is_part

BASE_LOSS, BASE_PERPLEXITY = "base_loss", "base_perplexity"
"""In the first row of a training's history."""

_MEASURED = "base_loss.json"
"""Beside the checkpoints of a training: it is measured once, however often the training is interrupted."""


@torch.no_grad()
def held_out_loss(model: Any, rows: Sequence[EncodedRecord], *, size: int, pad: int, bfloat16: bool) -> float:
    """Mean loss over the trained tokens of ``rows``, in nats; the model is left in evaluation mode.

    Args:
        size: rows in a batch, at most.
        pad: token id that fills up rows.
        bfloat16: compute in it where that is the faster; else as the weights are.
    """
    model.eval()
    device = next(model.parameters()).device
    shared_out = any(is_part(parameter) for parameter in model.parameters())
    total, tokens = 0.0, 0
    for part in read_alike(model, sorted(rows, key=len), size):
        inputs = {name: value.to(device) for name, value in collate(part, pad=pad).items()}
        inputs["labels"][:, 0] = IGNORED  # behind virtual tokens it would count, and nowhere else
        n = int((inputs["labels"] != IGNORED).sum())
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16, cache_enabled=not shared_out):
            total += model(**inputs).loss.item() * n
        tokens += n
    return total / max(tokens, 1)


def perplexity(loss: float) -> float:
    """The exponential of a mean loss in nats; finite."""
    return math.exp(min(loss, 700.0))


def base_loss(folder: Path, measure: Callable[[], float]) -> float:
    """The held-out loss before the first step of the training whose checkpoints lie in ``folder``.

    Args:
        measure: what measures it, where no earlier call has.
    """
    loss = known_base_loss(folder)
    if loss is not None:
        return loss
    loss = measure()
    write_text(folder / _MEASURED, json.dumps({BASE_LOSS: loss}) + "\n")
    return loss


def known_base_loss(folder: Path) -> float | None:
    """The loss that an earlier call of `base_loss` measured; None where none did."""
    try:
        return float(json.loads((folder / _MEASURED).read_text(encoding="utf-8"))[BASE_LOSS])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class HeldOutBaseline(TrainerCallback):  # type: ignore[misc]
    """Logs the base's held-out loss before the first step. What is gone on with has it in its history.

    Args:
        loss: in nats a token.
        log: what a trainer logs with.
    """

    def __init__(self, loss: float, log: Callable[[dict[str, float]], None]) -> None:
        self.loss, self.log = loss, log

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0:
            self.log({BASE_LOSS: self.loss, BASE_PERPLEXITY: perplexity(self.loss)})


def before_and_after(trainer: Any, before: float) -> dict[str, Any]:
    """For the log: how many held-out records there are, and loss (nats a token) and perplexity of the base and of what
    came of it.

    Args:
        trainer: a `TuneTrainer` that has ended.
        before: loss of the base.
    """
    steps = int(trainer.state.global_step)
    last = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row and row["step"] == steps]
    after = float(last[-1]) if last else trainer.loss_of(trainer.eval_dataset)
    return {
        "records": len(trainer.eval_dataset),
        "base": {"loss": before, "perplexity": perplexity(before)},
        "tuned": {"loss": after, "perplexity": perplexity(after)},
    }


def sentence(records: int, before: float, after: float) -> str:
    """The effect of a training, in one line for whoever waited for it.

    Args:
        records: how many it was measured on.
        before, after: perplexities.

    >>> sentence(64, 26.13, 16.78)
    'perplexity on 64 held-out records: 26.1 before, 16.8 after'
    >>> sentence(1, 4.25, 9000.0)
    'perplexity on 1 held-out record: 4.25 before, 9,000 after: training made it worse'
    """
    text = f"perplexity on {records} held-out record{'s' if records != 1 else ''}: "
    text += f"{_shown(before)} before, {_shown(after)} after"
    if after > before:
        return f"{text}: training made it worse"
    return f"{text}: training changed nothing" if after == before else text


def sentence_of(log: Mapping[str, Any]) -> str:
    """The same from a training's log; empty where nothing was held out."""
    losses = log.get("held_out")
    if not losses:
        return ""
    return sentence(losses["records"], losses["base"]["perplexity"], losses["tuned"]["perplexity"])


def _shown(value: float) -> str:
    if value >= 1e6:
        return f"{value:.2g}"
    return f"{value:,.{0 if value >= 1000 else 1 if value >= 10 else 2}f}"
