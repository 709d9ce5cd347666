# SPDX-License-Identifier: Apache-2.0
"""Generation in batches: what each prefix gives alone, read anew for every token, is the truth."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from reticent.core.errors import BadInput
from reticent.models.load import load
from reticent.score.engine import ScoreOptions
from reticent.score.generation import generate as module
from reticent.score.generation.drawing import uniforms
from reticent.score.generation.generate import GREEDY, Scheme, continue_one, generate, make_generations
from reticent.score.generation.generations import read_generations
from reticent.score.make_tables import ScoredModel
from reticent.testing.tiny import ZOO, save_tiny, tiny_of_family, tiny_tokenizer, tiny_tuned

LENGTHS = (17, 3, 9, 9, 1, 30)
NEW = 12
SAMPLED = Scheme(temperature=0.8, top_k=20, top_p=0.9)


def prefixes(lengths=LENGTHS, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(250, size=length) for length in lengths]


def models():
    yield from (pytest.param(lambda f=family: tiny_of_family(f), id=family) for family in ZOO)
    for method in ("lora", "adapter", "prompt", "prefix"):
        for family in ("gpt2", "llama"):
            yield pytest.param(lambda f=family, m=method: tiny_tuned(f, m), id=f"{family}-{method}")


@pytest.mark.parametrize("make", models())
def test_a_batch_gives_what_each_prefix_gives_alone(make):
    model = make()
    texts = prefixes()
    found = generate(model, tiny_tokenizer(), texts, max_new_tokens=NEW, stop=())
    for row, text in enumerate(texts):
        assert found.of(row).tolist() == continue_one(model, text.tolist(), max_new_tokens=NEW)


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral"])
def test_sampling_draws_by_the_uniforms_of_each_text_alone(family):
    model = tiny_of_family(family)
    texts = prefixes()
    found = generate(
        model,
        tiny_tokenizer(),
        texts,
        max_new_tokens=NEW,
        samples=3,
        scheme=SAMPLED,
        seed=5,
        stop=(),
        tokens_per_batch=90,
    )
    for row, text in enumerate(texts):
        for sample in range(3):
            chance = uniforms(5, str(row), sample, NEW)
            alone = continue_one(model, text.tolist(), max_new_tokens=NEW, scheme=SAMPLED, uniforms=chance)
            assert found.of(row, sample).tolist() == alone


def test_neither_order_nor_neighbours_change_what_a_name_gets():
    model, tokenizer = tiny_of_family("llama"), tiny_tokenizer()
    texts, names = prefixes(), list("abcdef")
    ask = {"max_new_tokens": NEW, "samples": 2, "scheme": Scheme(), "stop": ()}
    forth = generate(model, tokenizer, texts, keys=names, **ask)
    back = generate(model, tokenizer, texts[::-1], keys=names[::-1], **ask)
    some = generate(model, tokenizer, texts[2:4], keys=names[2:4], tokens_per_batch=1, **ask)
    for row in range(6):
        assert forth.of(row, 1).tolist() == back.of(5 - row, 1).tolist()
    assert some.of(0, 1).tolist() == forth.of(2, 1).tolist()
    assert forth.of(2, 0).tolist() != forth.of(2, 1).tolist()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_greedy_equals_hugging_face(family):
    model, tokenizer = tiny_of_family(family), tiny_tokenizer()
    texts = prefixes()
    mine = generate(model, tokenizer, texts, max_new_tokens=NEW)
    for row, text in enumerate(texts):
        theirs = model.generate(
            torch.as_tensor(text[None]), max_new_tokens=NEW, do_sample=False, attention_mask=torch.ones(1, len(text))
        )[0, len(text) :].tolist()
        ended = tokenizer.eos_token_id in theirs
        assert mine.of(row).tolist() == (theirs[: theirs.index(tokenizer.eos_token_id)] if ended else theirs)
        assert mine.stopped[row] == ended


def test_a_text_ends_at_a_stop_token_and_others_go_on():
    model, tokenizer = tiny_of_family("llama"), tiny_tokenizer()
    texts = prefixes()
    free = generate(model, tokenizer, texts, max_new_tokens=NEW, stop=())
    end = int(free.of(0)[4])
    cut = generate(model, tokenizer, texts, max_new_tokens=NEW, stop=(end,))
    for row in range(len(texts)):
        whole = free.of(row).tolist()
        assert cut.of(row).tolist() == (whole[: whole.index(end)] if end in whole else whole)
        assert cut.stopped[row] == (end in whole)


def test_each_prefix_may_have_a_limit_of_its_own():
    found = generate(
        tiny_of_family("gpt2"),
        tiny_tokenizer(),
        prefixes(),
        max_new_tokens=[1, 2, 3, 4, 5, 6],
        stop=(),
        tokens_per_batch=70,
    )
    assert np.diff(found.offsets).tolist() == [1, 2, 3, 4, 5, 6]


def test_logp_is_the_models_own_whatever_the_scheme():
    model = tiny_of_family("llama")
    text = prefixes((8,))[0]
    found = generate(model, tiny_tokenizer(), [text], max_new_tokens=NEW, samples=2, scheme=SAMPLED, stop=())
    whole = torch.as_tensor(np.concatenate([text, found.of(0, 1)])[None])
    with torch.inference_mode():
        logp = model(input_ids=whole).logits[0].log_softmax(dim=1)
    true = logp[len(text) - 1 : -1].gather(1, whole[0, len(text) :, None])[:, 0]
    np.testing.assert_allclose(found.logp[NEW:], true.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.nll[1], -float(true.sum()), rtol=1e-5)


def test_what_is_drawn_follows_the_distribution():
    """One token after one prefix, 4,000 times: a χ² test that one seed in 10⁶ would fail; the seed is fixed."""
    model = tiny_of_family("llama")
    text = prefixes((8,))[0]
    scheme = Scheme(temperature=0.7, top_k=12)
    found = generate(model, tiny_tokenizer(), [text], max_new_tokens=1, samples=4000, scheme=scheme, stop=())
    with torch.inference_mode():
        logits = model(input_ids=torch.as_tensor(text[None])).logits[:, -1] / 0.7
    best = logits[0].topk(12)
    share = best.values.double().softmax(dim=0).numpy()
    count = np.array([(found.token_id == token).sum() for token in best.indices.tolist()])
    assert count.sum() == 4000
    assert chisquare(count, 4000 * share).pvalue > 1e-6


def test_a_model_that_cannot_keep_what_it_read_is_read_again(monkeypatch):
    model, texts = tiny_of_family("llama"), prefixes()
    fast = generate(model, tiny_tokenizer(), texts, max_new_tokens=NEW, samples=2, scheme=Scheme(), stop=())
    monkeypatch.setattr(module, "_agrees", lambda decoder: False)
    slow = generate(model, tiny_tokenizer(), texts, max_new_tokens=NEW, samples=2, scheme=Scheme(), stop=())
    assert fast.token_id.tolist() == slow.token_id.tolist()
    np.testing.assert_allclose(fast.logp, slow.logp, atol=1e-4)


def test_the_probe_finds_positions_that_are_off(monkeypatch):
    model = tiny_of_family("gpt2")
    assert isinstance(module.open_decoder(model), module.CachedDecoder)
    assert module.open_decoder(model).pads
    monkeypatch.setattr(module.CachedDecoder, "_step", _without_positions)
    assert module.open_decoder(model).pads is False


def _without_positions(self, model, token_id):
    more = {"attention_mask": self.mask} if self.mask is not None else {}
    if self.past is not None:
        more["past_key_values"] = self.past
    out = model(input_ids=token_id, use_cache=True, **more)
    self.past = out.past_key_values
    return out.logits[:, -1]


def test_what_cannot_be_continued_is_refused():
    model, tokenizer = tiny_of_family("gpt2"), tiny_tokenizer()
    with pytest.raises(BadInput, match="is empty"):
        generate(model, tokenizer, [[]], max_new_tokens=1)
    with pytest.raises(BadInput, match="more than the 512 tokens"):
        generate(model, tokenizer, [[1] * 510], max_new_tokens=3)
    with pytest.raises(BadInput, match="beyond"):
        generate(model, tokenizer, [[10**6]], max_new_tokens=3)
    with pytest.raises(BadInput, match="all the same"):
        generate(model, tokenizer, [[1]], max_new_tokens=3, samples=2)
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(torch.nan)
    with pytest.raises(BadInput, match="not numbers"):
        generate(model, tokenizer, [[1]], max_new_tokens=3)


def side(folder: Path) -> ScoredModel:
    return ScoredModel(
        loaded=load(str(save_tiny(folder)), dtype="float32", device="cpu"), off=False, options=ScoreOptions()
    )


def test_a_killed_run_goes_on_to_the_same_texts(tmp_path, monkeypatch):
    one = side(tmp_path / "model")
    texts = prefixes((9, 4, 7, 5, 8, 6))
    ask = {"max_new_tokens": NEW, "samples": 2, "scheme": SAMPLED, "seed": 3}
    whole = generate(one.loaded.model, one.loaded.tokenizer, texts, **ask)
    monkeypatch.setattr(module, "_SHARD_TOKENS", 2 * NEW)
    run, calls = module._generate, []

    def killed(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(*args)

    monkeypatch.setattr(module, "_generate", killed)
    with pytest.raises(KeyboardInterrupt):
        make_generations(one, texts, cache=tmp_path / "cache", **ask)
    again = make_generations(one, texts, cache=tmp_path / "cache", **ask)
    assert len(calls) == 7  # two finished, one killed, four left
    kept = make_generations(one, texts, cache=tmp_path / "cache", **ask)
    assert len(calls) == 7
    for found in (again, kept):
        for name in ("row", "sample", "stopped", "token_id", "offsets"):
            assert getattr(found, name).tolist() == getattr(whole, name).tolist(), name


def test_generations_survive_the_file(tmp_path):
    model, tokenizer = tiny_of_family("llama"), tiny_tokenizer()
    made = generate(model, tokenizer, prefixes(), max_new_tokens=3, samples=2, scheme=Scheme())
    made.write(tmp_path / "g.parquet")
    read = read_generations(tmp_path / "g.parquet")
    for name in ("row", "sample", "stopped", "token_id", "logp", "offsets"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    assert read.texts(tokenizer) == made.texts(tokenizer)
    assert len(read.texts(tokenizer)) == 12


def test_no_prefixes_give_no_texts():
    found = generate(tiny_of_family("llama"), tiny_tokenizer(), [], max_new_tokens=3)
    assert len(found) == 0
    assert found.samples == 0
    assert GREEDY.greedy


def test_texts_that_wait_hold_no_second_copy_of_what_stands_before_them(tmp_path, monkeypatch):
    class Asked(Exception):
        pass

    class Nobody:
        def fill(self, work, advance):
            raise Asked

    side = ScoredModel(
        loaded=load(str(save_tiny(tmp_path / "tiny")), dtype="float32", device="cpu"), off=False, options=ScoreOptions()
    )
    assert side.key
    texts = [np.full(400, 7, dtype=np.int64) for _ in range(300)]
    monkeypatch.setattr(module, "worker", Nobody)
    monkeypatch.setattr(module, "_SHARD_TOKENS", 8)
    tracemalloc.start()
    try:
        with pytest.raises(Asked):
            make_generations(side, texts, max_new_tokens=1, samples=8, scheme=SAMPLED, cache=tmp_path / "cache")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000  # a list for each text would be 7.7 million bytes
    finally:
        tracemalloc.stop()
