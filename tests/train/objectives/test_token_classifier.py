# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record, Span
from reticent.models.encode import encode
from reticent.testing.tiny import tiny_model, tiny_tokenizer
from reticent.train.objectives.token_classifier import (
    TokenClassifier,
    fit,
    fit_classifier,
    hidden_states,
    read_classifier,
    redact,
)


def test_it_finds_a_direction_that_tells_the_classes_apart() -> None:
    rng = np.random.default_rng(0)
    hidden = torch.tensor(rng.normal(size=(600, 8)), dtype=torch.float32)
    personal = hidden[:, 2] > 1.2  # about one in nine
    found = fit(hidden * 5 + 3, personal)
    assert (found.flags(hidden * 5 + 3) == personal).float().mean() > 0.95


def test_it_is_where_weighted_logistic_regression_has_its_minimum() -> None:
    """Against scikit-learn's solver on the standardised numbers."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(400, 4)) * [1, 2, 0.5, 3] + 1
    personal = (hidden[:, 0] + rng.normal(size=400)) > 2
    found = fit(torch.tensor(hidden, dtype=torch.float32), torch.tensor(personal))
    mean, scale = hidden.mean(0), hidden.std(0, ddof=1)
    # Ours is the mean of weighted losses plus 1e-3 |w|²; theirs C times their sum plus |w|² / 2.
    twin = LogisticRegression(C=1 / (2 * 1e-3 * 400), class_weight="balanced", tol=1e-8, max_iter=1000)
    twin.fit((hidden - mean) / scale, personal)
    assert (found.weight.numpy() * scale) == pytest.approx(twin.coef_[0], rel=5e-3)
    assert found.bias + float(found.weight.numpy() @ mean) == pytest.approx(twin.intercept_[0], abs=5e-3)


def test_runs_of_flagged_tokens_are_replaced_once() -> None:
    classifier = TokenClassifier(weight=torch.tensor([1.0]), bias=-0.5)
    hidden = torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0]])
    assert redact(classifier, hidden, [10, 11, 12, 13, 14], replacement=[7, 8]) == [10, 7, 8, 13, 7, 8]
    assert redact(classifier, hidden, [10, 11, 12, 13, 14], replacement=[]) == [10, 13]
    with pytest.raises(BadInput, match="same length"):
        redact(classifier, hidden, [1], replacement=[])


def test_hidden_states_do_not_depend_on_the_batch_and_leave_the_model() -> None:
    model, tokenizer = tiny_model().train(), tiny_tokenizer()
    texts = [encode(Record(id=str(i), text="the order of " * (1 + i % 4)), tokenizer) for i in range(11)]
    found = hidden_states(model, texts)
    assert model.training
    model.eval()
    for one, states in zip(texts, found, strict=True):
        ids = torch.tensor(one.token_id.astype(np.int64))[None]
        alone = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
        assert torch.allclose(states, alone, atol=1e-5)


def test_it_learns_digits_are_personal_and_can_be_read_again(tmp_path: Path) -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    texts = []
    for i in range(40):
        record = Record(id=str(i), text=f"order {i * 7919 % 1000} went out", spans=(Span(start=6, end=7, kind="X"),))
        texts.append(encode(record, tokenizer, mark_spans=True))
    fitted = fit_classifier(model, texts)
    assert fitted.recall is not None
    assert fitted.recall > 0.8
    path = fitted.classifier.save(tmp_path)
    again = read_classifier(tmp_path)
    assert path.suffix == ".safetensors"
    assert not list(tmp_path.glob("*.safetensors"))
    assert torch.equal(again.weight, fitted.classifier.weight)
    assert again.bias == pytest.approx(fitted.classifier.bias)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no token classifier"):
        read_classifier(tmp_path)
    for personal in (torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(BadInput, match="nothing to tell apart"):
            fit(torch.randn(3, 2), personal)
