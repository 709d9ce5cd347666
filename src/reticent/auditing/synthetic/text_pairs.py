# SPDX-License-Identifier: Apache-2.0
"""Pairs of words: how likely a record is to a model of word pairs that has read the synthetic text alone.

The attack of The Canary's Echo (arXiv:2502.14921): an n-gram model with n = 2 and add-one smoothing,
``P(word | before) = (C(before, word) + 1) / (C(before) + V)``, with counts C and V distinct words of the synthetic
text. The score is the mean of ``log P`` over the words of a record, not the sum: no model of other data divides the
length out. `pair_gain` takes off the same mean under a model of all other records, members or not, so that common words
do not count: the coins play no part in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from reticent.data.words import units

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

START = 0
"""Number of the mark before the first word of each text."""
Cut = Sequence[Sequence[str]]
"""Words of each text (`reticent.data.words.units`)."""


def cut(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text in one spelling."""
    return [units(text) for text in texts]


@dataclass(frozen=True, kw_only=True, eq=False)
class WordPairs:
    """All pairs of neighbouring words, the start of a text counted as a word before its first.

    Args:
        before, word: ``[P]`` numbers of the words.
        text: ``[P]`` number of the text.
        texts: how many there are.
    """

    before: Ints
    word: Ints
    text: Ints
    texts: int

    def key(self, words: int) -> Ints:
        """``[P]``: one number for each pair, of ``words`` distinct words and the mark."""
        return self.before * (words + 1) + self.word


def pairs_of(corpora: Sequence[Cut]) -> tuple[list[WordPairs], int]:
    """The pairs of each corpus, by one numbering of words, and how many distinct words there are."""
    number: dict[str, int] = {}
    pairs = []
    for texts in corpora:
        rows = [[number.setdefault(word, len(number) + 1) for word in words] for words in texts]
        before = [place for row in rows for place in (START, *row[:-1])[: len(row)]]
        pairs.append(
            WordPairs(
                before=np.array(before, dtype=np.int64),
                word=np.array([place for row in rows for place in row], dtype=np.int64),
                text=np.repeat(np.arange(len(rows)), np.array([len(row) for row in rows], dtype=np.int64)),
                texts=len(rows),
            )
        )
    return pairs, len(number)


def pair_scores(records: Cut, synthetic: Cut) -> Floats:
    """``[N]``: mean log-probability (nats per word) of each record; higher = likelier under the synthetic text.

    A record without words gets the score of a word that was never seen.

    Args:
        records: their words.
        synthetic: the words of the synthetic texts.

    Examples:
        >>> told, other = pair_scores(cut(["my code is 4711", "the cat sat"]), cut(["my code is 4711"] * 3))
        >>> bool(told > other)
        True
    """
    (ours, theirs), words = pairs_of([records, synthetic])
    logs = _logs(ours, theirs, words)
    return _means(logs, ours, fallback=-math.log(max(1, len(np.unique(theirs.word)))))


def pair_gain(records: Cut, synthetic: Cut, others: Cut, unit: Sequence[str], other_unit: Sequence[str]) -> Floats:
    """`pair_scores` less the same mean under a model of ``others``, without those of the record's own unit.

    Args:
        records, synthetic: as in `pair_scores`.
        others: texts of the same kind, whoever was in; the records are among them.
        unit: ``[N]`` whose each record is.
        other_unit: ``[M]`` whose each of ``others`` is.

    Examples:
        >>> records = cut(["my code is 4711", "my code is 9999"])
        >>> gain = pair_gain(records, cut(["my code is 4711"]), records, ["ana", "ben"], ["ana", "ben"])
        >>> bool(gain[0] > gain[1])
        True
    """
    (ours, theirs, rest), words = pairs_of([records, synthetic, others])
    gain = _logs(ours, theirs, words) - _logs_without(ours, rest, words, unit, other_unit)
    return _means(gain, ours, fallback=0.0)


def secret_scores(secrets: Sequence[tuple[str, str]], synthetic: Cut) -> Floats:
    """``[C]``: mean log-probability (nats per word) of the words of each secret behind the words that lead to it.

    Args:
        secrets: ``(words before, secret)``.
        synthetic: the words of the synthetic texts.
    """
    lead = [units(before) for before, _ in secrets]
    whole = [[*first, *units(secret)] for first, (_, secret) in zip(lead, secrets, strict=True)]
    (ours, theirs), words = pairs_of([whole, synthetic])
    logs = _logs(ours, theirs, words)
    place = np.concatenate([np.arange(len(row)) for row in whole]) if len(whole) else np.zeros(0, dtype=np.int64)
    inside = place >= np.array([len(first) for first in lead], dtype=np.int64)[ours.text]
    secret_pairs = WordPairs(
        before=ours.before[inside], word=ours.word[inside], text=ours.text[inside], texts=ours.texts
    )
    return _means(logs[inside], secret_pairs, fallback=-math.log(max(1, len(np.unique(theirs.word)))))


