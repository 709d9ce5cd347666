# SPDX-License-Identifier: Apache-2.0
"""Scanner: words that do not fit their texts, and whose rows agree about the label (after ONION, arXiv:2011.10369).

ONION takes a word out and looks whether the perplexity falls. A rare word that fits, such as a name, lowers it too, as
it costs much itself; so only its effect on the words *behind* it counts here, which a word that fits makes likelier and
an inserted one does not. The words that disturb most are chosen without a look at labels. If the data are clean, labels
are then exchangeable over rows as far as those words go, and the p-value of the most one-sided of them comes from
permuted labels, over all of them at once (max statistic). Unlike `overriding_words` this sees clean-label poison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.paper import Paper
from reticent.core.record import Record
from reticent.core.scan import ScanEvidence
from reticent.scan.data.labelled_rows import LabelledRows, labelled_rows
from reticent.scan.data.word_runs import WordRun, word_runs
from reticent.scan.scanner import scanner
from reticent.scan.suspect import Suspect

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel

OCCURRENCES = 6
"""Rows of a word that are read."""
BEHIND = 8
"""Words behind it that are read."""
CHOSEN = 20
"""Words that are tested: those that disturb most."""
MOST_WORDS = 600
"""Words that are read at most; of more, those in the most rows."""
DRAWS = 999
_SAME = 1e-9

Floats = npt.NDArray[np.float64]


@scanner(
    name="misfit_words",
    title="Words that do not fit (perplexity drop)",
    kind="data",
    null="made",
    needs=("data", "base"),
    blind_to=(
        "Triggers that fit their texts (a style, a grammar, a usual phrase), that stand at the very end of what is "
        "read, in fewer than five rows or in a fifth of all, and poison without labels."
    ),
    paper=Paper("arXiv:2011.10369"),
    order=33,
)
def misfit_words(suspect: Suspect) -> Sequence[ScanEvidence]:
    """The word that disturbs what comes behind it and is most one-sided, with its p-value over all that were tested."""
    rows = labelled_rows(suspect.data)
    runs = sorted(word_runs(rows.texts, longest=1), key=lambda run: -len(run.rows))[:MOST_WORDS]
    disturbed = disturbances(rows, runs, suspect.sibling, seed=suspect.seed)
    order = [place for place in np.argsort(-disturbed, kind="stable") if disturbed[place] > 0][:CHOSEN]
    if not order:
        return []
    chosen = [runs[place] for place in order]
    p, best, label = most_one_sided(rows, chosen, seed=suspect.seed)
    run = chosen[best]
    agreeing = [int(row) for row in run.rows if rows.label[row] == label]
    shown = ", ".join(rows.ids[row][:60] for row in agreeing[:5])
    return [
        ScanEvidence(
            score=float(disturbed[order[best]]),
            where=rows.ids[agreeing[0]],
            note=(
                f"a word in {len(run.rows)} rows makes the {BEHIND} words behind it {disturbed[order[best]]:.2f} nats "
                f"less likely, and {len(agreeing)} of the rows have one label, as {np.mean(rows.label == label):.0%} "
                f"of all have (rows {shown}). {len(runs):,} words were read, {len(chosen)} tested"
            ),
            p=p,
            remedy="Read these rows; leave out those with the word, or ask where they come from.",
        )
    ]


def disturbances(rows: LabelledRows, runs: Sequence[WordRun], sibling: LoadedModel, *, seed: int) -> Floats:
    """``[runs]`` mean nats by which the words behind a word are less likely with it than without it; minus infinity
    where nothing stands behind it.

    Args:
        rows: labelled; labels are not read.
        runs: of one word each.
        sibling: the model that reads.
        seed: of the occurrences.
    """
    rng = np.random.default_rng([seed, 2011])
    pairs: list[tuple[int, tuple[str, str, str]]] = []
    for number, run in enumerate(runs):
        for row in rng.permutation(run.rows)[:OCCURRENCES]:
            cut = around(rows.texts[row], run.words[0])
            if cut[2].strip():
                pairs.append((number, cut))
    totals, counts = np.zeros(len(runs)), np.zeros(len(runs))
    texts = [(before + word, behind) for _, (before, word, behind) in pairs]
    texts += [(before, behind) for _, (before, _, behind) in pairs]
    loss = nats(texts, sibling)
    for (number, _), difference in zip(pairs, loss[: len(pairs)] - loss[len(pairs) :], strict=True):
        totals[number] += difference
        counts[number] += 1
    return np.where(counts > 0, totals / np.maximum(counts, 1), -np.inf)


def around(text: str, word: str, *, behind: int = BEHIND) -> tuple[str, str, str]:
    """The text before the first occurrence of a word (from a line break on, so that something precedes), the word with
    the blank before it, and the next words.

    >>> around("so good cf a film at last", "cf", behind=2)
    ('\\nso good', ' cf', ' a film')
    """
    place = text.lower().find(word)
    while place >= 0 and _goes_on(text, place, len(word), word):
        place = text.lower().find(word, place + 1)
    if place < 0:
        return "\n" + text, "", ""
    start = place - 1 if place and text[place - 1] == " " else place
    rest = text[place + len(word) :]
    pieces = rest.split(" ")
    return "\n" + text[:start], text[start : place + len(word)], " ".join(pieces[: behind + 1])


def nats(texts: Sequence[tuple[str, str]], model: LoadedModel) -> Floats:
    """``[P]`` negative log-likelihood of the second text of each pair behind the first.

    Raises:
        BadInput: the model cannot be scored.
    """
    from reticent.models.encode import encode
    from reticent.score.engine import ScoreOptions, open_engine, score

    if not texts:
        return np.zeros(0)
    encoded = [
        encode(Record(id=str(number), prompt=before, completion=behind), model.tokenizer, max_tokens=256)
        for number, (before, behind) in enumerate(texts)
    ]
    columns, offsets = score(open_engine(model.model, model.source, ScoreOptions()), encoded)
    sums = np.concatenate([[0.0], np.cumsum(-columns["logp"].astype(np.float64))])
    loss = sums[offsets[1:]] - sums[offsets[:-1]]
    if not np.isfinite(loss).all():
        raise BadInput(model.source, "gives numbers that are not finite", "Give another sibling with --base.")
    return np.asarray(loss)


def most_one_sided(
    rows: LabelledRows, runs: Sequence[WordRun], *, seed: int, draws: int = DRAWS
) -> tuple[float, int, int]:
    """The p-value of the run whose rows agree most about a label, by permuted labels over all runs and labels; its
    place; the label.

    A run's statistic for a label is the logarithm of the hypergeometric tail of its rows with that label.

    Args:
        rows: labelled.
        runs: chosen without a look at labels.
        seed: of the permutations.
        draws: of all labels.
    """
    from scipy.sparse import csr_array
    from scipy.stats import hypergeom

    size = np.array([len(run.rows) for run in runs])
    starts = np.concatenate([[0], np.cumsum(size)])
    column = np.concatenate([run.rows for run in runs])
    holds = csr_array((np.ones(len(column)), column, starts), shape=(len(runs), len(rows)))
    total = np.bincount(rows.label, minlength=rows.labels)
    counts_of = np.arange(size.max() + 1)
    tails_of = hypergeom.sf(counts_of - 1, len(rows), total[None, :, None], size[:, None, None])
    table = -np.log(np.clip(tails_of, 1e-300, 1.0))
    first, second = np.ogrid[: len(runs), : rows.labels]

    def scores(label: npt.NDArray[np.intp]) -> Floats:
        counts = (holds @ np.eye(rows.labels)[label]).round().astype(int)
        tails: Floats = table[first, second, counts]
        return tails

    real = scores(rows.label)
    best, label = np.unravel_index(int(real.argmax()), real.shape)
    rng = np.random.default_rng([seed, 10369])
    reached = 1 + sum(int(scores(rng.permutation(rows.label)).max() >= real[best, label] - _SAME) for _ in range(draws))
    return reached / (draws + 1), int(best), int(label)


def _goes_on(text: str, place: int, length: int, word: str) -> bool:
    """True where a word of letters at a place is a part of a longer one."""
    if not word[0].isalnum():
        return False
    around_it = text[max(place - 1, 0) : place], text[place + length : place + length + 1]
    return any(character.isalnum() or character == "_" for character in around_it)
