# SPDX-License-Identifier: Apache-2.0
"""What is read once for all candidates gives what the model says of each whole text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.adapters import switched_off
from reticent.models.encode import encode
from reticent.score.candidates.masked import FilledSpan, MaskedSpan, fill
from reticent.score.candidates.rank import resolve_candidates, score_candidates, score_filled
from reticent.score.engine import ScoreOptions, open_engine
from reticent.testing.tiny import tiny_model, tiny_of_family, tiny_tokenizer, tiny_tuned

TEXT = "The order of Ann goes to ann@example.org and to the other address, on the third of the month."
NAMES = ("Ann", "to", "Anna", "Bo", "theo", "An", "Cornelius")
MAILS = ("ann@example.org", "ann@example.com", "bob@example.org", "in", "inn@e.org")


def blanks(text=TEXT):
    record = Record(id="r", text=text)
    name, mail = text.index("Ann"), text.index("ann@")
    return [
        MaskedSpan(record=record, start=name, end=name + 3, candidates=NAMES),
        MaskedSpan(record=record, start=mail, end=mail + 15, candidates=MAILS),
        MaskedSpan(record=record, start=name, end=name + 3, candidates=("Bo",)),
    ]


def engine(model, **options):
    return open_engine(model, "tiny", ScoreOptions(**options))


def one_by_one(model, tokenizer, blank):
    """``[C]``: log p of each whole text but its first token, one text after the other."""
    totals = []
    for candidate in blank.candidates:
        ids = torch.from_numpy(encode(blank.filled(candidate), tokenizer).token_id).long()
        with torch.inference_mode():
            logp = model(input_ids=ids[None]).logits[0].double().log_softmax(dim=1)
        totals.append(float(logp[:-1].gather(1, ids[1:, None]).sum()))
    return np.array(totals)


MODELS = {
    "gpt2": lambda: tiny_model("gpt2"),
    "llama tied, grouped queries": lambda: tiny_model("llama"),
    "llama untied": lambda: tiny_model("llama", tied=False),
    "qwen3": lambda: tiny_of_family("qwen3"),
    "lora on llama": lambda: tiny_tuned("llama", "lora"),
    "lora on gpt2": lambda: tiny_tuned("gpt2", "lora"),
    "bottlenecks on llama": lambda: tiny_tuned("llama", "adapter"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bos", [False, True])
def test_both_ways_give_what_whole_texts_give(name, bos):
    model, tokenizer = MODELS[name](), tiny_tokenizer(bos=bos)
    ready = engine(model)
    assert resolve_candidates(ready, "auto")[0] == "tree"
    tree, whole = (score_candidates(ready, tokenizer, blanks(), before=True, impl=impl) for impl in ("tree", "whole"))
    for blank, fast, slow in zip(blanks(), tree, whole, strict=True):
        truth = one_by_one(model, tokenizer, blank)
        for one in (fast, slow):
            np.testing.assert_allclose(one.before + one.logp, truth, atol=1e-4)
        np.testing.assert_allclose(fast.logp, slow.logp, atol=3e-5)
        np.testing.assert_array_equal(fast.tokens, slow.tokens)
        assert fast.before_tokens == slow.before_tokens
        np.testing.assert_array_equal(np.argsort(fast.logp), np.argsort(slow.logp))
        lengths = np.array([len(encode(blank.filled(c), tokenizer)) for c in blank.candidates])
        np.testing.assert_allclose(fast.perplexity, np.exp(-truth / (lengths - 1)), rtol=1e-5)


def test_an_adapter_that_is_switched_off():
    model, tokenizer = tiny_tuned("llama", "lora"), tiny_tokenizer()
    with switched_off(model):
        ready = engine(model)
        off = score_candidates(ready, tokenizer, blanks(), impl="tree")
    base = score_candidates(engine(tiny_of_family("llama")), tokenizer, blanks(), impl="whole")
    on = score_candidates(engine(model), tokenizer, blanks(), impl="tree")
    np.testing.assert_allclose(off[0].logp, base[0].logp, atol=3e-5)
    assert np.abs(on[0].logp - off[0].logp).max() > 0.01


def test_only_the_candidate_and_a_few_tokens_behind_it():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    for follow in (0, 4):
        tree, whole = (
            score_candidates(engine(model), tokenizer, blanks(), follow=follow, impl=impl) for impl in ("tree", "whole")
        )
        for fast, slow in zip(tree, whole, strict=True):
            np.testing.assert_allclose(fast.logp, slow.logp, atol=3e-5)
            assert np.isnan(fast.before)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.text("ab the", min_size=1, max_size=12), min_size=1, max_size=9, unique=True),
    st.text("the ab", min_size=1, max_size=30),
    st.text("the ab", max_size=30),
    st.sampled_from([1, 40, 2048]),
)
def test_any_candidates_in_any_text(candidates, before, after, tokens_per_batch):
    record = Record(id="r", text=f"{before}x{after}")
    blank = MaskedSpan(record=record, start=len(before), end=len(before) + 1, candidates=tuple(candidates))
    ready = engine(tiny_model(), tokens_per_batch=tokens_per_batch)
    given = [blank, *blanks(), blank]
    try:
        fill(blank, tiny_tokenizer(), window=512)
    except BadInput:
        assume(False)  # the first token of all joins text and candidate, so nothing stands before it
    tree, whole = (score_candidates(ready, tiny_tokenizer(), given, impl=impl) for impl in ("tree", "whole"))
    for fast, slow in zip(tree, whole, strict=True):
        np.testing.assert_allclose(fast.logp, slow.logp, atol=5e-5)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.integers(5, 9), min_size=2, max_size=7), min_size=1, max_size=9), st.data())
def test_rows_that_count_from_tokens_of_their_own(ends, data):
    model, head = tiny_model(), [11, 12, 13]
    rows = tuple(np.array(head + end, dtype=np.int32) for end in ends)
    first = tuple(data.draw(st.integers(3, len(row) - 1)) for row in rows)
    text = FilledSpan(rows=rows, start=3, cut=0, first=first)
    tree, whole = (score_filled(engine(model), [text], impl=impl)[0] for impl in ("tree", "whole"))
    for number, row in enumerate(rows):
        ids = torch.from_numpy(row).long()
        with torch.inference_mode():
            logp = model(input_ids=ids[None]).logits[0].double().log_softmax(dim=1)
        naive = float(logp[:-1].gather(1, ids[1:, None])[first[number] - 1 :].sum())
        for scores in (tree, whole):
            assert scores.logp[number] == pytest.approx(naive, abs=5e-5)
            assert scores.tokens[number] == len(row) - first[number]


def test_trees_that_are_read_in_parts(monkeypatch):
    monkeypatch.setattr("reticent.score.candidates.rank._TREE_TOKENS", {"cpu": 20, "cuda": 20})
    done = []
    ready = engine(tiny_model())
    tree = score_candidates(ready, tiny_tokenizer(), blanks(), impl="tree", advance=done.append)
    whole = score_candidates(ready, tiny_tokenizer(), blanks(), impl="whole")
    assert sum(done) == len(tree) == 3
    for fast, slow in zip(tree, whole, strict=True):
        np.testing.assert_allclose(fast.logp, slow.logp, atol=5e-5)


def test_texts_longer_than_the_window():
    ready = engine(tiny_model(), window=90)
    text = "the order " * 30 + TEXT
    tree, whole = (
        score_candidates(ready, tiny_tokenizer(), blanks(text)[:2], follow=3, before=True, impl=impl)
        for impl in ("tree", "whole")
    )
    for fast, slow in zip(tree, whole, strict=True):
        np.testing.assert_allclose(fast.logp, slow.logp, atol=5e-5)
        assert fast.before_tokens == slow.before_tokens < 90


def test_models_that_cannot_be_read_as_a_tree_are_scored_whole():
    for method in ("prefix", "prompt"):
        ready = engine(tiny_tuned("llama", method))
        way, why = resolve_candidates(ready, "auto")
        assert way == "whole"
        assert "virtual tokens" in why
        with pytest.raises(BadInput, match="virtual tokens"):
            score_candidates(ready, tiny_tokenizer(), blanks(), impl="tree")


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3"])
def test_beyond_a_sliding_window_texts_are_scored_whole(family):
    model = tiny_of_family(family)
    narrow = engine(model)
    assert resolve_candidates(narrow, "auto") == ("whole", "the model gives other numbers by it")
    wide = _with_window(tiny_of_family(family), 96)
    ready = engine(wide)
    assert resolve_candidates(ready, "auto")[0] == "tree"
    for text in (TEXT, "the order " * 30 + TEXT):
        tree, whole = (score_candidates(ready, tiny_tokenizer(), blanks(text), impl=i) for i in ("tree", "whole"))
        for fast, slow in zip(tree, whole, strict=True):
            np.testing.assert_allclose(fast.logp, slow.logp, atol=5e-5)


def _with_window(model, size):
    model.config.sliding_window = size
    for module in model.modules():
        if getattr(module, "sliding_window", None) is not None:
            module.sliding_window = size
    return model


def test_bfloat16_ranks_nearly_alike():
    ready = engine(tiny_model().to(torch.bfloat16))
    tree, whole = (score_candidates(ready, tiny_tokenizer(), blanks(), follow=0, impl=i) for i in ("auto", "whole"))
    assert resolve_candidates(ready, "auto")[0] == "tree"
    for fast, slow in zip(tree, whole, strict=True):
        np.testing.assert_allclose(fast.logp, slow.logp, atol=0.2)


def test_bad_settings_are_refused():
    ready = engine(tiny_model(vocab_size=278))
    with pytest.raises(BadInput, match="token 278: is not among the 278"):
        score_candidates(ready, tiny_tokenizer(bos=True), blanks(), impl="whole")
    with pytest.raises(BadInput, match="follow"):
        score_candidates(ready, tiny_tokenizer(), blanks(), follow=-1)
    with pytest.raises(BadInput, match="impl"):
        resolve_candidates(ready, "quick")
