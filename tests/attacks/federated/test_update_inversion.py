# SPDX-License-Identifier: Apache-2.0
"""Tokens and sentences from updates: one local step on a tiny model, what noise does, and updates that say nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from reticent.attacks.federated.inversion_measures import (
    best_tokens,
    exact_sentences,
    over_updates,
    token_auc,
    token_recall,
)
from reticent.attacks.federated.moved_rows import moved_rows
from reticent.attacks.federated.token_order import BeamSettings, PrefixReader, ordered_sentences
from reticent.attacks.federated.update_span import (
    normalised,
    row_span,
    seen_through,
    span_distances,
    span_energy,
)
from reticent.core.errors import BadInput
from reticent.testing.tiny import tiny_model

TEXT, OTHER = [40, 90, 12, 200, 77, 90], [41, 150, 3, 222, 9, 101]
RANK = 4


def lora_model(*, later: bool, rank=RANK):
    """LoRA on q, k, v; in a later round B is no longer zero."""
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "k_proj", "v_proj"], lora_dropout=0.0)
    torch.manual_seed(0)
    model = get_peft_model(tiny_model(), config)
    if later:
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
    return model


def step(model, text, *, lr=0.1, adam=False):
    """The update of one local step on a text, and the loss before it."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    start = {name: weight.detach().clone() for name, weight in trained.items()}
    optimizer = (torch.optim.AdamW if adam else torch.optim.SGD)(trained.values(), lr=1e-3 if adam else lr)
    tokens = torch.tensor([text])
    optimizer.zero_grad()
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    return {name: (weight.detach() - start[name]).numpy() for name, weight in trained.items()}


def layer(update, number, which):
    return [change for name, change in update.items() if f"layers.{number}." in name and which in name]


def candidates(model):
    core = model.base_model.model.model
    weight = core.layers[0].input_layernorm.weight.detach().numpy()
    return normalised(core.embed_tokens.weight.detach().numpy(), weight, epsilon=core.config.rms_norm_eps)


@pytest.fixture(scope="module")
def later():
    model = lora_model(later=True)
    return candidates(model), step(model, TEXT)


# ---- tokens ----


def test_one_sgd_step_of_a_later_round_tells_all_tokens(later, one_thread):
    vectors, update = later
    scores = -span_distances(vectors, row_span(layer(update, 0, "lora_A")))
    assert scores[TEXT].min() > -1e-3
    assert token_auc(scores, set(TEXT)) == pytest.approx(1.0)
    assert token_recall(scores, set(TEXT)) == 1.0
    assert sorted(best_tokens(scores, 5)) == sorted(set(TEXT))


def test_the_span_holds_the_inputs_that_the_model_really_read(later):
    """Naive twin: hooks on the projections give the inputs, least squares their distance from the rows."""
    vectors, update = later
    model, read = lora_model(later=True), []
    projection = model.base_model.model.model.layers[0].self_attn.q_proj
    hook = projection.register_forward_hook(lambda module, given, result: read.append(given[0].detach()[0].numpy()))
    model(input_ids=torch.tensor([TEXT]))
    hook.remove()
    np.testing.assert_allclose(read[0], vectors[TEXT], atol=1e-5)
    span = row_span(layer(update, 0, "lora_A"))
    rows = np.concatenate(layer(update, 0, "lora_A")).astype(float)
    for vector, distance in zip(vectors[:60], span_distances(vectors[:60], span), strict=True):
        fitted = np.linalg.lstsq(rows.T, vector, rcond=1e-4)[0] @ rows
        assert np.linalg.norm(vector - fitted) / np.linalg.norm(vector) == pytest.approx(distance, abs=2e-3)


def test_another_text_or_noise_tells_nothing(later):
    """Null: the update of another text, and noise in the place of an update, over several draws."""
    vectors, _ = later
    stranger = step(lora_model(later=True), OTHER)
    scores = -span_distances(vectors, row_span(layer(stranger, 0, "lora_A")))
    assert abs(token_auc(scores, set(TEXT)) - 0.5) < 0.25
    noise = [
        token_auc(-span_distances(vectors, row_span([np.random.default_rng(i).normal(size=(4, 32))])), set(TEXT))
        for i in range(40)
    ]
    assert abs(np.mean(noise) - 0.5) < 0.08


