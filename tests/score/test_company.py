# SPDX-License-Identifier: Apache-2.0
"""A record's numbers do not depend on the records that it is read with: each pass against one text at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.encode import EncodedRecord
from reticent.models.tuning.method import TUNINGS
from reticent.score.candidates.masked import MaskedSpan
from reticent.score.candidates.rank import resolve_candidates, score_candidates
from reticent.score.engine import EVERYWHERE_ALIKE, ScoreOptions, batches, open_engine, plan_pieces, score
from reticent.score.generation.generate import continue_one, generate
from reticent.score.generation.sampled_logp import force
from reticent.score.generation.scheme import GREEDY
from reticent.score.internals.gradients import gradient_properties, trained_parameters
from reticent.score.internals.hidden import forward_properties, pooled
from reticent.testing.families import OWN, causal_families, tiny_family
from reticent.testing.tiny import tiny_tokenizer

CLOSE = 1e-4
NOT_CAUSAL = {"prophetnet", "xlnet"}
"""Listed by transformers among the causal ones, but a token's logits change with what follows it: refused."""
LENGTHS = (5, 16, 17, 18, 40, 60, 90, 23)
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0, 6.0, 8.0, 10.0],
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}

SAMPLE = {
    "gpt2": ("gpt2", {}),
    "bloom": ("bloom", {}),
    "falcon, one key": ("falcon", {"multi_query": True}),
    "falcon, alibi": ("falcon", {"alibi": True}),
    "mpt": ("mpt", {}),
    "opt": ("opt", {}),
    "gpt_neox": ("gpt_neox", {}),
    "gemma2": ("gemma2", {}),
    "mamba": ("mamba", {}),
    "rwkv": ("rwkv", {}),
    "gpt_oss": ("gpt_oss", {}),
    "roberta": ("roberta", {}),
    "phi3, longrope": ("phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 16}),
    "phimoe, longrope": ("phimoe", {"rope_parameters": {**LONGROPE, "short_mscale": 1.1, "long_mscale": 1.3}}),
    "llama, longrope": ("llama", {"rope_parameters": LONGROPE}),
    "llama, longrope late": ("llama", {"rope_parameters": {**LONGROPE, "original_max_position_embeddings": 50}}),
    "deepseek_v32, picks keys": ("deepseek_v32", {}),
    "llama, yarn": ("llama", {"rope_parameters": YARN}),
    "llama, dynamic": ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 48}),
}


def longrope(**more):
    return tiny_family("llama", rope_parameters=LONGROPE, **more)


def text(length, seed=0):
    rng = np.random.default_rng([length, seed])
    return EncodedRecord(token_id=rng.integers(3, 57, length).astype(np.int32), trained=np.ones(length, dtype=bool))


def alone(model, row):
    """Log p of every token but the first, by the model's own call on this one text."""
    ids = torch.from_numpy(row.token_id).long()[None]
    with torch.inference_mode():
        logits = model(input_ids=ids[:, :-1]).logits[0, -len(row) + 1 :]
    return logits.double().log_softmax(dim=1).gather(1, ids[0, 1:, None])[:, 0].numpy()


def worst(model, lengths=LENGTHS):
    engine = open_engine(model, "tiny", ScoreOptions())
    rows = [text(min(length, engine.choices.window)) for length in lengths]
    columns, offsets = score(engine, rows)
    found = np.split(columns["logp"], offsets[1:-1])
    return max(np.abs(mine - alone(model, row)).max() for mine, row in zip(found, rows, strict=True))


@pytest.mark.parametrize("name", SAMPLE)
def test_log_p_is_that_of_the_text_alone(name):
    family, settings = SAMPLE[name]
    assert worst(tiny_family(family, **settings)) < CLOSE


@pytest.mark.slow
def test_log_p_is_that_of_the_text_alone_in_every_family():
    """All that transformers can build tiny; `benchmarks/score_families.py` makes a table of it, with all methods."""
    found, not_built, refused = {}, [], []
    for family in causal_families():
        try:
            model = tiny_family(family)
            alone(model, text(20))
        except Exception:  # noqa: BLE001 - what transformers itself cannot build or run is counted
            not_built.append(family)
            continue
        try:
            found[family] = worst(model)
        except BadInput:
            refused.append(family)
    assert set(refused) <= NOT_CAUSAL
    assert set(OWN) - set(not_built) - set(refused) <= set(found)
    assert len(found) > 100
    assert {family: off for family, off in found.items() if not off < CLOSE} == {}


def test_in_one_batch_the_numbers_would_be_others(monkeypatch):
    """So the tests above can fail."""
    model = longrope()
    monkeypatch.setattr("reticent.score.forward.positions_of", lambda model: EVERYWHERE_ALIKE)
    monkeypatch.setattr("reticent.score.forward._same_in_company", lambda *args: True)
    assert worst(model) > 0.1


def test_a_border_that_no_configuration_tells_of_is_seen_by_the_probe(monkeypatch):
    model = longrope()
    monkeypatch.setattr("reticent.score.forward.positions_of", lambda model: EVERYWHERE_ALIKE)
    monkeypatch.setattr("reticent.score.forward._PROBE", (12, 9))
    assert open_engine(model, "tiny", ScoreOptions()).forward.positions.each_beyond == 0
    assert worst(model) < CLOSE


