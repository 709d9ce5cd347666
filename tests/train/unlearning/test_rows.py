# SPDX-License-Identifier: Apache-2.0
"""Rows: sums over trained tokens, the shapes that are refused, and the memory that a loss takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from reticent.testing.unlearners import planted_rows
from reticent.train.unlearning import rows as module
from reticent.train.unlearning.method import UNLEARNERS
from reticent.train.unlearning.retain import RETAIN_TERMS
from reticent.train.unlearning.rows import Rows, log_probability


def test_log_probabilities_are_those_of_a_loop() -> None:
    rows = planted_rows(seed=4)
    for b in range(len(rows.gold)):
        total = 0.0
        for t in range(rows.gold.shape[1]):
            logits, y = rows.logits[b, t].double(), int(rows.gold[b, t])
            logp = (logits[y] - logits.exp().sum().log()).item() if rows.trained[b, t] else 0.0
            assert rows.token_logp[b, t].item() == pytest.approx(logp, rel=1e-5)
            total += logp
        assert rows.logp[b].item() == pytest.approx(total, rel=1e-5)
        assert rows.tokens[b].item() == rows.trained[b].sum().item()


def test_means() -> None:
    mask = torch.tensor([[True, True, False], [False, False, False], [True, False, False]])
    rows = Rows(logits=torch.zeros(3, 3, 2), gold=torch.zeros(3, 3, dtype=torch.int64), trained=mask)
    assert rows.mean_over_tokens(torch.tensor([1.0, 2.0, 6.0])).item() == 3
    assert rows.mean_over_rows(torch.tensor([1.0, 100.0, 6.0])).item() == 3.5
    assert rows.mean_over_rows(torch.tensor([1.0, 100.0, 6.0]), also=torch.tensor([False, True, True])).item() == 6
    assert (rows.count("tokens"), rows.count("rows")) == (3, 2)


def test_narrow_drops_the_sum_that_is_of_other_tokens() -> None:
    rows = planted_rows("reference_logp", "reference_logits")
    first = rows.trained.cumsum(1) <= 1
    narrowed = rows.narrow(first)
    assert narrowed.reference_logp is None
    assert narrowed.reference_logits is rows.reference_logits
    assert bool((narrowed.tokens == 1).all())
    assert bool((narrowed.trained <= rows.trained).all())
    assert narrowed.logp.tolist() == pytest.approx((rows.token_logp * first).sum(1).tolist())
    assert rows.narrow(first, reference_logp=torch.zeros(len(rows.gold))).reference_logp is not None


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = planted_rows("reference_logits", seed=5)

    def both() -> tuple[Tensor, Tensor]:
        logits = rows.logits.clone().requires_grad_()
        loss = UNLEARNERS.get("undial")(replace(rows, logits=logits))
        return loss.detach(), torch.autograd.grad(loss, logits)[0]

    whole = both()
    for tokens in (1, 2, 7):
        monkeypatch.setattr(module, "CHUNK", tokens * rows.logits.shape[-1])
        for part, right in zip(both(), whole, strict=True):
            torch.testing.assert_close(part, right, rtol=1e-6, atol=1e-8)
    monkeypatch.setattr(module, "CHUNK", 1)  # smaller than a vocabulary
    torch.testing.assert_close(both()[0], whole[0])


class LargestFloat32(TorchDispatchMode):
    """The most numbers that a float32 tensor has which comes to be within."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32:
                self.most = max(self.most, tensor.numel())
        return made


B, S, V = 4, 64, 500


def large(*needs: str) -> Rows:
    """Of which everything is trained, in bfloat16."""
    made = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made).bfloat16()

    given: dict[str, Any] = {}
    if "reference_logp" in needs:
        given["reference_logp"] = torch.full((B,), -100.0)
    if "reference_logits" in needs:
        given["reference_logits"] = drawn(B, S, V)
    if "alternative" in needs:
        given["alternative"] = large("reference_logp")
    for name in {"hidden", "reference_hidden"} & set(needs):
        given[name] = drawn(B, S, 8)
    gold = torch.randint(V, (B, S), generator=made)
    return Rows(logits=drawn(B, S, V).requires_grad_(), gold=gold, trained=torch.ones(B, S, dtype=torch.bool), **given)


