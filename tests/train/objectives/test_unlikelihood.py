# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reticent.models.encode import EncodedRecord
from reticent.train.batches import IGNORED
from reticent.train.objectives.unlikelihood import _log_of_rest, marks, unlikelihood

VOCABULARY = 9


def batch(virtual: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three records: spans in prompt and text, one without spans, and one whose personal token is also ordinary."""
    torch.manual_seed(0)
    logits = (2 * torch.randn(3, 8 + virtual, VOCABULARY)).requires_grad_()
    ids = torch.randint(0, VOCABULARY, (3, 8))
    ids[2] = torch.tensor([4, 5, 4, 4, 6, 5, 1, 0])
    labels = ids.clone()
    labels[0, :3] = IGNORED  # a prompt
    labels[1, 6:] = IGNORED  # padding
    marked = torch.zeros(3, 8, dtype=torch.bool)
    marked[0, 1] = marked[0, 4] = marked[0, 5] = True
    marked[2, 2:4] = marked[2, 6] = True
    return logits, ids, labels, marked


def naive(logits: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor, marked: torch.Tensor, weight: float) -> float:
    """The three sums as the formulas have them, in float64, a token at a time."""
    ahead = logits.shape[1] - ids.shape[1]
    total, tokens = 0.0, 0
    for row in range(len(ids)):
        personal_ids = {int(ids[row, t]) for t in range(ids.shape[1]) if marked[row, t]}

        def p(t: int, token: int, row: int = row) -> float:
            scores = logits[row, ahead + t - 1].detach().double()
            return float(torch.exp(scores[token] - torch.logsumexp(scores, 0)))

        for t in range(1, ids.shape[1]):
            if labels[row, t] == IGNORED:
                continue
            tokens += 1
            gold = int(ids[row, t])
            if not marked[row, t]:
                total -= math.log(p(t, gold))
            for gamma in personal_ids:
                if gamma == gold and not marked[row, t]:
                    continue
                total -= weight * math.log(1 - p(t, gamma))
            if t + 1 < ids.shape[1] and labels[row, t + 1] != IGNORED and marked[row, t] and marked[row, t + 1]:
                total -= weight * math.log(1 - p(t, gold) * p(t + 1, int(ids[row, t + 1])))
    return total / tokens


@pytest.mark.parametrize("virtual", [0, 2])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_it_is_its_naive_twin(virtual: int, weight: float) -> None:
    logits, ids, labels, marked = batch(virtual)
    found = unlikelihood(logits, ids, labels, marked, weight=weight)
    assert found.item() == pytest.approx(naive(logits, ids, labels, marked, weight), rel=1e-5)


def test_without_spans_it_is_the_cross_entropy() -> None:
    logits, ids, labels, marked = batch()
    found = unlikelihood(logits, ids, labels, torch.zeros_like(marked), weight=1.0)
    plain = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
    )
    assert found.item() == pytest.approx(plain.item(), rel=1e-6)


def test_a_step_makes_personal_tokens_less_likely_and_the_others_more() -> None:
    logits, ids, labels, marked = batch()
    (gradient,) = torch.autograd.grad(unlikelihood(logits, ids, labels, marked, weight=1.0), logits)

    def nll(at: torch.Tensor, personal: bool) -> float:
        logp = torch.log_softmax(at[:, :-1], -1).gather(2, ids[:, 1:, None])[..., 0]
        chosen = (labels[:, 1:] != IGNORED) & (marked[:, 1:] == personal)
        return -logp[chosen].sum().item()

    after = logits.detach() - 0.5 * gradient
    assert nll(after, True) > nll(logits, True)
    assert nll(after, False) < nll(logits, False)


def test_the_log_of_the_rest_is_exact_near_both_ends_and_finite() -> None:
    p = torch.tensor([1e-12, 1e-6, 0.3, 0.5, 0.7, 0.999])
    expected = np.log1p(-p.double().numpy())
    assert _log_of_rest(p.double().log()).numpy() == pytest.approx(expected, rel=1e-9)
    certain = torch.zeros(1, requires_grad=True)
    _log_of_rest(certain).sum().backward()
    assert torch.isfinite(_log_of_rest(torch.tensor([0.0, -1e-9, -200.0]))).all()
    assert torch.isfinite(certain.grad).all()  # type: ignore[arg-type]


def test_marks_are_padded() -> None:
    def one(marked: list[bool]) -> EncodedRecord:
        n = len(marked)
        return EncodedRecord(token_id=np.zeros(n, np.int32), trained=np.ones(n, bool), marked=np.array(marked, bool))

    assert marks([one([True, False]), one([False, True, True])]).tolist() == [[True, False, False], [False, True, True]]
