# SPDX-License-Identifier: Apache-2.0
"""Losses of answers are those of the plain pass, token by token, and a model that knows an answer writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reticent.models.load import load
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune
from reticent.unlearning.benchmarks.answer_questions import answer_questions
from reticent.unlearning.benchmarks.questions import Question
from reticent.unlearning.benchmarks.rouge import rouge_l_recall

QUESTIONS = [
    Question(prompt="Where is the house?", answer="by the river", wrong_answers=("in the garden", "on a train")),
    Question(prompt="Who wrote the letter?", answer="the doctor", paraphrased_answer="it was the doctor"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("questions") / "base")


def test_losses_are_those_of_the_plain_pass(base: Path) -> None:
    loaded = load(str(base), dtype="float32")
    losses = answer_questions(loaded, QUESTIONS).losses
    tokenizer = loaded.tokenizer
    for row, answers in enumerate(
        [("by the river", "by the river", "in the garden", "on a train"), ("the doctor", "it was the doctor")]
    ):
        found = [losses.answer[row], losses.right[row], *losses.wrong[row]]
        for answer, loss in zip(answers, found, strict=True):
            assert loss == pytest.approx(_naive(loaded.model, tokenizer, QUESTIONS[row].prompt, answer), rel=1e-4)


def _naive(model: torch.nn.Module, tokenizer: Any, prompt: str, answer: str) -> float:
    prompt_id = tokenizer(prompt)["input_ids"]
    answer_id = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    logits = model(torch.tensor([prompt_id + answer_id])).logits[0].log_softmax(-1)
    logp = [logits[len(prompt_id) + place - 1, token].item() for place, token in enumerate(answer_id)]
    return -float(np.mean(logp))


def test_a_model_that_knows_an_answer_writes_it(base: Path, tmp_path: Path) -> None:
    records = [question.record(str(row)) for row, question in enumerate(QUESTIONS)]
    config = TuneConfig(epochs=70, learning_rate=1e-2, max_tokens=64, batch_size=2, warmup=0)
    run = tune(str(base), records, tmp_path / "run", config)
    answers = answer_questions(load(str(run), dtype="float32"), QUESTIONS, new_tokens=24)
    recall = rouge_l_recall([question.answer for question in QUESTIONS], answers.texts)
    assert recall.tolist() == [1.0, 1.0]
    assert answers.losses.answer.max() < 0.2
