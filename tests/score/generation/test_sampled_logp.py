# SPDX-License-Identifier: Apache-2.0
"""The probability of a passage under a sampling scheme: against the definition, Hugging Face and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from reticent.attacks.extraction.probabilistic_np import chance_within
from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.score.engine import ScoreOptions, open_engine
from reticent.score.generation.generate import generate
from reticent.score.generation.sampled_logp import force, force_one, scheme_logp
from reticent.score.generation.scheme import GREEDY, Scheme
from reticent.testing.tiny import tiny_of_family, tiny_tokenizer

SCHEMES = [
    Scheme(),
    Scheme(temperature=0.6),
    Scheme(top_k=5),
    Scheme(top_p=0.7),
    Scheme(temperature=1.3, top_k=30, top_p=0.8),
    GREEDY,
]


def rows(lengths=(12, 5, 20), passage=4, seed=0):
    rng = np.random.default_rng(seed)
    return [
        EncodedRecord(token_id=rng.integers(250, size=n).astype(np.int32), trained=np.arange(n) >= n - passage)
        for n in lengths
    ]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_one_pass_gives_what_reading_token_by_token_gives(family, scheme):
    model = tiny_of_family(family)
    found = force(open_engine(model, "tiny", ScoreOptions()), rows(), scheme)
    slow = [force_one(model, row.token_id.tolist(), 4, scheme) for row in rows()]
    assert found.rank.tolist() == [rank for ranks, _, _ in slow for rank in ranks]
    np.testing.assert_allclose(found.logp, np.concatenate([logp for _, logp, _ in slow]), atol=1e-4)
    np.testing.assert_allclose(found.sampled_logp, np.concatenate([drawn for _, _, drawn in slow]), atol=1e-4)


@pytest.mark.parametrize("scheme", [one for one in SCHEMES if not one.greedy], ids=str)
def test_the_scheme_is_that_of_hugging_face(scheme):
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(1)) * 3
    theirs = TemperatureLogitsWarper(scheme.temperature)(None, logits)
    if scheme.top_k is not None:
        theirs = TopKLogitsWarper(scheme.top_k)(None, theirs)
    if scheme.top_p is not None:
        theirs = TopPLogitsWarper(scheme.top_p)(None, theirs)
    torch.testing.assert_close(scheme_logp(logits, scheme), theirs.log_softmax(dim=1))


def test_equally_likely_tokens_stay_together():
    logits = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    share = scheme_logp(logits, Scheme(top_k=2)).exp()[0]
    assert (share > 0).tolist() == [True, True, True, False]
    share = scheme_logp(logits, Scheme(top_p=0.62)).exp()[0]  # the first has 0.61
    assert (share > 0).tolist() == [True, True, True, False]
    assert scheme_logp(torch.tensor([[1.0, 3.0, 3.0]]), GREEDY).exp().tolist() == [[0, 1, 0]]


def test_of_equal_logits_the_lower_id_counts_as_taken_first():
    model = tiny_of_family("gpt2")
    with torch.no_grad():
        model.transformer.wte.weight.zero_()  # tied: all logits are equal
    found = force(open_engine(model, "tiny", ScoreOptions()), rows(), Scheme())
    gold = np.concatenate([row.token_id[row.trained] for row in rows()])
    assert found.rank.tolist() == gold.tolist()


@pytest.mark.parametrize("scheme", [Scheme(), Scheme(temperature=0.7, top_k=10), Scheme(top_p=0.8)], ids=str)
def test_the_chance_within_n_queries_is_what_sampling_finds(scheme):
    """4,000 continuations of one prefix: how often they are the passage, and how often one of n = 20 is.

    Each count lies in its 99.9 % binomial interval, for five passages: a right method fails one seed in about 100;
    the seed is fixed.
    """
    model, tokenizer = tiny_of_family("llama"), tiny_tokenizer()
    prefix = rows((10,))[0].token_id
    ask = {"max_new_tokens": 2, "scheme": scheme, "stop": ()}
    drawn = generate(model, tokenizer, [prefix], samples=4000, seed=1, **ask).token_id.reshape(-1, 2)
    seen = generate(model, tokenizer, [prefix], samples=5, seed=2, **ask).token_id.reshape(-1, 2)
    texts = [EncodedRecord(token_id=np.concatenate([prefix, passage]), trained=np.arange(12) >= 10) for passage in seen]
    log_chance = force(open_engine(model, "tiny", ScoreOptions()), texts, scheme).log_chance
    within = chance_within(log_chance, 20)
    for passage, one, many in zip(seen, np.exp(log_chance), within, strict=True):
        hit = (drawn == passage).all(axis=1)
        lo, hi = binom.interval(0.999, 4000, one)
        assert lo <= hit.sum() <= hi
        lo, hi = binom.interval(0.999, 200, many)
        assert lo <= hit.reshape(200, 20).any(axis=1).sum() <= hi


def test_all_continuations_together_have_probability_one():
    model = tiny_of_family("gpt2")
    prefix = rows((6,))[0].token_id
    texts = [
        EncodedRecord(token_id=np.append(prefix, token).astype(np.int32), trained=np.arange(7) == 6)
        for token in range(len(tiny_tokenizer()))
    ]
    found = force(open_engine(model, "tiny", ScoreOptions()), texts, Scheme(temperature=0.9, top_k=17))
    assert math.isclose(math.fsum(np.exp(found.log_chance)), 1.0, rel_tol=1e-5)
    assert np.isfinite(found.sampled_logp).sum() == 17


def test_a_passage_without_anything_before_it_is_refused():
    engine = open_engine(tiny_of_family("gpt2"), "tiny", ScoreOptions())
    with pytest.raises(BadInput, match="no token before it"):
        force(engine, [EncodedRecord(token_id=np.arange(3, dtype=np.int32), trained=np.ones(3, dtype=bool))], Scheme())