def test_the_first_sgd_step_moves_no_a_and_says_nothing_of_it_but_b_does():
    """B = 0: A has no gradient. B's rows hold A·input, which tells something with more rows than different tokens."""
    model = lora_model(later=False, rank=8)
    vectors = candidates(model)
    update = step(model, TEXT)
    span = row_span(layer(update, 0, "lora_A"))
    assert len(span.directions) == 0
    scores = -span_distances(vectors, span)
    assert token_auc(scores, set(TEXT)) == 0.5
    assert token_recall(scores, set(TEXT)) == pytest.approx(5 / len(scores))
    trained = dict(model.named_parameters())
    by_b = []
    for which in ("q_proj", "k_proj", "v_proj"):
        name = next(name for name in update if "layers.0." in name and which in name and "lora_B" in name)
        a_matrix = trained[name.replace("lora_B", "lora_A")].detach().numpy()
        by_b.append(span_distances(seen_through(vectors, a_matrix), row_span([update[name]])))
    assert token_auc(-np.mean(by_b, axis=0), set(TEXT)) > 0.99


def test_adamw_blurs_the_span_and_strong_directions_still_tell(later):
    vectors, _ = later
    span = row_span(layer(step(lora_model(later=True), TEXT, adam=True), 0, "lora_A"))
    assert token_auc(-span_distances(vectors, span), set(TEXT)) > 0.75
    assert token_auc(span_energy(vectors, span), set(TEXT)) > 0.75


def test_noise_on_the_update_makes_the_attack_worse_and_a_norm_bound_alone_does_not(later):
    vectors, update = later
    clean = layer(update, 0, "lora_A")
    length = np.sqrt(sum(float((change**2).sum()) for change in clean))
    aucs = []
    for multiplier in (0.0, 0.02, 0.5):
        drawn = np.random.default_rng(1)
        noised = [change + drawn.normal(scale=multiplier * length, size=change.shape) for change in clean]
        aucs.append(token_auc(span_energy(vectors, row_span(noised)), set(TEXT)))
    assert aucs[0] > aucs[1] > aucs[2]
    assert aucs[2] < 0.75
    bounded = row_span([change * (0.01 / length) for change in clean])
    scores = -span_distances(vectors, bounded)
    assert token_auc(scores, set(TEXT)) == pytest.approx(1.0)


def test_a_span_of_everything_tells_nothing():
    """With as many tokens as the model is wide, and enough rows, nothing is outside."""
    vectors = np.random.default_rng(0).normal(size=(100, 16))
    scores = -span_distances(vectors, row_span([np.random.default_rng(1).normal(size=(40, 16))]))
    assert np.abs(scores).max() < 1e-6


def test_what_is_no_update_is_refused():
    for wrong in ([], [np.zeros(3)], [np.zeros((2, 3)), np.zeros((2, 4))], [np.array([[np.nan, 1.0]])]):
        with pytest.raises(BadInput):
            row_span(wrong)
    assert row_span([np.zeros((2, 3))]).directions.shape == (0, 3)
    assert span_distances(np.zeros((1, 3)), row_span([np.ones((1, 3))])).tolist() == [1.0]


# ---- full tuning ----


@pytest.mark.parametrize(("tied", "adam"), [(False, False), (True, False), (False, True)])
def test_rows_of_the_embedding_that_moved(tied, adam):
    model = tiny_model(tied=tied)
    start = model.get_input_embeddings().weight.detach().numpy().copy()
    change = step(model, TEXT, adam=adam)["model.embed_tokens.weight"]
    moved = set(TEXT)
    scores = moved_rows(change, start)
    assert token_auc(scores, moved) > (0.99 if not tied else 0.95)
    assert abs(token_auc(scores, set(OTHER)) - 0.5) < 0.25
    if adam:
        # Decay alone moves all rows: not taken off, the longest rows look moved.
        assert (moved_rows(change) > 0).mean() > 0.9
        assert np.median(scores) < 1e-6


def test_full_tuning_shows_the_span_too():
    model = tiny_model()
    core = model.model
    vectors = normalised(
        core.embed_tokens.weight.detach().numpy(),
        core.layers[0].input_layernorm.weight.detach().numpy(),
        epsilon=core.config.rms_norm_eps,
    )
    update = step(model, TEXT)
    rows = [update[f"model.layers.0.self_attn.{which}_proj.weight"] for which in "qkv"]
    assert token_auc(-span_distances(vectors, row_span(rows, tolerance=1e-3)), set(TEXT)) > 0.99


