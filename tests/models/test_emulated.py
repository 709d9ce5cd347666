# SPDX-License-Identifier: Apache-2.0
"""An ensemble of three models answers as its definition says, whatever way it is asked, and as one of them where it is
one of them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.models import emulated
from reticent.models.anatomy import transformer_blocks
from reticent.models.blended_logits import ABSENT, blend, blend_naive
from reticent.models.context import Positions, context_length, positions_of
from reticent.models.emulated import EmulatedModel, Reading
from reticent.models.emulation import EmulationConfig
from reticent.models.encode import EncodedRecord
from reticent.models.same_tokens import refuse_other_tokens, small_ids, unknown_tokens
from reticent.score.candidates.masked import FilledSpan
from reticent.score.candidates.rank import resolve_candidates, score_filled
from reticent.score.engine import ScoreOptions, open_engine, score
from reticent.score.generation.generate import CachedDecoder, RecomputingDecoder, continue_one, generate, open_decoder
from reticent.score.internals.gradients import trained_parameters
from reticent.testing.tiny import ZOO, tiny_model, tiny_of_family, tiny_tokenizer, tiny_tuned

CONFIGS = {
    "half": EmulationConfig(beta=0.3),
    "whole": EmulationConfig(),
    "twice": EmulationConfig(beta=2.0),
    "capped": EmulationConfig(beta=1.5, cap=0.4),
    "filtered": EmulationConfig(beta=0.7, top_p=0.5),
    "both": EmulationConfig(beta=2.0, cap=1.0, top_p=0.9),
}
CLOSE = 2e-5
"""Nats: three rows of logits of up to ±10 in float32, added up in another order."""


def moved(model: Any, by: float = 0.05) -> Any:
    """A tuned model: the same with other weights."""
    tuned = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight.add_(by * torch.randn(weight.shape, generator=generator))
    return tuned.eval()


def ids(rows: int = 2, length: int = 14, vocabulary: int = 256) -> torch.Tensor:
    return torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(rows * length))


@pytest.fixture(scope="module")
def three() -> tuple[Any, Any, Any]:
    base = tiny_model(seed=0)
    return tiny_model("gpt2", tied=False, seed=7), moved(base), base


def ensemble(models: tuple[Any, Any, Any], config: EmulationConfig | None = None, **more: Any) -> EmulatedModel:
    large, tuned, base = map(Reading, models)
    return EmulatedModel(large, tuned, base, config or EmulationConfig(), **more)


def naive(models: tuple[Any, Any, Any], token_id: torch.Tensor, config: EmulationConfig) -> torch.Tensor:
    """``[T, V]``: three passes of three models over one text, and the definition at every place."""
    with torch.inference_mode():
        large, tuned, base = (model(input_ids=token_id[None]).logits[0] for model in models)
    rows = zip(large, tuned, base, strict=True)
    return torch.stack([blend_naive(one, two, three, config) for one, two, three in rows]).float()


# ---- the definition -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_the_large_model_times_the_ratio_of_the_small_ones(three: tuple[Any, Any, Any], name: str) -> None:
    token_id = ids(1, 7)
    with torch.inference_mode():
        logits = ensemble(three, CONFIGS[name])(input_ids=token_id).logits[0]
    assert logits.dtype is torch.float32
    assert (logits.log_softmax(-1) - naive(three, token_id[0], CONFIGS[name])).abs().max() < CLOSE


@pytest.mark.parametrize("family", ZOO)
def test_every_family_is_emulated_as_the_definition_says(family: str) -> None:
    base = tiny_of_family(family)
    models = (tiny_of_family(family, seed=5), moved(base), base)
    model, token_id = ensemble(models, EmulationConfig(beta=0.5)), ids(1, 9)
    with torch.inference_mode():
        logits = model(input_ids=token_id).logits[0]
    assert (logits.log_softmax(-1) - naive(models, token_id[0], EmulationConfig(beta=0.5))).abs().max() < CLOSE
    assert model.has_head
    assert isinstance(open_decoder(model), CachedDecoder)
    prefix = token_id[0, :6].tolist()
    written = generate(model, tiny_tokenizer(), [prefix, prefix[2:]], max_new_tokens=8, stop=())
    assert [text.tolist() for text in (written.token_id[:8], written.token_id[8:])] == [
        continue_one(model, start, max_new_tokens=8) for start in (prefix, prefix[2:])
    ]


def test_a_planted_mistake_is_seen_by_the_twin(three: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models swapped, the difference left out, a cap that is not applied: each is far from the definition."""
    token_id, config = ids(1, 5), CONFIGS["capped"]
    truth = naive(three, token_id[0], config)
    wrong = {
        "swapped": lambda large, tuned, base, settings, small: blend(large, base, tuned, settings, small),
        "left out": lambda large, tuned, base, settings, small: large.float(),
        "uncapped": lambda large, tuned, base, settings, small: blend(large, tuned, base, EmulationConfig(beta=1.5)),
    }
    for name, arithmetic in wrong.items():
        monkeypatch.setattr(emulated, "blend", arithmetic)
        with torch.inference_mode():
            logits = ensemble(three, config)(input_ids=token_id).logits[0]
        assert (logits.log_softmax(-1) - truth).abs().max() > 100 * CLOSE, name


