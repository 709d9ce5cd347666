# SPDX-License-Identifier: Apache-2.0
"""Planted faults of mechanisms, each of which would break the promise, and what catches it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.privacy.check import GuaranteeViolated
from reticent.synthesis import clipped_prediction, nearest_votes, predicted_text, step_store, text_embedding
from reticent.synthesis.mechanisms import private_prediction
from reticent.synthesis.predicted_text import PredictionSettings
from reticent.synthesis.reference_prompts import ReferencePrompts
from reticent.synthesis.synthesis_mechanism import MECHANISMS
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.testing import synthesis_mechanisms
from reticent.testing.synthesis_mechanisms import RECORDS, made_up

PREDICTION = SynthesisSpec(
    epsilon=0.5, unit="user", count=6, references=3, max_new_tokens=4, top_k=5, reference_tokens=40
)
EVOLUTION = SynthesisSpec(
    mechanism="private_evolution", epsilon=8.0, unit="user", count=4, rounds=2, variants=2, max_new_tokens=4
)
LABELLED = [
    Record(id=f"r{n}", prompt="good: " if n % 4 else "bad: ", completion=f"tea {n}", user=f"u{n // 4}")
    for n in range(120)
]
COUNTED = SynthesisSpec(
    mechanism="dp_tune", epsilon=8.0, unit="user", count=4, max_new_tokens=4, condition="prompt", topics="good:,bad:"
)
BY_LENGTH = replace(COUNTED, condition="prompt_length", lengths="1,2")


def clip_after_averaging(patch: pytest.MonkeyPatch) -> None:
    def score(self: PredictionSettings, public: Any, private: Any, owner: Any, units: int) -> torch.Tensor:
        apart = (private.double() - public.double()).sum(dim=0) / self.references
        return torch.as_tensor(public.double() + apart.clamp(-self.clip, self.clip))

    patch.setattr(PredictionSettings, "score", score)


def divide_by_who_came(patch: pytest.MonkeyPatch) -> None:
    def score(self: PredictionSettings, public: Any, private: Any, owner: Any, units: int) -> torch.Tensor:
        clipped = clipped_prediction.contributions(public, private, owner, units=units, clip=self.clip)
        return clipped_prediction.scores_of(public, clipped, references=max(units, 1))

    patch.setattr(PredictionSettings, "score", score)


def clip_each_record(patch: pytest.MonkeyPatch) -> None:
    def score(self: PredictionSettings, public: Any, private: Any, owner: Any, units: int) -> torch.Tensor:
        apart = (private.double() - public.double()).clamp(-self.clip, self.clip)
        return torch.as_tensor(public.double() + apart.sum(dim=0) / self.references)

    patch.setattr(PredictionSettings, "score", score)


def no_clip(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        predicted_text,
        "contributions",
        lambda *given, clip, **more: clipped_prediction.contributions(*given, clip=1e9, **more),
    )


def public_logits_from_a_private_prompt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReferencePrompts, "without", lambda self, words: self.holding(words, 0))


def reused_batches(patch: pytest.MonkeyPatch) -> None:
    def batches_of(units: Any, *, texts: int, references: int, **_: Any) -> Any:
        return tuple(tuple(range(references)) for _ in range(texts))

    patch.setattr(private_prediction, "batches_of", batches_of)


def reused_batches_unseen_before(patch: pytest.MonkeyPatch) -> None:
    reused_batches(patch)
    patch.setattr(private_prediction, "refuse_reuse", lambda batches: None)


def top_k_of_private_scores(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(predicted_text, "candidates", lambda public, **_: torch.ones_like(public, dtype=torch.bool))


def more_tokens_than_counted(patch: pytest.MonkeyPatch) -> None:
    settings = private_prediction.PredictionPlan.write

    def write(self: Any, tools: Any) -> Any:
        patch.setattr(PredictionSettings, "tokens", property(lambda it: 6, lambda it, value: None), raising=False)
        return settings(self, tools)

    patch.setattr(private_prediction.PredictionPlan, "write", write)


def histogram_without_cap(patch: pytest.MonkeyPatch) -> None:
    def histogram(votes: Any, units: Any, *, candidates: int) -> Any:
        return np.bincount(votes[list(itertools.chain(*units))], minlength=candidates).astype(float)

    patch.setattr(nearest_votes, "histogram", histogram)


def no_noise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nearest_votes, "noised", lambda votes, **_: votes)


def half_the_noise(patch: pytest.MonkeyPatch) -> None:
    right = nearest_votes.noised
    patch.setattr(nearest_votes, "noised", lambda votes, *, std, **more: right(votes, std=std / 2, **more))


def one_noise_for_all_rounds(patch: pytest.MonkeyPatch) -> None:
    right = nearest_votes.noised
    patch.setattr(nearest_votes, "noised", lambda votes, *, round_number, **more: right(votes, round_number=0, **more))


@pytest.mark.parametrize(
    ("spec", "records", "fault", "complaint"),
    [
        (PREDICTION, RECORDS, clip_after_averaging, "a unit moves a score"),
        (PREDICTION, RECORDS, divide_by_who_came, "a unit moves a score"),
        (PREDICTION, RECORDS, clip_each_record, "a unit moves a score"),
        (PREDICTION, RECORDS, no_clip, "a unit moves a score"),
        (PREDICTION, RECORDS, public_logits_from_a_private_prompt, "public words alone"),
        (PREDICTION, RECORDS, reused_batches, "each unit stands behind one text"),
        (PREDICTION, RECORDS, reused_batches_unseen_before, "each unit stands behind one text"),
        (PREDICTION, RECORDS, top_k_of_private_scores, "public logits name"),
        (PREDICTION, RECORDS, more_tokens_than_counted, "so many tokens at most"),
        (EVOLUTION, RECORDS, histogram_without_cap, "moves the histogram by at most 1"),
        (EVOLUTION, RECORDS, no_noise, "gets the noise that is counted"),
        (EVOLUTION, RECORDS, half_the_noise, "gets the noise that is counted"),
        (EVOLUTION, RECORDS, one_noise_for_all_rounds, "gets the noise that is counted"),
        (COUNTED, LABELLED, no_noise, "gets the noise that is counted"),
        (COUNTED, LABELLED, histogram_without_cap, "moves the histogram by at most 1"),
        (BY_LENGTH, LABELLED, no_noise, "gets the noise that is counted"),
        (BY_LENGTH, LABELLED, half_the_noise, "gets the noise that is counted"),
        (BY_LENGTH, LABELLED, histogram_without_cap, "moves the histogram by at most 1"),
    ],
)
def test_a_planted_fault_is_caught_before_a_text_leaves(
    spec: SynthesisSpec,
    records: list[Record],
    fault: Callable[[pytest.MonkeyPatch], None],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(monkeypatch)
    with pytest.raises(GuaranteeViolated, match=complaint):
        made_up(MECHANISMS.get(spec.mechanism), tmp_path, spec=spec, records=records)
    if fault not in (one_noise_for_all_rounds,):  # the first round of that was right
        assert not list(tmp_path.glob("step-*"))
        assert not step_store.has_spent(tmp_path)


def test_coins_that_change_from_call_to_call_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mechanism = MECHANISMS.get("private_prediction")
    with pytest.raises(synthesis_mechanisms.Crash):
        made_up(mechanism, tmp_path, spec=PREDICTION, dies_after=0)
    coins = np.random.default_rng(4)
    monkeypatch.setattr(PredictionSettings, "chance", lambda self, text, position: float(coins.uniform()))
    with pytest.raises(BadInput, match="now gave other texts"):
        made_up(mechanism, tmp_path, spec=PREDICTION)


def test_texts_in_company_would_change_each_others_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text is embedded alone: nothing but its own tokens is in the call."""
    from reticent.testing.tiny import tiny_model

    model, shapes = tiny_model(), []
    right = text_embedding.hidden_states

    def seen(model: Any, layer: Any, token_id: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(token_id.shape))
        return right(model, layer, token_id)

    monkeypatch.setattr(text_embedding, "hidden_states", seen)
    rows = text_embedding.embedded(model, [[1, 2, 3], [4], []], blank=9)
    assert shapes == [(1, 3), (1, 1), (1, 1)]
    assert rows.shape == (3, 32)