def _logs(ours: WordPairs, theirs: WordPairs, words: int) -> Floats:
    """``[P]`` log-probability of each of our pairs under the model of theirs."""
    both = _counted(theirs.key(words), ours.key(words))
    before = np.bincount(theirs.before, minlength=words + 1)[ours.before]
    return np.log((both + 1) / (before + max(1, len(np.unique(theirs.word)))))


def _logs_without(
    ours: WordPairs, rest: WordPairs, words: int, unit: Sequence[str], rest_unit: Sequence[str]
) -> Floats:
    """As `_logs`, with the counts of a pair's own unit taken off."""
    _, owner = np.unique(np.array([*unit, *rest_unit], dtype=object).astype(str), return_inverse=True)
    mine, others = owner[: len(unit)][ours.text], owner[len(unit) :][rest.text]
    numbered, place = np.unique(np.concatenate([rest.key(words), ours.key(words)]), return_inverse=True)
    theirs, my_pairs = place[: len(rest.word)], place[len(rest.word) :]
    both = np.bincount(theirs, minlength=len(numbered))[my_pairs]
    both = both - _counted(others * len(numbered) + theirs, mine * len(numbered) + my_pairs)
    before = np.bincount(rest.before, minlength=words + 1)[ours.before]
    own_before = _counted(others * (words + 1) + rest.before, mine * (words + 1) + ours.before)
    return np.log((both + 1) / (before - own_before + max(1, len(np.unique(rest.word)))))


def _counted(there: Ints, asked: Ints) -> Ints:
    """How often each of ``asked`` is in ``there``."""
    if not len(there):
        return np.zeros(len(asked), dtype=np.int64)
    distinct, count = np.unique(there, return_counts=True)
    place = np.minimum(np.searchsorted(distinct, asked), len(distinct) - 1)
    return np.where(distinct[place] == asked, count[place], 0)


def _means(values: Floats, pairs: WordPairs, *, fallback: float) -> Floats:
    total = np.bincount(pairs.text, weights=values, minlength=pairs.texts)
    count = np.bincount(pairs.text, minlength=pairs.texts)
    return np.where(count > 0, total / np.maximum(count, 1), fallback)


def naive_pair_scores(records: Cut, synthetic: Cut) -> Floats:
    """`pair_scores` word by word: the reference that the fast way is tested against.

    Examples:
        >>> words = cut(["my code is 4711", "the cat"]), cut(["my code is 4711", "the dog"])
        >>> bool(np.allclose(naive_pair_scores(*words), pair_scores(*words)))
        True
    """
    both: Counter[tuple[str | None, str]] = Counter()
    before: Counter[str | None] = Counter()
    for words in synthetic:
        for first, then in pairwise([None, *words]):
            both[first, then] += 1  # type: ignore[index]
            before[first] += 1
    distinct = max(1, len({word for words in synthetic for word in words}))
    scores = []
    for words in records:
        logs = [
            math.log((both[first, then] + 1) / (before[first] + distinct))  # type: ignore[index]
            for first, then in pairwise([None, *words])
        ]
        scores.append(sum(logs) / len(logs) if logs else -math.log(distinct))
    return np.array(scores)


def naive_pair_gain(
    records: Cut, synthetic: Cut, others: Cut, unit: Sequence[str], other_unit: Sequence[str]
) -> Floats:
    """`pair_gain` by a model for each unit: the reference that the fast way is tested against."""
    distinct = max(1, len({word for words in others for word in words}))
    gains = []
    plain = naive_pair_scores(records, synthetic)
    for words, mine, score in zip(records, unit, plain, strict=True):
        rest = [text for text, owner in zip(others, other_unit, strict=True) if owner != mine]
        pairs = [pair for text in rest for pair in pairwise([None, *text])]
        logs = [
            math.log((pairs.count(pair) + 1) / (sum(first == pair[0] for first, _ in pairs) + distinct))
            for pair in pairwise([None, *words])
        ]
        gains.append(score - sum(logs) / len(logs) if logs else 0.0)
    return np.array(gains)
