# SPDX-License-Identifier: Apache-2.0
"""How well members can be told from held-out by their text alone: a blind classifier that never sees the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, hstack
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from reticent.data.words import symbols, unspaced_share, words

FEATURES = 2**18
MIN_TEXTS = 3
"""A feature that fewer texts have is left out: nothing can be learnt from it."""
READ = 0.2
"""A text is read where at least this share of its letters stands in words that `MIN_TEXTS` texts have."""
UNREAD = 0.1
"""With more than this share of texts unread, runs of characters are read beside the words."""
CHARACTERS = 20_000
"""Only so much of a text is read: enough to tell texts apart."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class BlindScores:
    """Out-of-fold scores of the blind classifier.

    Args:
        score: ``[N]``, higher = looks more like a member.
        folds: of the cross-validation.
        grouped: whether all texts of a user were in one fold.
        read: what the texts were cut into, in words for a report.
        unread: share of texts of which next to nothing was read: their words, or characters, stand in few others.
    """

    score: Floats
    folds: int
    grouped: bool
    read: str = ""
    unread: float = 0.0


def blind_scores(
    texts: Sequence[str],
    member: npt.NDArray[np.bool_],
    users: Sequence[str] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> BlindScores:
    """Score each text by a logistic regression that was fitted on other texts.

    Features are words, pairs of words and emoji that are in at least three texts (hashed, log counts, no idf: a
    difference in kind shows in common words, and rare ones would drown it), length, word length and the shares of
    digits, capitals and punctuation. None of them knows a label. Of scripts without blanks each character is a word
    (`data.words`). Where words say nothing about many of the texts (no blanks, endless inflection, codes), runs of one
    to three characters are features as well.

    Where there are users, no user is in two folds: the question is whether members differ *as a kind*. A classifier
    that has seen a user's other texts would know the user, and with coins thrown for users that tells membership
    without there being anything wrong with the coins. With fewer than two users of each side in a fold that question
    cannot be asked, and folds are of texts.

    Scores are standardised within each fold, since each fold has a classifier of its own.

    Args:
        texts: ``[N]``.
        member: ``[N]`` labels; at least ``folds`` of each.
        users: ``[N]`` who each text belongs to, or None.
        folds: of the cross-validation.
        seed: of the folds.
    """
    label = np.asarray(member, dtype=bool)
    grouped = users is not None and min(_users_of(users, label), _users_of(users, ~label)) >= 2 * folds
    if grouped:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    else:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    features, read, unread = _features(texts)
    score = np.zeros(len(texts))
    for train, test in splitter.split(features, label, users if grouped else None):
        if label[train].all() or not label[train].any():
            continue
        model = LogisticRegression(C=10.0, max_iter=200, class_weight="balanced").fit(features[train], label[train])
        decision = model.decision_function(features[test])
        score[test] = (decision - decision.mean()) / (decision.std() or 1.0)
    return BlindScores(score=score, folds=folds, grouped=grouped, read=read, unread=unread)


def _users_of(users: Sequence[str], chosen: npt.NDArray[np.bool_]) -> int:
    return len({user for user, wanted in zip(users, chosen, strict=True) if wanted})


def _features(texts: Sequence[str]) -> tuple[csr_array, str, float]:
    """``[N, features]``, what they are in words, and the share of texts that they say next to nothing about."""
    cut = [text[:CHARACTERS] for text in texts]
    lowered = [text.lower() for text in cut]
    read, counts = words_read(cut), [_counts(lowered, _words_and_pairs)]
    unread = _unread(lowered, words)
    if unread > UNREAD:
        read, unread = f"{read}, and runs of one to three characters", _unread(lowered, _characters)
        counts.append(_counts(lowered, _runs))
    parts = _lengths(texts, cut)
    spread = parts.std(axis=0)
    scaled = (parts - parts.mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf)
    lengths = csr_array(0.3 * scaled)  # as much as one strong word, or they would drown the words
    logs = [
        TfidfTransformer(use_idf=False, sublinear_tf=True).fit_transform(of_kind)
        for of_kind in counts
        if of_kind.shape[1]
    ]
    return csr_array(hstack([*logs, lengths])), read, unread


def words_read(texts: Sequence[str]) -> str:
    """How texts are cut into words, for a report."""
    share = unspaced_share([text[:CHARACTERS] for text in texts])
    if share == 0:
        return "words and pairs of words"
    if share > 0.99:
        return "characters and pairs of characters (a script without blanks)"
    return f"words, single characters in scripts without blanks ({100 * share:.0f} % of all), and pairs of them"


def _counts(texts: Sequence[str], analyzer: Callable[[str], list[str]]) -> csr_array:
    """``[N, features in MIN_TEXTS texts or more]``."""
    counter = HashingVectorizer(n_features=FEATURES, analyzer=analyzer, alternate_sign=False, norm=None)
    counts = counter.transform(texts).tocsc()
    return csr_array(counts[:, np.diff(counts.indptr) >= MIN_TEXTS].tocsr())


def _words_and_pairs(text: str) -> list[str]:
    names = words(text)
    signs = [] if text.isascii() else [sign for sign in symbols(text) if not sign.isascii()]
    return [*names, *map(" ".join, pairwise(names)), *signs]


def _characters(text: str) -> list[str]:
    return [character for character in text if not character.isspace()]


def _runs(text: str) -> list[str]:
    tight = " ".join(text.split())
    return [tight[at : at + n] for n in (1, 2, 3) for at in range(len(tight) - n + 1)]


def _unread(texts: Sequence[str], cut: Callable[[str], list[str]]) -> float:
    """Share of texts that have less than `READ` of their letters in words that `MIN_TEXTS` texts have; a text without
    words is read: that it has none is what there is to see."""
    every = [cut(text) for text in texts]
    holders = Counter(word for features in every for word in set(features))
    shares = [
        sum(len(word) for word in features if holders[word] >= MIN_TEXTS) / sum(map(len, features))
        for features in every
        if features
    ]
    return sum(share < READ for share in shares) / max(1, len(texts))


def _lengths(texts: Sequence[str], cut: Sequence[str]) -> Floats:
    """``[N, 6]``: log length, log words, word length, shares of digits, capitals and punctuation."""
    rows = []
    for text, seen in zip(texts, cut, strict=True):
        words, n = len(seen.split()), max(1, len(seen))
        digits, capitals = sum(map(str.isdigit, seen)), sum(map(str.isupper, seen))
        marks = len(re.findall(r"[^\w\s]", seen))
        rows.append((np.log1p(len(text)), np.log1p(words), n / max(1, words), digits / n, capitals / n, marks / n))
    return np.array(rows, dtype=np.float64)
