# SPDX-License-Identifier: Apache-2.0
"""The batched, windowed, chunked pass against the model called on one text at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.schema import TOKEN_COLUMNS
from reticent.models.encode import EncodedRecord
from reticent.score.engine import ScoreOptions, batches, choose, open_engine, plan_pieces, score
from reticent.score.token_stats import token_stats
from reticent.score.windows import windows
from reticent.testing.tiny import tiny_model


def text(length, seed=0, trained=1.0):
    rng = np.random.default_rng([length, seed])
    return EncodedRecord(token_id=rng.integers(0, 280, length).astype(np.int32), trained=rng.random(length) < trained)


def one_by_one(model, row, window):
    """Each window alone through the whole model, statistics by the reference."""
    found = {}
    for start, first, stop in windows(len(row), window):
        ids = torch.from_numpy(row.token_id[start : stop - 1]).long()[None]
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0]
        stats = token_stats(logits, row.token_id[start + 1 : stop].astype(np.int64), impl="reference")
        for i, token in enumerate(range(start + 1, stop)):
            if token >= first and row.trained[token]:
                found[token] = (stats.logp[i], stats.rank[i], stats.mu[i], stats.sigma[i])
    return np.array([found[token] for token in sorted(found)]).reshape(-1, 4)


ROWS = [
    text(30),
    text(1),
    text(0),
    text(75, trained=0.3),
    text(12, trained=0.0),
    text(2),
    text(50, seed=1),
    EncodedRecord(token_id=np.arange(60, dtype=np.int32), trained=np.arange(60) >= 40),
]


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
@pytest.mark.parametrize(("window", "tokens_per_batch"), [(None, None), (16, 64), (16, 1), (7, 1000)])
def test_equals_one_text_at_a_time(arch, window, tokens_per_batch):
    model = tiny_model(arch)
    engine = open_engine(model, arch, ScoreOptions(window=window, tokens_per_batch=tokens_per_batch))
    done = []
    columns, offsets = score(engine, ROWS, done.append)
    assert sum(done) == len(ROWS)
    assert {name: column.dtype for name, column in columns.items()} == {
        name: np.dtype(column.dtype) for name, column in TOKEN_COLUMNS.items()
    }
    for row, start, end in zip(ROWS, offsets, offsets[1:], strict=False):
        truth = one_by_one(model, row, engine.choices.window)
        assert end - start == len(truth) == row.trained[1:].sum()
        np.testing.assert_array_equal(columns["token_id"][start:end], row.token_id[1:][row.trained[1:]])
        np.testing.assert_array_equal(columns["rank"][start:end], truth[:, 1])
        for name, i in (("logp", 0), ("mu", 2), ("sigma", 3)):
            np.testing.assert_allclose(columns[name][start:end], truth[:, i], atol=2e-5)
    np.testing.assert_array_equal(columns["entropy"], -columns["mu"])
    assert columns["loss_mask"].all()


def test_the_same_call_gives_the_same_bytes():
    engine = open_engine(tiny_model(), "tiny", ScoreOptions())
    first, again = (score(engine, ROWS)[0] for _ in range(2))
    for name, column in first.items():
        assert column.tobytes() == again[name].tobytes()


def test_a_hundred_thousand_tokens():
    engine = open_engine(tiny_model(), "tiny", ScoreOptions())
    columns, offsets = score(engine, [text(100_000)])
    assert list(offsets) == [0, text(100_000).trained[1:].sum()]
    assert (columns["logp"] < 0).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from([0.0, 0.2, 1.0])), max_size=12), st.integers(2, 30))
def test_pieces_predict_every_trained_token_once_and_read_no_more_than_needed(shapes, window):
    rows = [text(length, i, trained) for i, (length, trained) in enumerate(shapes)]
    offsets, pieces = plan_pieces(rows, window)
    predicted = sorted((p.row, int(t)) for p in pieces for t in p.start + p.where + 1)
    wanted = [(i, int(t)) for i, row in enumerate(rows) for t in np.flatnonzero(row.trained) if t > 0]
    assert predicted == wanted
    places = sorted(i for piece in pieces for i in range(piece.out.start, piece.out.stop))
    assert places == list(range(offsets[-1]))
    assert all(piece.read == piece.where[-1] + 1 <= window for piece in pieces)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(2, 60), max_size=20), st.integers(1, 200))
def test_batches_keep_to_the_budget(lengths, tokens):
    _, pieces = plan_pieces([text(length, i) for i, length in enumerate(lengths)], 64)
    found = list(batches(pieces, tokens))
    assert sorted(p.row for batch in found for p in batch) == sorted(p.row for p in pieces)
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(p.read for p in batch) <= tokens
        assert batch[0].read == max(p.read for p in batch)


def test_tokens_that_the_model_does_not_know_are_refused():
    engine = open_engine(tiny_model(vocab_size=300), "tiny", ScoreOptions())
    row = EncodedRecord(token_id=np.array([1, 2, 300], dtype=np.int32), trained=np.ones(3, dtype=np.bool_))
    with pytest.raises(BadInput, match="token 300: is not among the 300 tokens"):
        score(engine, [row])


def test_a_window_beyond_what_the_model_reads_is_refused():
    with pytest.raises(BadInput, match="reads at most 512"):
        choose(tiny_model(), "tiny", ScoreOptions(window=513))
    assert choose(tiny_model(), "tiny", ScoreOptions()).window == 512


@pytest.mark.parametrize("bad", [{"window": 1}, {"max_tokens": 0}, {"tokens_per_batch": -4}])
def test_impossible_options_are_refused(bad):
    with pytest.raises(BadInput):
        ScoreOptions(**bad)