# ---- order ----


def chain(vocabulary=8, seed=0):
    """A made-up language: each token's successors by a table, and no deeper layer."""
    table = np.log(np.random.default_rng(seed).dirichlet(np.full(vocabulary, 0.3), size=vocabulary) + 1e-9)
    return table, PrefixReader(logp=lambda prefixes: table[prefixes[:, -1]])


def naive_best(ids, table, length, fresh):
    """All sentences, one after the other."""

    def score(tokens):
        return sum(table[a, b] for a, b in itertools.pairwise(tokens)) + fresh * len(set(tokens))

    return max(itertools.product(ids, repeat=length), key=score)


def test_a_wide_beam_finds_what_looking_at_all_finds():
    for seed in range(5):
        table, reader = chain(seed=seed)
        ids = [1, 3, 4, 6]
        settings = BeamSettings(width=256, tried=4, fresh=seed / 2)
        best = ordered_sentences(np.array(ids), reader, length=4, settings=settings)[0]
        assert best.tokens == naive_best(ids, table, 4, seed / 2)
        started = ordered_sentences(np.array(ids), reader, length=4, start=(2,), settings=settings)
        assert started[0].tokens[0] == 2
        assert [sentence.score for sentence in started] == sorted((s.score for s in started), reverse=True)


def test_the_span_of_a_deeper_layer_finds_an_unlikely_text(later):
    """The tiny model has no sense of language; the inputs of layer 1 of the right beginning are in the span there."""
    vectors, update = later
    model = lora_model(later=True)
    span = row_span(layer(update, 1, "lora_A"))
    core = model.base_model.model.model
    norm = core.layers[1].input_layernorm.weight.detach().numpy()

    def read(prefixes):
        with torch.no_grad():
            return model(input_ids=torch.from_numpy(prefixes), output_hidden_states=True)

    def distance(prefixes):
        hidden = read(prefixes).hidden_states[1][:, -1].numpy()
        return span_distances(normalised(hidden, norm, epsilon=core.config.rms_norm_eps), span)

    reader = PrefixReader(
        logp=lambda prefixes: read(prefixes).logits[:, -1].log_softmax(-1).double().numpy(), distance=distance
    )
    tokens = best_tokens(-span_distances(vectors, row_span(layer(update, 0, "lora_A"))), 5)
    guesses = ordered_sentences(tokens, reader, length=len(TEXT), settings=BeamSettings(width=8, tried=8, weight=100.0))
    # The last token is anybody's guess: nothing was predicted from it.
    assert exact_sentences([guess.tokens[:-1] for guess in guesses[:1]], [tuple(TEXT[:-1])]) == 1.0
    blind = ordered_sentences(tokens, reader, length=len(TEXT), settings=BeamSettings(width=8, tried=8, weight=0.0))
    assert exact_sentences([guess.tokens[:-1] for guess in blind[:1]], [tuple(TEXT[:-1])]) == 0.0


def test_nothing_to_order_is_refused():
    _, reader = chain()
    for tokens, length, start in ((np.array([], dtype=int), 3, ()), (np.array([1]), 2, (1, 2))):
        with pytest.raises(BadInput):
            ordered_sentences(tokens, reader, length=length, start=start, settings=BeamSettings())


# ---- measures ----


def naive_auc(scores, present):
    pairs = [(scores[i], scores[j]) for i in present for j in range(len(scores)) if j not in present]
    return float(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]))


def test_measures_are_those_of_naive_loops():
    for seed in range(5):
        scores = np.random.default_rng(seed).integers(0, 4, size=30).astype(float)
        present = set(np.random.default_rng(seed + 50).choice(30, size=6, replace=False).tolist())
        assert token_auc(scores, present) == pytest.approx(naive_auc(scores, present))
        # Ties in all possible orders, on average.
        recalls = []
        for shuffle in range(800):
            order = np.lexsort((np.random.default_rng([seed, shuffle]).random(30), -scores))[:6]
            recalls.append(len(present & set(order.tolist())) / 6)
        assert token_recall(scores, present) == pytest.approx(np.mean(recalls), abs=0.04)
    for wrong in (set(), set(range(30))):
        with pytest.raises(BadInput):
            token_auc(np.zeros(30), wrong)
    estimate = over_updates([1.0, 1.0, 0.5, 0.0])
    assert estimate.lo < estimate.value == 0.625 < estimate.hi
