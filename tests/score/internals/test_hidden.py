# SPDX-License-Identifier: Apache-2.0
"""Batched, windowed, pooled states against the model called on one text at a time."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.models.adapters import switched_off
from reticent.models.encode import EncodedRecord
from reticent.score.engine import ScoreOptions
from reticent.score.internals import hidden
from reticent.score.internals.hidden import forward_properties, pooled
from reticent.score.windows import windows
from reticent.testing.tiny import LAYERS, tiny_model, tiny_of_family, tiny_tuned


def text(length, seed=0, prompt=0):
    rng = np.random.default_rng([length, seed])
    return EncodedRecord(token_id=rng.integers(0, 280, length).astype(np.int32), trained=np.arange(length) >= prompt)


ROWS = [text(9), text(30, prompt=20), text(2), text(17, seed=1), text(30), text(12, prompt=11)]


def states_of(model, row):
    """``[L, T, D]`` of a text alone, by hooks; every block but the last also as the model itself reports it."""
    caught = []
    blocks = hidden.transformer_blocks(model)
    handles = [
        block.register_forward_hook(lambda m, a, out: caught.append(out[0] if isinstance(out, tuple) else out))
        for block in blocks
    ]
    with torch.inference_mode():
        out = model(input_ids=torch.from_numpy(row.token_id.astype(np.int64))[None], output_hidden_states=True)
    for handle in handles:
        handle.remove()
    for place in range(len(blocks) - 1):
        torch.testing.assert_close(caught[place], out.hidden_states[place + 1])
    return torch.stack([one[0, -len(row) :] for one in caught]).double().numpy(), out.logits[0, -len(row) :].double()


def places(row):
    return np.flatnonzero(row.trained[1:]) + 1


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("budget", [1, 64, 2048])
def test_pooled_equals_one_text_at_a_time(family, budget):
    model = tiny_of_family(family)
    options = ScoreOptions(tokens_per_batch=budget)
    mean, last = (pooled(model, ROWS, pool=pool, options=options) for pool in ("mean", "last"))
    assert mean.shape == (len(ROWS), LAYERS, 32)
    assert mean.dtype == np.float32
    for number, row in enumerate(ROWS):
        states, _ = states_of(model, row)
        np.testing.assert_allclose(mean[number], states[:, places(row)].mean(axis=1), atol=2e-5)
        np.testing.assert_allclose(last[number], states[:, places(row)[-1]], atol=2e-5)


def test_chosen_layers_come_in_their_order():
    model = tiny_model()
    every = pooled(model, ROWS)
    np.testing.assert_array_equal(pooled(model, ROWS, [-1, 0]), every[:, [1, 0]])
    with pytest.raises(BadInput, match="blocks"):
        pooled(model, ROWS, [2])


def test_a_text_without_states_is_refused():
    with pytest.raises(BadInput, match="record number 1"):
        pooled(tiny_model(), [text(5), text(1)])


def test_windows_pool_every_trained_token_once():
    model = tiny_model()
    row = text(40, prompt=3)
    found = pooled(model, [row], options=ScoreOptions(window=16))
    total = np.zeros((LAYERS, 32))
    for start, first, stop in windows(40, 15):
        states, _ = states_of(model, EncodedRecord(token_id=row.token_id[start:stop], trained=row.trained[start:stop]))
        total += sum(states[:, token - start] for token in range(first, stop) if row.trained[token])
    np.testing.assert_allclose(found[0], total / 37, atol=2e-5)


@pytest.mark.parametrize("method", ["lora", "prompt", "full"])
def test_properties_equal_the_definitions(method, monkeypatch):
    monkeypatch.setattr(hidden, "_AT_ONCE", 4)
    model = tiny_tuned("llama", method)
    before = tiny_of_family("llama", seed=3) if method == "full" else None
    base = (lambda: nullcontext(before)) if before is not None else (lambda: _off(model))
    found = forward_properties(model, ROWS, base=base)
    for number, row in enumerate(ROWS):
        mine, logits = states_of(model, row)
        with base() as beneath:
            theirs, logits_of_base = states_of(beneath, row)
        at = places(row)
        one, other = mine[:, at].mean(axis=1), theirs[:, at].mean(axis=1)
        lengths = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
        np.testing.assert_allclose(found.norm[number], lengths[0], rtol=1e-4)
        np.testing.assert_allclose(found.moved[number], np.linalg.norm(one - other, axis=1), rtol=1e-3)
        np.testing.assert_allclose(found.cosine[number], (one * other).sum(1) / lengths[0] / lengths[1], atol=1e-4)
        gold = torch.from_numpy(row.token_id[at].astype(np.int64))[:, None]
        logp, logp_of_base = (torch.log_softmax(x[at - 1], -1) for x in (logits, logits_of_base))
        own = logp.gather(1, gold)[:, 0]
        assert found.loss[number] == pytest.approx(-float(own.mean()), abs=1e-4)
        assert found.gain[number] == pytest.approx(float(logp_of_base.gather(1, gold).mean() - own.mean()), abs=1e-4)
        assert found.entropy[number] == pytest.approx(-float((logp.exp() * logp).sum(1).mean()), abs=1e-4)
        margin = own - logp.scatter(1, gold, -torch.inf).amax(1)
        assert found.margin_mean[number] == pytest.approx(float(margin.mean()), abs=1e-4)
        assert found.margin_min[number] == pytest.approx(float(margin.min()), abs=1e-4)


def test_without_a_base_nothing_compares_with_it():
    found = forward_properties(tiny_model(), ROWS)
    assert found.gain is found.cosine is found.moved is None
    names = set(found.columns())
    assert names == {"loss", "entropy", "margin_mean", "margin_min", "hidden_norm.0", "hidden_norm.1"}
    assert all(column.shape == (len(ROWS),) and np.isfinite(column).all() for column in found.columns().values())


def _off(model):
    class Off:
        def __enter__(self):
            self.context = switched_off(model)
            self.context.__enter__()
            return model

        def __exit__(self, *error):
            self.context.__exit__(*error)

    return Off()