def test_a_cap_bounds_what_the_private_text_can_do_to_a_token(three: tuple[Any, Any, Any]) -> None:
    token_id = ids(2, 9)
    large = three[0](input_ids=token_id).logits.log_softmax(-1)
    for beta, cap in ((1.0, 0.2), (2.0, 0.05)):
        logits = ensemble(three, EmulationConfig(beta=beta, cap=cap))(input_ids=token_id).logits.log_softmax(-1)
        assert (logits - large).abs().max() <= 2 * beta * cap + CLOSE
    free = ensemble(three, EmulationConfig())(input_ids=token_id).logits.log_softmax(-1)
    assert (free - large).abs().max() > 1


def test_the_filter_takes_the_large_models_knowledge_for_likely_tokens_alone(three: tuple[Any, Any, Any]) -> None:
    token_id = ids(1, 6)
    with torch.inference_mode():
        every = ensemble(three)(input_ids=token_id).logits.log_softmax(-1)
        open_ = ensemble(three, EmulationConfig(top_p=1.0))(input_ids=token_id).logits.log_softmax(-1)
        tuned = three[1](input_ids=token_id).logits.log_softmax(-1)
        narrow = ensemble(three, EmulationConfig(top_p=0.3))(input_ids=token_id).logits.log_softmax(-1)
    assert (every - open_).abs().max() < CLOSE
    last = tuned[0, -1].argsort()  # the unlikely half keeps the small tuned model's proportions
    unlikely = last[: len(last) // 2]
    difference = (narrow - tuned)[0, -1, unlikely]
    assert (difference - difference[0]).abs().max() < CLOSE


# ---- where it is one of its models ----------------------------------------------------------------------------------


def columns(model: Any) -> dict[str, Any]:
    rows = [EncodedRecord(token_id=row.numpy(), trained=np.ones(len(row), dtype=np.bool_)) for row in ids(5, 20)]
    rows[2] = EncodedRecord(token_id=rows[2].token_id[:6], trained=rows[2].trained[:6])
    return score(open_engine(model, "it", ScoreOptions()), rows)[0]


def same(left: Any, right: Any) -> bool:
    """To the last bit: logits, tables and texts."""
    token_id, tokenizer = ids(), tiny_tokenizer()
    tables = columns(left), columns(right)
    texts = [generate(one, tokenizer, token_id.tolist(), max_new_tokens=5, stop=()) for one in (left, right)]
    with torch.inference_mode():
        logits = [one(input_ids=token_id).logits for one in (left, right)]
    return (
        torch.equal(*logits)
        and all(np.array_equal(values, tables[1][name]) for name, values in tables[0].items())
        and np.array_equal(texts[0].logp, texts[1].logp)
        and np.array_equal(texts[0].token_id, texts[1].token_id)
    )


def test_beta_0_is_the_large_model_to_the_last_digit(three: tuple[Any, Any, Any]) -> None:
    assert same(ensemble(three, EmulationConfig(beta=0)), three[0])
    assert same(ensemble(three, EmulationConfig(beta=0, cap=1.0)), three[0])


def test_a_large_model_that_is_the_small_base_gives_the_small_tuned_one_to_the_last_digit(
    three: tuple[Any, Any, Any],
) -> None:
    _, tuned, base = three
    one = Reading(base)
    assert same(EmulatedModel(one, Reading(tuned), one, EmulationConfig()), tuned)


def test_the_arithmetic_itself_gives_the_small_tuned_one_up_to_rounding(three: tuple[Any, Any, Any]) -> None:
    """With the large model and the base as two copies, so that nothing is left out: (a - b) + b is not a in floats."""
    _, tuned, base = three
    apart = ensemble((copy.deepcopy(base), tuned, base))(input_ids=ids()).logits - tuned(input_ids=ids()).logits
    assert 0 < apart.abs().max() < 2e-6


def test_switched_off_it_is_the_large_model_and_then_itself_again(three: tuple[Any, Any, Any]) -> None:
    model = ensemble(three)
    before = model(input_ids=ids()).logits
    with model.large_alone():
        assert same(model, three[0])
    assert torch.equal(model(input_ids=ids()).logits, before)


# ---- every way to ask it --------------------------------------------------------------------------------------------


def test_company_padding_and_chunks_change_nothing(
    three: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EmulationConfig(beta=0.5, cap=1.0)
    model = ensemble(three, config)
    monkeypatch.setattr("reticent.score.forward._MOST_ROWS", 5)
    monkeypatch.setattr("reticent.score.forward._LEAST_ROWS", 1)
    engine = open_engine(model, "it", ScoreOptions())
    assert engine.forward.path == "output layer in chunks"
    together = columns(model)["logp"]
    alone = np.concatenate(
        [
            naive(three, row[:length], config)[:-1].gather(1, row[1:length, None])[:, 0].numpy()
            for row, length in zip(ids(5, 20), (20, 20, 6, 20, 20), strict=True)
        ]
    )
    assert np.abs(together - alone).max() < CLOSE


def test_a_model_without_an_output_layer_to_take_is_asked_for_whole_logits(three: tuple[Any, Any, Any]) -> None:
    model, whole = ensemble(three, CONFIGS["both"]), ensemble(three, CONFIGS["both"])
    whole.large.__dict__["_tried"] = (None, 0)
    assert whole.get_output_embeddings() is None
    assert open_engine(whole, "it", ScoreOptions()).forward.path == "whole logits"
    assert np.abs(columns(whole)["logp"] - columns(model)["logp"]).max() < CLOSE
    prefix = ids(1, 6)[0].tolist()
    written = generate(whole, tiny_tokenizer(), [prefix] * 2, max_new_tokens=5, stop=())
    assert written.token_id[:5].tolist() == continue_one(model, prefix, max_new_tokens=5)


def test_candidates_of_a_place_are_read_as_a_tree() -> None:
    base = tiny_model(seed=0)
    model = ensemble((tiny_model(seed=7), moved(base), base))
    engine = open_engine(model, "it", ScoreOptions())
    assert resolve_candidates(engine, "auto")[0] == "tree"
    rows = ids(4, 12).numpy().astype(np.int32)
    rows[:, :8] = rows[0, :8]
    span = FilledSpan(rows=tuple(rows), start=8, cut=0)
    tree, whole = (score_filled(engine, [span], impl=impl)[0].logp for impl in ("tree", "whole"))
    assert np.abs(tree - whole).max() < 10 * CLOSE


def test_it_reads_no_further_than_the_shortest_of_its_models() -> None:
    base = tiny_model(seed=0)
    large = tiny_model(seed=7)
    base.config.max_position_embeddings, large.config.max_position_embeddings = 40, 60
    model = ensemble((large, moved(base), base))
    assert (context_length(model), positions_of(model)) == (40, Positions())
    with model.large_alone():
        assert context_length(model) == 60


# ---- adapters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lora", "adapter", "ia3"])
def test_a_base_beneath_an_adapter_lies_in_memory_once(method: str) -> None:
    tuned, large = tiny_tuned("llama", method), tiny_model("gpt2", seed=7)
    model = EmulatedModel(Reading(large), Reading(tuned), Reading(tuned, off=True), EmulationConfig(beta=0.5))
    copied = ensemble((large, tuned, tiny_of_family("llama")), EmulationConfig(beta=0.5))
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids()).logits, copied(input_ids=ids()).logits)
    weights = [sum(weight.numel() for weight in one.parameters()) for one in (model, large, tuned)]
    assert weights[0] == weights[1] + weights[2]
    assert np.array_equal(columns(model)["logp"], columns(copied)["logp"])
    prefix = ids(1, 6)[0].tolist()
    written = generate(model, tiny_tokenizer(), [prefix] * 2, max_new_tokens=6, stop=())
    assert written.token_id[:6].tolist() == continue_one(copied, prefix, max_new_tokens=6)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_virtual_tokens_of_the_small_model_are_read_anew_for_every_token(method: str) -> None:
    tuned, base = tiny_tuned("llama", method), tiny_of_family("llama")
    model = ensemble((tiny_model(seed=7), tuned, base), EmulationConfig(beta=0.5))
    assert isinstance(open_decoder(model), RecomputingDecoder)
    assert context_length(model) == 512 - 3
    token_id = ids(1, 9)
    with torch.inference_mode():
        logits = model(input_ids=token_id).logits[0].log_softmax(-1)
        own = [one(input_ids=token_id).logits[0, -9:] for one in (model.large.model, tuned, base)]
    config = EmulationConfig(beta=0.5)
    truth = torch.stack([blend_naive(row[0], row[1], row[2], config) for row in zip(*own, strict=True)]).float()
    assert (logits - truth).abs().max() < CLOSE