@pytest.mark.parametrize("name", [method.name for method in UNLEARNERS if method.kind == "loss"])
def test_no_loss_makes_a_float32_copy_of_all_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the loss nor in its gradient, and nearly nothing is kept for the gradient beside the logits."""
    monkeypatch.setattr(module, "CHUNK", 16 * V)
    method = UNLEARNERS.get(name)
    refuse_large_copies(method, large(*method.needs))


@pytest.mark.parametrize("name", ["nll", "kl"])
def test_no_retain_term_makes_a_float32_copy_of_all_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 16 * V)
    term = RETAIN_TERMS[name]
    assert term is not None
    refuse_large_copies(term, large(*term.needs))


def refuse_large_copies(loss_of: Callable[[Rows], Tensor], rows: Rows) -> None:
    texts = [rows, *([] if rows.alternative is None else [rows.alternative])]
    given = {id(part) for text in texts for part in (text.logits, text.reference_logits)}
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(0 if id(tensor) in given else tensor.nbytes)
        return tensor

    with LargestFloat32() as largest:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = loss_of(rows)
        if loss.requires_grad:  # that of hidden states alone has none here
            loss.backward()
    assert largest.most <= 16 * V, f"a float32 tensor of {largest.most / (B * S * V):.2f} times all logits"
    assert sum(saved) <= 0.1 * rows.logits.nbytes


def test_a_plain_loss_would_be_seen() -> None:
    """The cross-entropy as it is mostly written makes such copies."""
    rows = large()

    def plain(rows: Rows) -> Tensor:
        return torch.nn.functional.cross_entropy(rows.logits.float().flatten(0, 1), rows.gold.flatten())

    with pytest.raises(AssertionError, match=r"1\.00 times"):
        refuse_large_copies(plain, rows)


# ---- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"logits": torch.zeros(2, 4, 5)}, "logits has the shape"),
        ({"gold": torch.zeros(2, 2, dtype=torch.int64)}, "logits has the shape"),
        ({"trained": torch.zeros(3, dtype=torch.bool)}, "trained has the shape"),
        ({"trained": torch.zeros(2, 3, dtype=torch.int64)}, "not bool"),
        ({"reference_logp": torch.zeros(3)}, "reference_logp has the shape"),
        ({"reference_logp": torch.zeros(2, 1)}, "reference_logp has the shape"),
        ({"reference_logits": torch.zeros(2, 3, 6)}, "reference_logits has the shape"),
        ({"hidden": torch.zeros(2, 2, 4)}, "hidden has the shape"),
        ({"reference_hidden": torch.zeros(2, 3, 4)}, "reference_hidden has the shape"),
        ({"hidden": torch.zeros(2, 3, 4), "reference_hidden": torch.zeros(2, 3, 5)}, "reference_hidden has the shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, Any], fault: str) -> None:
    shapes = {"logits": torch.zeros(2, 3, 5), "gold": torch.zeros(2, 3, dtype=torch.int64)}
    right = shapes | {"trained": torch.ones(2, 3, dtype=torch.bool)}
    Rows(**right)
    with pytest.raises(ValueError, match=fault):
        Rows(**(right | change))


def test_other_numbers_of_alternatives_are_refused_and_other_lengths_are_not() -> None:
    rows = planted_rows("alternative", rows=3)
    longer = Rows(
        logits=torch.zeros(3, 20, 5), gold=torch.zeros(3, 20, dtype=torch.int64), trained=torch.ones(3, 20) > 0
    )
    assert replace(rows, alternative=longer).alternative is longer
    with pytest.raises(ValueError, match="alternative has the shape"):
        replace(rows, alternative=planted_rows(rows=2))


def test_nothing_is_read_where_nothing_is_trained() -> None:
    """Labels that are no token, and numbers that are none, may stand there."""
    rows = planted_rows()
    out = ~rows.trained
    odd = replace(rows, gold=rows.gold.masked_fill(out, -100), logits=rows.logits.masked_fill(out[..., None], math.nan))
    assert torch.equal(odd.logp, rows.logp)
    assert torch.equal(odd.token_values(log_probability), rows.token_values(log_probability))
