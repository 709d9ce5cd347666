# SPDX-License-Identifier: Apache-2.0
"""Texts by private prediction are those of the naive twin, whatever the model, and references share their beginning."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.encode import opening_tokens
from reticent.score.generation.generate import CachedDecoder, RecomputingDecoder
from reticent.synthesis.clipped_prediction import candidates
from reticent.synthesis.concentrated import rho_of_token
from reticent.synthesis.predicted_text import PendingText, PredictionSettings, logits_after, write_naively, write_texts
from reticent.synthesis.prediction_check import PredictionWatch
from reticent.synthesis.prefix_decoder import PrefixDecoder, open_prompts
from reticent.synthesis.reference_prompts import ReferencePrompts, prompts_of
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.testing.tiny import tiny_of_family, tiny_tokenizer

KEY = hashlib.sha256(b"tokens").digest()
RECORDS = [Record(id=f"r{n}", text="tea " * (n + 1) + f"order {n}") for n in range(6)]
SPEC = SynthesisSpec(epsilon=8.0, count=2, max_new_tokens=6, reference_tokens=40)
SETTINGS = PredictionSettings(
    clip=1.5, references=2, temperature=0.9, tokens=6, top_k=20, ends=frozenset({258}), key=KEY
)


def begun(prompts: ReferencePrompts) -> list[PendingText]:
    """Two texts: three records of two units, and three of three."""
    owners = [(0, 0, 1), (0, 1, 2)]
    return [
        PendingText(
            number=number,
            words=SPEC.prompt(0),
            public=prompts.without(SPEC.prompt(0)),
            private=tuple(prompts.holding(SPEC.prompt(0), 3 * number + place) for place in range(3)),
            owner=owner,
            units=max(owner) + 1,
        )
        for number, owner in enumerate(owners)
    ]


def watch(model: object) -> PredictionWatch:
    def alone(words: str) -> torch.Tensor:
        return logits_after(model, opening_tokens(f"{words}\n", tiny_tokenizer()))

    return PredictionWatch(clip=1.5, references=2, tokens=6, top_k=20, alone=alone)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma3"])
def test_texts_are_those_of_the_naive_twin(family: str) -> None:
    model = tiny_of_family(family)
    prompts = prompts_of(RECORDS, SPEC, tiny_tokenizer(), context=512)
    decoder = open_prompts(model, shared=prompts.shared, width=prompts.width, longest=prompts.longest + 6)
    assert isinstance(decoder, PrefixDecoder) == (family in ("llama", "gpt2"))  # the others have windows
    texts = begun(prompts)
    write_texts(decoder, texts, SETTINGS, watch(model))
    for text, fresh in zip(texts, begun(prompts), strict=True):
        assert text.token_id == write_naively(model, fresh, SETTINGS)
        assert text.token_id


def test_no_text_ends_before_it_began() -> None:
    """Also where the model wants nothing but to end, and only the end stands among the best."""
    model = tiny_of_family("llama")
    prompts = prompts_of(RECORDS, SPEC, tiny_tokenizer(), context=512)
    with torch.inference_mode():
        best = int(logits_after(model, begun(prompts)[0].public).argmax())
    settings = replace(SETTINGS, ends=frozenset({best, 258}), top_k=1, clip=0.01)
    texts = begun(prompts)[:1]
    narrow = PredictionWatch(clip=0.01, references=2, tokens=6, top_k=1, alone=watch(model).alone)
    write_texts(open_prompts(model, shared=prompts.shared, width=prompts.width, longest=99), texts, settings, narrow)
    assert texts[0].token_id
    assert texts[0].token_id == write_naively(model, begun(prompts)[0], settings)
    assert not settings.ends.intersection(texts[0].token_id)


def test_the_choice_of_a_model_itself_keeps_to_the_bound() -> None:
    """The divergence of the first token's chances with a unit and without, by its definition."""
    model = tiny_of_family("llama")
    prompts = prompts_of(RECORDS, SPEC, tiny_tokenizer(), context=512)
    text = begun(prompts)[1]
    with torch.inference_mode():
        public = 8 * logits_after(model, text.public)
        private = 8 * torch.stack([logits_after(model, prompt) for prompt in text.private])
    owner = torch.tensor(text.owner)
    allowed = candidates(public, top_k=SETTINGS.top_k, clip=SETTINGS.clip)
    rho = rho_of_token(clip=1.5, references=2, temperature=0.9, relation="add_or_remove")

    def chances(units: list[int]) -> np.ndarray:
        rows = torch.tensor([unit in units for unit in text.owner])
        left = torch.tensor([units.index(unit) for unit in owner[rows].tolist()], dtype=torch.long)
        scores = SETTINGS.score(public, private[rows], left, len(units))
        return (scores / SETTINGS.temperature)[allowed].log_softmax(dim=0).numpy()

    whole = chances([0, 1, 2])
    for gone in range(3):
        without = chances([unit for unit in range(3) if unit != gone])
        assert np.abs(whole - without).max() > 0.1
        for order in (1.5, 4.0, 32.0):
            for first, second in ((whole, without), (without, whole)):
                divergence = logsumexp(order * first + (1 - order) * second) / (order - 1)
                assert divergence <= order * rho + 1e-9


