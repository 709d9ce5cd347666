# SPDX-License-Identifier: Apache-2.0
"""The losses of a model on the answers to questions, and the answers that it writes itself. The only step with a model:
what is made of them is in `reticent.unlearning.benchmarks.tofu` and `reticent.unlearning.benchmarks.muse`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.models.in_memory import evaluating
from reticent.models.load import LoadedModel, load
from reticent.score.engine import ScoreOptions, open_engine, score
from reticent.score.generation.generate import generate
from reticent.unlearning.benchmarks.answers import AnswerLosses, answer_losses, answer_texts
from reticent.unlearning.benchmarks.questions import Question


@dataclass(frozen=True, kw_only=True)
class ModelAnswers:
    """The answers of one model to ``N`` questions.

    Args:
        losses: of the given answers.
        texts: ``N`` answers of its own, by greedy decoding; empty where none were asked for. They may repeat private
            text.
    """

    losses: AnswerLosses
    texts: tuple[str, ...]


def answer_questions(
    model: LoadedModel | str | Path, questions: Sequence[Question], *, max_tokens: int = 512, new_tokens: int = 0
) -> ModelAnswers:
    """Score the answers as training reads them, the end-of-text token too, and let the model answer.

    Args:
        model: loaded, or its folder: a whole model or an adapter.
        questions: ``N``.
        max_tokens: what prompt and answer are cut to, as in training.
        new_tokens: of the model's own answers, at most; 0 for none.

    Raises:
        BadInput: the model cannot be loaded; an answer of which nothing is left within ``max_tokens``; a prompt that
            leaves no room to answer.

    Examples:
        >>> from reticent.testing.tiny import save_tiny
        >>> asked = [Question(prompt="Who?", answer="Ana", wrong_answers=("Bo",))]
        >>> answers = answer_questions(save_tiny("tiny"), asked, new_tokens=3)
        >>> answers.losses.answer.shape, len(answers.texts)
        ((1,), 1)
    """
    loaded = load(str(model)) if isinstance(model, str | Path) else model
    texts = answer_texts(questions)
    rows = [
        encode(
            Record(id=str(number), prompt=text.prompt, completion=text.answer),
            loaded.tokenizer,
            max_tokens=max_tokens,
            add_eos=True,
        )
        for number, text in enumerate(texts)
    ]
    with evaluating(loaded.model):
        columns, offsets = score(open_engine(loaded.model, loaded.source, ScoreOptions(max_tokens=max_tokens)), rows)
        nll = [-columns["logp"][start:stop].sum(dtype=np.float64) for start, stop in pairwise(offsets)]
        written = _written(loaded, questions, new_tokens) if new_tokens else ()
    return ModelAnswers(losses=answer_losses(questions, nll, np.diff(offsets)), texts=written)


def _written(loaded: LoadedModel, questions: Sequence[Question], new_tokens: int) -> tuple[str, ...]:
    prompts = [
        encode(Record(id=str(number), prompt=question.prompt, completion=question.answer), loaded.tokenizer)
        for number, question in enumerate(questions)
    ]
    prefixes = [row.token_id[: int(np.flatnonzero(row.trained)[0])] for row in prompts]
    made = generate(loaded.model, loaded.tokenizer, prefixes, max_new_tokens=new_tokens, title="Answering")
    pieces = [made.token_id[made.offsets[row] : made.offsets[row + 1]] for row in range(len(prefixes))]
    return tuple(loaded.tokenizer.decode(piece, skip_special_tokens=True) for piece in pieces)
