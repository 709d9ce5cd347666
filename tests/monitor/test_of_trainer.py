# SPDX-License-Identifier: Apache-2.0
"""The monitor over a trainer's own data sets: tokenised or not, logged where the trainer logs, weights untouched."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import trl
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from reticent.core.errors import BadInput
from reticent.data.example import help_desk
from reticent.models.encode import encode
from reticent.monitor.of_trainer import monitor_trainer
from reticent.testing.tiny import tiny_model, tiny_tokenizer

TEXTS = [mail.text for mail in help_desk(users=40, mails_per_user=2)]
INSIDE, OUTSIDE = TEXTS[:40], TEXTS[40:]
HOW: dict[str, Any] = {
    "num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "report_to": "none", "seed": 0,
    "save_strategy": "no", "logging_steps": 100, "use_cpu": True,
}  # fmt: skip


def sft(folder: Path, **more: Any) -> Any:
    torch.manual_seed(0)
    return trl.SFTTrainer(
        model=tiny_model(),
        args=trl.SFTConfig(output_dir=str(folder), max_length=48, **HOW),
        processing_class=tiny_tokenizer(),
        train_dataset=datasets.Dataset.from_list([{"text": text} for text in INSIDE]),
        **({"eval_dataset": datasets.Dataset.from_list([{"text": text} for text in OUTSIDE])} | more),
    )


def test_numbers_of_its_own_data_go_where_the_trainer_logs(tmp_path: Path) -> None:
    trainer = sft(tmp_path / "a")
    monitor = monitor_trainer(trainer, size=40)
    trainer.train()
    bare = sft(tmp_path / "b")
    bare.train()
    assert all(
        torch.equal(weight, bare.model.state_dict()[name]) for name, weight in trainer.model.state_dict().items()
    )
    rows = [row for row in trainer.state.log_history if "reticent/gap" in row]
    assert [row["step"] for row in rows] == [moment.step for moment in monitor.watch.moments] == [0, 5, 10]
    assert rows[-1]["reticent/auc"] == monitor.watch.moments[-1].auc.value
    assert rows[-1]["reticent/auc_lo"] < rows[-1]["reticent/auc"] < rows[-1]["reticent/auc_hi"]
    assert rows[-1]["reticent/gap"] > rows[0]["reticent/gap"]
    assert monitor.watch.members == monitor.watch.held_out == 40


def tokenised(texts: list[str], width: int | None = None) -> list[dict[str, list[int]]]:
    rows = []
    for text in texts:
        tokens = tiny_tokenizer()(text)["input_ids"][:48]
        pad = max(0, (width or 0) - len(tokens))
        labels = [-100, -100, *tokens[2:]]
        rows.append(
            {
                "input_ids": tokens + [0] * pad,
                "labels": labels + [-100] * pad,
                "attention_mask": [1] * len(tokens) + [0] * pad,
            }
        )
    return rows


def test_tokenised_rows_are_read_as_they_are_trained_on(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    trainer = Trainer(
        model=tiny_model(),
        args=TrainingArguments(output_dir=str(tmp_path), **HOW),
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        train_dataset=datasets.Dataset.from_list(tokenised(INSIDE, width=60)),
        eval_dataset=datasets.Dataset.from_list(tokenised([*OUTSIDE, *INSIDE[:5]])),
    )
    monitor = monitor_trainer(trainer, size=40)
    assert monitor.watch.held_out == 40  # what is trained on too is no control
    for row in monitor.passes.rows:
        assert not row.trained[:2].any()
        assert row.trained[2:].all()
        assert len(row) <= 48
    trainer.train()
    assert np.isfinite(monitor.watch.moments[-1].gap.value)


def test_text_and_tokens_give_the_same_rows() -> None:
    texts = SimpleNamespace(
        processing_class=tiny_tokenizer(), add_callback=lambda _: None, log=lambda _: None,
        train_dataset=[{"text": text} for text in INSIDE], eval_dataset=[{"text": text} for text in OUTSIDE],
    )  # fmt: skip
    monitor = monitor_trainer(texts, size=40)
    expected = {encode(record, tiny_tokenizer()).token_id.tobytes() for record in monitor.panel.records}
    assert {row.token_id.tobytes() for row in monitor.passes.rows} == expected


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"eval_dataset": None}, "has no rows"),
        ({"eval_dataset": {"a": [1]}}, "several sets"),
        ({"eval_dataset": [{"text": text} for text in INSIDE]}, "no row that is not trained on"),
        ({"processing_class": None}, "has no tokenizer"),
        ({"train_dataset": [{"picture": 1}]}, "picture"),
        ({"train_dataset": [{"input_ids": [1, 2, 3], "seq_lengths": [2, 1]}]}, "packed into a row"),
    ],
)
def test_a_trainer_that_cannot_be_watched_is_refused(more: dict[str, Any], why: str) -> None:
    whole = {
        "processing_class": tiny_tokenizer(),
        "train_dataset": [{"text": text} for text in INSIDE],
        "eval_dataset": [{"text": text} for text in OUTSIDE],
    }
    with pytest.raises(BadInput, match=why):
        monitor_trainer(SimpleNamespace(**(whole | more)))