def test_texts_of_two_regimes_share_no_batch():
    engine = open_engine(longrope(), "tiny", ScoreOptions(tokens_per_batch=10_000))
    _, pieces = plan_pieces([text(length) for length in LENGTHS], 128)
    found = [[piece.read for piece in batch] for batch in batches(pieces, 10_000, engine.forward.positions)]
    assert found == [[89, 59, 39, 22, 17], [16, 15, 4]]
    assert [len(batch) for batch in batches(pieces, 10_000)] == [8]


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_virtual_tokens_count_as_read(method):
    model = TUNINGS.get(method)(longrope(), virtual_tokens=5)
    assert worst(model, (5, 11, 12, 13, 40)) < CLOSE


def test_states_are_those_of_the_text_alone():
    model = longrope()
    rows = [text(length) for length in LENGTHS]
    together = forward_properties(model, rows)
    for number, row in enumerate(rows):
        np.testing.assert_allclose(together.norm[number], forward_properties(model, [row]).norm[0], rtol=1e-4)
    np.testing.assert_allclose(pooled(model, rows)[0], pooled(model, rows[:1])[0], atol=1e-4)


def test_gradients_are_those_of_the_text_alone():
    model = longrope()
    rows = [text(length) for length in (14, 60, 16)]
    names = trained_parameters(model)
    both = [gradient_properties(model, rows, parameters=names, impl=impl) for impl in ("tape", "reference")]
    np.testing.assert_allclose(both[0].loss, both[1].loss, rtol=1e-4)
    np.testing.assert_allclose(both[0].square, both[1].square, rtol=1e-2, atol=1e-8)


def test_forced_passages_are_those_of_the_text_alone():
    model = longrope()
    engine = open_engine(model, "tiny", ScoreOptions())
    rows = [EncodedRecord(token_id=row.token_id, trained=np.arange(len(row)) > 2) for row in map(text, LENGTHS)]
    found = force(engine, rows, GREEDY)
    for number, row in enumerate(rows):
        mine = found.logp[found.offsets[number] : found.offsets[number + 1]]
        np.testing.assert_allclose(mine, alone(model, row)[2:], atol=CLOSE)


@pytest.mark.parametrize("border", [8, 16, 40])
def test_what_is_written_is_what_each_prefix_gives_alone(border):
    """Texts that stay on one side of the border, and texts that cross it while they are written."""
    model = tiny_family("llama", rope_parameters={**LONGROPE, "original_max_position_embeddings": border})
    rng = np.random.default_rng(0)
    prefixes = [rng.integers(3, 57, length) for length in (1, 4, 7, 10, 15, 16, 17, 30, 30, 39, 44)]
    found = generate(model, tiny_tokenizer(), prefixes, max_new_tokens=7, stop=())
    for row, prefix in enumerate(prefixes):
        assert found.of(row).tolist() == continue_one(model, prefix.tolist(), max_new_tokens=7)


def test_candidates_are_those_of_whole_texts():
    tokenizer = tiny_tokenizer()
    rope = {**LONGROPE, "original_max_position_embeddings": 40}
    model = tiny_family("llama", rope_parameters=rope, vocab_size=len(tokenizer))
    engine = open_engine(model, "tiny", ScoreOptions())
    assert resolve_candidates(engine, "auto")[0] == "tree"
    record = Record(id="r", text="The order of Ann goes to the other address, on the third.")
    names = ("Ann", "Bo", "Cornelius of the other address", "X")
    blanks = [MaskedSpan(record=record, start=13, end=16, candidates=names[:n]) for n in (4, 2)]
    for follow in (0, 5, None):
        by_tree, whole = (
            score_candidates(engine, tokenizer, blanks, follow=follow, before=True, impl=i) for i in ("tree", "whole")
        )
        for mine, true in zip(by_tree, whole, strict=True):
            np.testing.assert_allclose(mine.logp, true.logp, atol=1e-3)
            assert mine.before == pytest.approx(true.before, abs=1e-3)


@pytest.mark.parametrize("border", [2, 5, 18, 20, 23, 24])
def test_a_border_within_the_probe_is_no_reason_to_refuse(border):
    model = tiny_family("llama", rope_parameters={**LONGROPE, "original_max_position_embeddings": border})
    assert worst(model) < CLOSE


@pytest.mark.parametrize("limit", [2, 3, 20])
def test_a_model_that_reads_less_than_the_probe(limit):
    assert worst(tiny_family("gpt2", n_positions=limit)) < CLOSE


def test_a_text_beyond_the_limit_of_mpt_is_read_in_windows():
    model = tiny_family("mpt", max_seq_len=32)
    engine = open_engine(model, "tiny", ScoreOptions())
    assert engine.choices.window == 32
    columns, offsets = score(engine, [text(100), text(10)])
    assert offsets.tolist() == [0, 99, 108]
    start = EncodedRecord(token_id=text(100).token_id[:33], trained=np.ones(33, dtype=bool))
    np.testing.assert_allclose(columns["logp"][:32], alone(model, start), atol=CLOSE)
    np.testing.assert_allclose(columns["logp"][99:], alone(model, text(10)), atol=CLOSE)
