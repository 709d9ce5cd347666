# SPDX-License-Identifier: Apache-2.0
"""How well members can be told from held-out by their text alone: a blind classifier that never sees the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, hstack
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

FEATURES = 2**18
MIN_TEXTS = 3
CHARACTERS = 20_000
"""Only so much of a text is read: enough to tell texts apart."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Blind:
    """Out-of-fold scores of the blind classifier.

    Args:
        score: ``[N]``, higher = looks more like a member.
        folds: of the cross-validation.
        grouped: whether all texts of a user were in one fold.
    """

    score: Floats
    folds: int
    grouped: bool


def blind_scores(
    texts: Sequence[str],
    member: npt.NDArray[np.bool_],
    users: Sequence[str] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Blind:
    """Score each text by a logistic regression that was fitted on other texts.

    Features are words and pairs of words that are in at least three texts (hashed, log counts, no idf: a difference
    in kind shows in common words, and rare ones would drown it), length, word length and the shares of digits,
    capitals and punctuation. None of them knows a label.

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
    features = _features(texts)
    score = np.zeros(len(texts))
    for train, test in splitter.split(features, label, users if grouped else None):
        if label[train].all() or not label[train].any():
            continue
        model = LogisticRegression(C=10.0, max_iter=200, class_weight="balanced").fit(features[train], label[train])
        found = model.decision_function(features[test])
        score[test] = (found - found.mean()) / (found.std() or 1.0)
    return Blind(score=score, folds=folds, grouped=grouped)


def _users_of(users: Sequence[str], chosen: npt.NDArray[np.bool_]) -> int:
    return len({user for user, wanted in zip(users, chosen, strict=True) if wanted})


def _features(texts: Sequence[str]) -> csr_array:
    cut = [text[:CHARACTERS] for text in texts]
    counter = HashingVectorizer(
        n_features=FEATURES,
        ngram_range=(1, 2),
        token_pattern=r"\w+",  # noqa: S106 - a regular expression
        alternate_sign=False,
        norm=None,
    )
    counts = counter.transform(cut).tocsc()
    often = np.diff(counts.indptr) >= MIN_TEXTS
    found = _lengths(texts, cut)
    spread = found.std(axis=0)
    scaled = (found - found.mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf)
    lengths = csr_array(0.3 * scaled)  # as much as one strong word, or they would drown the words
    if not often.any():  # texts in which no word comes three times
        return lengths
    words = TfidfTransformer(use_idf=False, sublinear_tf=True).fit_transform(counts[:, often].tocsr())
    return csr_array(hstack([words, lengths]))


def _lengths(texts: Sequence[str], cut: Sequence[str]) -> Floats:
    """``[N, 6]``: log length, log words, word length, shares of digits, capitals and punctuation."""
    rows = []
    for text, seen in zip(texts, cut, strict=True):
        words, n = len(seen.split()), max(1, len(seen))
        digits, capitals = sum(map(str.isdigit, seen)), sum(map(str.isupper, seen))
        marks = len(re.findall(r"[^\w\s]", seen))
        rows.append((np.log1p(len(text)), np.log1p(words), n / max(1, words), digits / n, capitals / n, marks / n))
    return np.array(rows, dtype=np.float64)