# ---- tokens ---------------------------------------------------------------------------------------------------------


def test_tokens_are_matched_by_their_strings() -> None:
    small = tiny_tokenizer()
    large = tiny_tokenizer()
    large.add_tokens(["<|new|>"])
    assert small_ids(large, large, rows=(301, 301)) is None
    refuse_other_tokens(large, small, names=("large", "small"))
    number = large.get_vocab()["<|new|>"]
    rows = (number + 3, len(small))
    mapped = small_ids(large, small, rows=rows)
    assert mapped is not None
    assert mapped[:number].tolist() == list(range(number))
    assert mapped[number:].tolist() == [ABSENT] * 3
    assert unknown_tokens(large, mapped) == {number}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_token_that_the_small_models_lack_keeps_what_the_large_one_says(name: str) -> None:
    generator = torch.Generator().manual_seed(4)
    large, tuned, base = (torch.randn(size, generator=generator) for size in (9, 7, 7))
    small_id = torch.tensor([3, 2, 1, 0, ABSENT, 6, 5, 4, ABSENT])
    logits = blend(large[None], tuned[None], base[None], CONFIGS[name], small_id)[0]
    truth = blend_naive(large, tuned, base, CONFIGS[name], small_id)
    assert (logits.log_softmax(-1) - truth).abs().max() < CLOSE
    apart = (logits - large)[[4, 8]]
    assert (apart[0] - apart[1]).abs() < CLOSE


