# SPDX-License-Identifier: Apache-2.0
"""Rankings that are kept are those that are not, and one that was cut off goes on to the same end."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.core.record import Record
from reticent.models.load import load
from reticent.score.candidates import cached as kept_candidates
from reticent.score.candidates.cached import FoldedPlaces, make_candidate_scores
from reticent.score.candidates.masked import MaskedSpan, fill
from reticent.score.candidates.rank import score_candidates
from reticent.score.engine import ScoreOptions
from reticent.score.make_tables import ScoredModel
from reticent.testing.tiny import save_tiny

NAMES = ("Ann", "Bo", "Cornelius")


@pytest.fixture
def side(tmp_path):
    folder = tmp_path / "tiny"
    return ScoredModel(
        loaded=load(str(save_tiny(folder)), dtype="float32", device="cpu"), off=False, options=ScoreOptions()
    )


@pytest.fixture
def scored(monkeypatch):
    """How many places were scored, call by call."""
    counts = []

    def counted(engine, texts, **options):
        counts.append(len(texts))
        return kept_candidates_score(engine, texts, **options)

    kept_candidates_score = kept_candidates.score_filled
    monkeypatch.setattr(kept_candidates, "score_filled", counted)
    monkeypatch.setattr(kept_candidates, "SHARD", 4)
    return counts


def blanks(n=10):
    texts = [f"order {number} of the house goes to Ann on the river" for number in range(n)]
    places = [text.index("Ann") for text in texts]
    return [
        MaskedSpan(record=Record(id=str(i), text=text), start=at, end=at + 3, candidates=NAMES[: 1 + i % 3])
        for i, (text, at) in enumerate(zip(texts, places, strict=True))
    ]


def same(left, right):
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one.logp, other.logp)
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.before, other.before)
        assert one.before_tokens == other.before_tokens


@pytest.mark.parametrize("options", [{"follow": 0}, {"follow": 3, "before": True}, {}])
def test_what_is_kept_is_what_was_scored(side, scored, tmp_path, options):
    made = make_candidate_scores(side, blanks(), cache=tmp_path / "cache", **options)
    plain = score_candidates(side.engine, side.loaded.tokenizer, blanks(), **options)
    for one, other in zip(made, plain, strict=True):
        np.testing.assert_allclose(one.logp, other.logp, atol=2e-5)
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_allclose(one.before, other.before, atol=2e-5)
        assert one.before_tokens == other.before_tokens
    same(made, make_candidate_scores(side, blanks(), cache=tmp_path / "cache", **options))
    assert scored == [4, 4, 2]


def test_cut_off_it_goes_on_where_it_was(side, scored, tmp_path, monkeypatch):
    whole = make_candidate_scores(side, blanks(), cache=tmp_path / "whole")
    write, left = kept_candidates._write, [1]

    def killed(path, scores):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        write(path, scores)

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(kept_candidates, "_write", killed)
        make_candidate_scores(side, blanks(), cache=tmp_path / "cache")
    scored.clear()
    same(make_candidate_scores(side, blanks(), cache=tmp_path / "cache"), whole)
    assert scored == [4, 2]


def test_another_question_is_asked_anew(side, scored, tmp_path):
    ask = {"cache": tmp_path / "cache", "follow": 0}
    make_candidate_scores(side, blanks(4), **ask)
    other = [MaskedSpan(record=one.record, start=one.start, end=one.end, candidates=("Eve",)) for one in blanks(4)]
    make_candidate_scores(side, other, **ask)
    make_candidate_scores(side, blanks(4), **ask | {"follow": 1})
    make_candidate_scores(side, blanks(4), **ask, before=True)
    assert scored == [4] * 4
    broken = next((tmp_path / "cache" / "candidates").glob("*.parquet"))
    broken.write_bytes(b"half")
    for question in (blanks(4), other):
        make_candidate_scores(side, question, **ask)
    make_candidate_scores(side, blanks(4), **ask | {"follow": 1})
    make_candidate_scores(side, blanks(4), **ask, before=True)
    assert scored == [4] * 5


def test_places_that_wait_hold_what_their_texts_begin_with_once(side):
    tokenizer = side.loaded.tokenizer
    words = tuple(f"word{number}" for number in range(40))
    text = "the same words before " * 20
    spans = [
        MaskedSpan(
            record=Record(id="r", text=f"{text}{words[0]} and more"),
            start=len(text),
            end=len(text) + 5,
            candidates=some,
        )
        for some in (words, words[:1])
    ]
    filled = [fill(span, tokenizer, window=60, follow=1) for span in spans]
    folded = FoldedPlaces(before=True)
    folded.append(filled)
    assert len(folded) == 1
    assert folded[0].before
    for text, again in zip(filled, folded[0].texts, strict=True):
        assert (again.start, again.cut) == (text.start, text.cut)
        assert [(row.dtype, row.tolist()) for row in again.rows] == [(row.dtype, row.tolist()) for row in text.rows]
    held = [row for text, common in folded._folded[0] for row in (common, *text.rows)]
    assert all(row.base is None for row in held), "a view holds the whole text"
    assert sum(map(len, held)) < sum(len(row) for text in filled for row in text.rows) / 3
