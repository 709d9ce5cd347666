# SPDX-License-Identifier: Apache-2.0
"""Take a record or a person out of a fine-tuned model, and say how far it worked.

Here are the numbers by which the field compares unlearning, each with an interval, and what several methods gave;
the verbs are `reticent.unlearn`, `reticent.unlearn_by_each` and `reticent.verify`.

Examples:
    The answers of a model to questions (TOFU's files, or your own with the fields named), and what TOFU makes of them:

    >>> from pathlib import Path
    >>> import numpy as np
    >>> from reticent.testing import save_tiny
    >>> from reticent.unlearning import *
    >>> fields = QuestionFields(wrong_answers="wrong", user="who")
    >>> rows = [
    ...     {"question": f"Where is {name}?", "answer": "In Oslo.", "wrong": ["In Rome.", "In Bern."], "who": name}
    ...     for name in ("Ana", "Bo", "Cy")
    ... ]
    >>> questions = read_questions(rows, fields=fields)
    >>> isinstance(questions[0], Question), questions[0].user
    (True, 'Ana')
    >>> answers = answer_questions(save_tiny("tiny"), questions, new_tokens=4)
    >>> isinstance(answers, ModelAnswers), isinstance(answers.losses, AnswerLosses)
    (True, True)
    >>> rouge = rouge_l_recall([question.answer for question in questions], answers.texts)
    >>> list(forget_figures(answers.losses, rouge))
    ['probability', 'rouge_l_recall', 'truth_ratio_code', 'truth_ratio_paper', 'right_share']

    Forget quality holds its truth ratios against those of a retrained model, utility those of what is to be known:

    >>> ratio = truth_ratio(answers.losses.right, answers.losses.wrong)
    >>> quality = forget_quality(ratio, ratio, answers.losses.users)
    >>> isinstance(quality, DistributionGap), quality.p_value
    (True, 1.0)
    >>> retain = utility_rows(answers.losses, rouge, options=False)
    >>> utility = model_utility({"retain": retain})
    >>> isinstance(retain, UtilityRows), isinstance(utility, ModelUtility), sorted(utility.parts)
    (True, True, ['retain: probability', 'retain: rouge', 'retain: truth'])

    MUSE's numbers, of texts that a model wrote:

    >>> round(verbatim_memory(["the key is here", "he left"], ["the key is lost", "he stayed"]).value, 3)
    0.625
    >>> round(knowledge_memory(["Oslo", "Bern"], ["Oslo\\n\\nQuestion: Who?", "Rome"]).value, 3)
    0.5
    >>> steps = utility_over({1: [0.5, 0.7, 0.6], 2: [0.4, 0.6, 0.4]})
    >>> isinstance(steps[0], UtilityStep)
    True
    >>> forget = np.arange(40) < 20
    >>> priv_leak_of(np.arange(40) % 7 - 9.0 * forget, np.arange(40) % 5, forget).hi > 0  # too unlikely
    True
    >>> extraction_strength([[0, 0, 1, 1]]).tolist(), exact_memorization([[0, 1, 0, 1]]).tolist()
    ([0.5], [0.5])

    The folder of several methods:

    >>> tried = MethodsFolder(root=Path("runs/tried"))
    >>> tried.run("npo", 0).root.name, MethodTried(name="npo_seed0", method="npo", seed=0).place
    ('npo_seed0', None)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reticent.core.lazy import lazy_names

if TYPE_CHECKING:
    from reticent.stats.two_sample import DistributionGap as DistributionGap
    from reticent.unlearning.benchmarks.answer_questions import ModelAnswers as ModelAnswers
    from reticent.unlearning.benchmarks.answer_questions import answer_questions as answer_questions
    from reticent.unlearning.benchmarks.answers import AnswerLosses as AnswerLosses
    from reticent.unlearning.benchmarks.greedy_tokens import exact_memorization as exact_memorization
    from reticent.unlearning.benchmarks.greedy_tokens import extraction_strength as extraction_strength
    from reticent.unlearning.benchmarks.muse import UtilityStep as UtilityStep
    from reticent.unlearning.benchmarks.muse import knowledge_memory as knowledge_memory
    from reticent.unlearning.benchmarks.muse import priv_leak_of as priv_leak_of
    from reticent.unlearning.benchmarks.muse import utility_over as utility_over
    from reticent.unlearning.benchmarks.muse import verbatim_memory as verbatim_memory
    from reticent.unlearning.benchmarks.questions import Question as Question
    from reticent.unlearning.benchmarks.questions import QuestionFields as QuestionFields
    from reticent.unlearning.benchmarks.questions import read_questions as read_questions
    from reticent.unlearning.benchmarks.rouge import rouge_l_recall as rouge_l_recall
    from reticent.unlearning.benchmarks.tofu import ModelUtility as ModelUtility
    from reticent.unlearning.benchmarks.tofu import UtilityRows as UtilityRows
    from reticent.unlearning.benchmarks.tofu import forget_figures as forget_figures
    from reticent.unlearning.benchmarks.tofu import forget_quality as forget_quality
    from reticent.unlearning.benchmarks.tofu import model_utility as model_utility
    from reticent.unlearning.benchmarks.tofu import truth_ratio as truth_ratio
    from reticent.unlearning.benchmarks.tofu import utility_rows as utility_rows
    from reticent.unlearning.methods_folder import MethodsFolder as MethodsFolder
    from reticent.unlearning.methods_folder import MethodTried as MethodTried

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