def test_rows_of_the_large_model_beyond_the_small_ones_are_its_own() -> None:
    base = tiny_model(seed=0)
    models = (tiny_model(seed=7, vocab_size=320), moved(base), base)
    model = ensemble(models)
    assert model.small_id is not None
    with torch.inference_mode():
        logits = model(input_ids=ids()).logits
        own = models[0](input_ids=ids()).logits
    assert logits.shape[-1] == 320
    beyond = (logits - own)[..., len(tiny_tokenizer()) :]
    assert beyond.abs().max() < CLOSE
    few = ensemble((tiny_model(seed=7), *(tiny_model(seed=seed, vocab_size=320) for seed in (0, 1))))
    assert few.small_id is None
    assert few(input_ids=ids()).logits.shape[-1] == len(tiny_tokenizer())


def test_other_tokenizers_are_refused() -> None:
    other = tiny_tokenizer(bos=True)
    with pytest.raises(BadInput, match="begins or ends otherwise"):
        refuse_other_tokens(tiny_tokenizer(), other, names=("large", "small"))
    import json

    from tokenizers import Tokenizer

    rules = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    rules["model"]["merges"] = rules["model"]["merges"][:-1]
    other = tiny_tokenizer()
    other._tokenizer = Tokenizer.from_str(json.dumps(rules))
    with pytest.raises(BadInput, match="other pieces"):
        refuse_other_tokens(tiny_tokenizer(), other, names=("large", "small"))


def test_small_models_of_different_vocabularies_are_refused() -> None:
    with pytest.raises(BadInput, match="shares of different wholes"):
        ensemble((tiny_model(), tiny_model(vocab_size=310), tiny_model()))


# ---- what an ensemble cannot do -------------------------------------------------------------------------------------


def test_an_ensemble_is_refused_by_name_where_one_model_is_looked_into(three: tuple[Any, Any, Any]) -> None:
    with pytest.raises(BadInput, match=r"an emulated fine-tune: answers with three models.*transformer blocks"):
        transformer_blocks(ensemble(three))
    with pytest.raises(BadInput, match="gradients"):
        trained_parameters(ensemble(three))


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": -0.1},
        {"beta": 1e300},
        {"beta": float("nan")},
        {"cap": 0.0},
        {"top_p": 1.5},
        {"top_p": 0.0},
        {"beta": 0.0, "top_p": 0.5},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        EmulationConfig(**settings)
