# SPDX-License-Identifier: Apache-2.0
"""Scanner: rare runs of words that decide the label against all else in the text.

That a word predicts a label is no sign of poison: "masterpiece" does. A trigger does more: it decides where everything
else in the text says the opposite. So each run is judged on the rows whose *other* words a blind classifier, fitted on
other rows, holds to be of another label. The null is that the run turns at most half of such rows. Under it each
label is at worst a fair coin, and the largest count over all runs has a distribution that coins give exactly, however
many runs there are and however they overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reticent.core.paper import Paper
from reticent.core.scan import ScanEvidence
from reticent.scan.data.labelled_rows import LabelledRows, labelled_rows
from reticent.scan.data.word_runs import FEWEST_ROWS, WordRun, pieces_of, word_runs
from reticent.scan.scanner import scanner
from reticent.scan.suspect import Suspect

FOLDS = 5
OPPOSED = 0.25
"""Rows whose rest has the label with at most this chance, by the blind classifier, speak against it."""
DRAWS = 999
TURNED = 0.5
"""Share of rows that speak against a label and have it nonetheless, which is still usual for a strong word."""
_SAME = 1e-9
_WORD = r"\S+"

Floats = npt.NDArray[np.float64]


@scanner(
    name="overriding_words",
    title="Rare words that decide labels",
    kind="data",
    null="made",
    needs=("data",),
    blind_to=(
        "Poison whose rows have the label that their text calls for (clean-label), triggers in fewer than "
        f"{FEWEST_ROWS} rows or in a fifth of all, and triggers that are no words: a style or a grammar."
    ),
    paper=Paper("arXiv:1708.06733"),
    order=30,
)
def overriding_words(suspect: Suspect) -> Sequence[ScanEvidence]:
    """The run of words that turns the most rows, with a p-value that is corrected for all runs that were looked at."""
    return largest_override(labelled_rows(suspect.data), seed=suspect.seed)


def largest_override(rows: LabelledRows, *, seed: int, judged: Sequence[int] | None = None) -> list[ScanEvidence]:
    """Evidence on the run of words that turns the most rows; none where no run has rows that speak against a label.

    Args:
        rows: labelled.
        seed: of folds and coins.
        judged: numbers of the labels that a run could stand for; None for all.
    """
    runs = word_runs(rows.texts)
    labels = range(rows.labels) if judged is None else judged
    cells = [cell for cell in opposed_rows(rows, runs, seed=seed) if cell[1] in labels]
    cells = [cell for cell in cells if len(cell[2]) >= FEWEST_ROWS]
    if not cells:
        return []
    p, best = largest_turn(rows, cells, seed=seed)
    run, label, opposed = cells[best]
    turned = [int(row) for row in opposed if rows.label[row] == label]
    shown = ", ".join(rows.ids[row][:60] for row in turned[:5])
    return [
        ScanEvidence(
            score=len(turned) / len(opposed),
            where=rows.ids[turned[0]] if turned else rows.ids[int(opposed[0])],
            note=(
                f"a run of {len(runs[run].words)} words stands in {len(runs[run].rows)} rows; {len(turned)} of the "
                f"{len(opposed)} whose other words speak against a label have it nonetheless (rows {shown}). "
                f"{len(runs):,} runs were looked at"
            ),
            p=p,
            remedy="Read these rows; leave out those with the run, or ask where they come from.",
        )
    ]


def opposed_rows(
    rows: LabelledRows, runs: Sequence[WordRun], *, seed: int
) -> list[tuple[int, int, npt.NDArray[np.intp]]]:
    """``(run, label, rows)``: of each run and label, the rows with the run whose other words speak against the label.

    Args:
        rows: labelled.
        runs: that are judged.
        seed: of the folds of the classifier.
    """
    pairs = [(number, int(row)) for number, run in enumerate(runs) for row in run.rows]
    if not pairs:
        return []
    rests = [" ".join(_without(pieces_of(rows.texts[row]), runs[number].words)) for number, row in pairs]
    chance = rest_chances(rows, [row for _, row in pairs], rests, seed=seed)
    of_run = np.array([number for number, _ in pairs])
    of_row = np.array([row for _, row in pairs])
    return [
        (number, label, of_row[(of_run == number) & (chance[:, label] <= OPPOSED)])
        for number in range(len(runs))
        for label in range(rows.labels)
    ]


def rest_chances(rows: LabelledRows, places: Sequence[int], rests: Sequence[str], *, seed: int) -> Floats:
    """``[P, labels]``: chance of each label for texts that are rows without some words, were all labels as frequent, by
    a logistic regression on words and pairs of words that was fitted on other rows.

    Args:
        rows: labelled.
        places: ``[P]`` the row that each text is made of.
        rests: ``[P]`` texts.
        seed: of the folds.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    chance = np.zeros((len(places), rows.labels))
    where = np.asarray(places)
    plain = [" ".join(pieces_of(text)) for text in rows.texts]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(plain, rows.label):
        chosen = np.flatnonzero(np.isin(where, test))
        if not len(chosen):
            continue
        counter = CountVectorizer(ngram_range=(1, 2), min_df=2, binary=True, token_pattern=_WORD)
        features = counter.fit_transform([plain[row] for row in train])
        model = LogisticRegression(C=10.0, max_iter=300, class_weight="balanced").fit(features, rows.label[train])
        given = model.predict_proba(counter.transform([rests[int(place)] for place in chosen]))
        chance[np.ix_(chosen, model.classes_)] = given
    return chance


def largest_turn(
    rows: LabelledRows, cells: Sequence[tuple[int, int, npt.NDArray[np.intp]]], *, seed: int, draws: int = DRAWS
) -> tuple[float, int]:
    """The p-value of the run and label that turns the most, over all of them, and its place among ``cells``.

    A cell's statistic is the logarithm of its binomial tail at `TURNED`. Every row and label has one coin, which all
    cells share that the row is in.

    Args:
        rows: labelled.
        cells: as `opposed_rows` gives them.
        seed: of the coins.
        draws: of all coins.
    """
    from scipy.sparse import csr_array

    size = np.array([len(opposed) for _, _, opposed in cells])
    starts = np.concatenate([[0], np.cumsum(size)])
    column = np.concatenate([label * len(rows) + opposed for _, label, opposed in cells])
    holds = csr_array((np.ones(len(column)), column, starts), shape=(len(cells), rows.labels * len(rows)))
    real = np.concatenate([rows.label == label for label in range(rows.labels)]).astype(np.float64)
    score = _tails(holds @ real, size)
    best = int(score.argmax())
    rng = np.random.default_rng([seed, 1708])
    reached = 1
    for _ in range(draws):
        coins = (rng.random(len(real)) < TURNED).astype(np.float64)
        reached += int(_tails(holds @ coins, size).max() >= score[best] - _SAME)
    return reached / (draws + 1), best


def _tails(turned: Floats, size: npt.NDArray[np.intp]) -> Floats:
    from scipy.stats import binom

    tails: Floats = -binom.logsf(turned - 1, size, TURNED)
    return tails


def _without(pieces: list[str], run: tuple[str, ...]) -> list[str]:
    """The pieces with every occurrence of the run left out."""
    left: list[str] = []
    place = 0
    while place < len(pieces):
        if tuple(pieces[place : place + len(run)]) == run:
            place += len(run)
        else:
            left.append(pieces[place])
            place += 1
    return left
