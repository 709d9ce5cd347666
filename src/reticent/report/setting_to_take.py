# SPDX-License-Identifier: Apache-2.0
"""The advice on which setting of a comparison to take, where its numbers say so."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reticent.core.comparison import Comparison


def which_to_take(comparison: Comparison) -> str:
    """One sentence; empty where no pair of settings is ranked, so that leakage tells none from another.

    A setting is to be taken where it leaks less than every other one at the same held-out loss. Otherwise those that
    another one beats are to be left.
    """
    ranked = [pair for pair in comparison.pairs if pair.less is not None]
    if not ranked:
        return ""
    names = [setting.name for setting in comparison.settings]
    beaten = {pair.b if pair.less == pair.a else pair.a for pair in ranked}
    finished = [number for number, setting in enumerate(comparison.settings) if setting.best is not None]
    for number in finished:
        mine = [pair for pair in ranked if pair.less == number]
        if len(mine) == len(finished) - 1:
            others = "every other one" if len(mine) > 1 else names[mine[0].b if mine[0].a == number else mine[0].a]
            words = f"Take {names[number]}: at the same held-out loss it leaks less than {others}."
            return words + _cost(comparison, number)
    left = [names[number] for number in finished if number not in beaten]
    worse = [names[number] for number in sorted(beaten)]
    leaks = "leaks" if len(worse) == 1 else "leak"
    words = f"Do not take {_or(worse)}, which {leaks} more than another at the same held-out loss"
    if not left:
        return f"{words}."
    if len(left) == 1:
        return f"{words}; {left[0]} was beaten by none."
    return f"{words}; among {_or(left, 'and')} leakage does not decide, so choose by perplexity and cost."


def _cost(comparison: Comparison, number: int) -> str:
    """The best perplexity of a setting, beside the best of all."""
    best = {
        i: comparison.points[setting.best].loss.value
        for i, setting in enumerate(comparison.settings)
        if setting.best is not None
    }
    lowest = min(best, key=lambda i: best[i])
    best_said = f" Its best held-out perplexity is {math.exp(best[number]):.2f}"
    if lowest == number:
        return f"{best_said}, the lowest of all."
    return f"{best_said}; the lowest, of {comparison.settings[lowest].name}, is {math.exp(best[lowest]):.2f}."


def _or(names: Sequence[str], word: str = "or") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
