# SPDX-License-Identifier: Apache-2.0
"""The answers whose losses are needed, in one list for one pass, and the losses sorted back by question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from reticent.core.errors import BadInput
from reticent.core.validate import same_length
from reticent.stats.scores import Floats, as_scores
from reticent.unlearning.benchmarks.questions import Question

AnswerKind = Literal["answer", "paraphrased", "wrong"]


@dataclass(frozen=True, kw_only=True)
class AnswerText:
    """One answer to be scored behind its prompt.

    Args:
        question: number of the question, from 0.
        kind: the answer as trained, the same in other words, or a wrong one.
        prompt, answer: texts. The end-of-text token behind the answer is scored as one of its tokens.
    """

    question: int
    kind: AnswerKind
    prompt: str
    answer: str


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerLosses:
    """Mean losses, nats a token, of ``N`` questions.

    Args:
        answer: ``[N]`` of the answer as trained.
        right: ``[N]`` of the paraphrased answer; of the answer itself where there is none, as the field has it.
        wrong: ``N`` arrays, one number for each wrong answer; empty where a question has none.
        users: ``[N]`` whose question it is; None where no question has a user.
    """

    answer: Floats
    right: Floats
    wrong: tuple[Floats, ...]
    users: tuple[str, ...] | None

    def with_wrong(self) -> AnswerLosses:
        """Only the questions that have wrong answers.

        Raises:
            BadInput: there are none.
        """
        rows = [number for number, losses in enumerate(self.wrong) if len(losses)]
        if not rows:
            raise BadInput("no question", "has a wrong answer, so there is no truth ratio", "Add wrong answers.")
        return AnswerLosses(
            answer=self.answer[rows],
            right=self.right[rows],
            wrong=tuple(self.wrong[row] for row in rows),
            users=None if self.users is None else tuple(self.users[row] for row in rows),
        )


def answer_texts(questions: Sequence[Question]) -> list[AnswerText]:
    """All answers to score: of each question the answer, the paraphrased one if there is one, and the wrong ones.

    Examples:
        >>> [text.kind for text in answer_texts([Question(prompt="Who?", answer="Ana", wrong_answers=("Bo", "Cy"))])]
        ['answer', 'wrong', 'wrong']
    """
    texts = []
    for number, question in enumerate(questions):
        answers: list[tuple[AnswerKind, str]] = [("answer", question.answer)]
        if question.paraphrased_answer is not None:
            answers.append(("paraphrased", question.paraphrased_answer))
        answers += [("wrong", answer) for answer in question.wrong_answers]
        texts += [
            AnswerText(question=number, kind=kind, prompt=question.prompt, answer=answer) for kind, answer in answers
        ]
    return texts


def answer_losses(questions: Sequence[Question], nll: ArrayLike, tokens: ArrayLike) -> AnswerLosses:
    """Losses of `answer_texts`, sorted back.

    Args:
        questions: the same that gave the texts.
        nll: ``[texts]`` summed over an answer's tokens, nats.
        tokens: ``[texts]`` how many they are, the end-of-text token among them.

    Raises:
        BadInput: another number of losses than texts, or losses that are none.

    Examples:
        >>> losses = answer_losses([Question(prompt="Who?", answer="Ana", wrong_answers=("Bo",))], [2.0, 6.0], [4, 3])
        >>> losses.answer.tolist(), losses.right.tolist(), [of.tolist() for of in losses.wrong]
        ([0.5], [0.5], [[2.0]])
    """
    texts = answer_texts(questions)
    mean = mean_nll(nll, tokens)
    same_length(texts=texts, nll=mean)
    answer, right = np.zeros(len(questions)), np.zeros(len(questions))
    wrong: list[list[float]] = [[] for _ in questions]
    for text, loss in zip(texts, mean.tolist(), strict=True):
        if text.kind == "wrong":
            wrong[text.question].append(loss)
        else:
            right[text.question] = loss  # the paraphrased one comes later, and stays
            if text.kind == "answer":
                answer[text.question] = loss
    names = [question.user for question in questions]
    nameless = all(name is None for name in names)
    return AnswerLosses(
        answer=answer,
        right=right,
        wrong=tuple(np.array(losses, dtype=np.float64) for losses in wrong),
        users=None if nameless else tuple(f"row {row}" if name is None else name for row, name in enumerate(names)),
    )


def mean_nll(nll: ArrayLike, tokens: ArrayLike) -> Floats:
    """``[N]`` nats a token, from sums and counts; the end-of-text token counts, as it is trained on.

    Raises:
        BadInput: NaN, a loss below 0, or an answer without a token.
    """
    total, count = as_scores(nll, name="nll"), as_scores(tokens, name="tokens")
    same_length(nll=total, tokens=count)
    if (total < 0).any() or (count < 1).any():
        raise BadInput("nll or tokens", "hold a loss below 0 or an answer without tokens", "Check what was scored.")
    return total / count