def test_the_beginning_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_of_family("llama")
    prompts = prompts_of(RECORDS, SPEC, tiny_tokenizer(), context=512)
    decoder = open_prompts(model, shared=prompts.shared, width=prompts.width, longest=prompts.longest + 6)
    shapes: list[tuple[int, ...]] = []
    step = PrefixDecoder._step

    def counted(self: PrefixDecoder, model: object, token_id: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(token_id.shape))
        return step(self, model, token_id)

    monkeypatch.setattr(PrefixDecoder, "_step", counted)
    texts = begun(prompts)
    write_texts(decoder, texts, SETTINGS, watch(model))
    assert len(prompts.shared) > 5
    assert shapes[:2] == [(1, len(prompts.shared)), (8, prompts.width)]
    assert all(shape[1] == 1 for shape in shapes[2:])
    assert len(shapes) <= 2 + 5


def test_the_width_follows_from_public_numbers() -> None:
    tokenizer = tiny_tokenizer()
    few = prompts_of(RECORDS[:1], SPEC, tokenizer, context=None)
    many = prompts_of(RECORDS, SPEC, tokenizer, context=None)
    assert (few.width, few.longest) == (many.width, many.longest)
    assert np.array_equal(few.shared, many.shared)


def test_topics_share_what_they_begin_with() -> None:
    spec = SynthesisSpec(epsilon=8.0, count=3, instruction="A mail about {topic}:", topics="tea,toast,cups")
    prompts = prompts_of(RECORDS, spec, tiny_tokenizer(), context=None)
    assert len(prompts.public) == 3
    for words, tokens in prompts.public.items():
        assert np.array_equal(tokens[: len(prompts.shared)], prompts.shared), words
    assert 0 < len(prompts.shared) < min(map(len, prompts.public.values()))


def test_an_end_ends_a_text_and_leaves_the_others() -> None:
    model, tokenizer = tiny_of_family("llama"), tiny_tokenizer()
    prompts = prompts_of(RECORDS, SPEC, tokenizer, context=512)
    first = write_naively(model, begun(prompts)[0], SETTINGS)
    settings = PredictionSettings(
        clip=1.5, references=2, temperature=0.9, tokens=6, top_k=20, ends=frozenset({first[2]}), key=KEY
    )
    texts = begun(prompts)
    write_texts(RecomputingDecoder(model=model), texts, settings, watch(model))
    assert texts[0].token_id == first[: first.index(first[2])]
    assert texts[1].token_id == write_naively(model, begun(prompts)[1], settings)


def test_long_texts_are_refused_or_cut() -> None:
    tokenizer = tiny_tokenizer()
    spec = SynthesisSpec(epsilon=8.0, reference_tokens=8)
    with pytest.raises(BadInput, match=r"of 6 private texts: are longer than the 8 tokens.*--long_texts cut"):
        prompts_of(RECORDS, spec, tokenizer, context=512)
    cut = prompts_of(RECORDS, SynthesisSpec(epsilon=8.0, reference_tokens=8, long_texts="cut"), tokenizer, context=512)
    assert max(map(len, cut.references)) == 8
    with pytest.raises(BadInput, match="the model reads 60"):
        prompts_of(RECORDS, SPEC, tokenizer, context=60)


def test_a_model_that_reads_otherwise_gets_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_of_family("llama")
    monkeypatch.setattr(PrefixDecoder, "read", lambda self, prefixes: torch.zeros(len(prefixes), 261))
    decoder = open_prompts(model, shared=np.arange(5), width=4, longest=20)
    assert type(decoder) is CachedDecoder
