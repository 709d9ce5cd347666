# SPDX-License-Identifier: Apache-2.0
"""Conformance of a clipper on a model: call ``check_clip(make_model)`` in your own test.

Whoever writes a layer rule calls it on a model that has the layer. All parameters that fail are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from reticent.models.encode import IGNORED
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.clipper import ClippedSum, Clipper, Clipping
from reticent.privacy.clip.reference import ReferenceClipper

RTOL = 1e-4
"""Relative tolerance in float32, against the largest entry of a tensor."""

FLOOR = 1e-6
"""And against the largest entry of all tensors: gradients that cancel to almost nothing are rounding."""

HALF_RTOL = 0.02
"""How far norms may be off under bfloat16 activations."""


Make = Callable[..., Clipper]


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Arguments of ``Clipper.accumulate``; see there."""

    inputs: Mapping[str, torch.Tensor]
    labels: torch.Tensor
    weight: torch.Tensor
    rows_per_unit: int = 1

    def give(self, clipper: Clipper) -> ClippedSum:
        """Hand it to a clipper."""
        return clipper.accumulate(self.inputs, self.labels, weight=self.weight, rows_per_unit=self.rows_per_unit)

    def take(self, rows: Sequence[int]) -> Batch:
        """Chosen rows, in that order."""
        index = torch.tensor(rows, dtype=torch.long)
        inputs = {name: value[index] for name, value in self.inputs.items()}
        return replace(self, inputs=inputs, labels=self.labels[index], weight=self.weight[index])


def make_batch(model: Any, *, units: int, tokens: int, rows_per_unit: int = 1, seed: int = 0) -> Batch:
    """Random records with all that a batch can have.

    The first row has ``tokens`` tokens, the others from 2 on and padding after them; each starts with a prompt that is
    not trained on; weights are not 1. With several rows to a unit, some rows only fill up: no token of them is attended
    to, their weight is 0.

    >>> from reticent.testing.tiny import tiny_model
    >>> make_batch(tiny_model(), units=3, tokens=5).inputs["input_ids"].shape
    torch.Size([3, 5])
    """
    draw = torch.Generator().manual_seed(seed)
    rows = units * rows_per_unit
    lengths = torch.randint(min(2, tokens), tokens + 1, (rows,), generator=draw)
    lengths[:1] = tokens
    for unit in range(0, rows, rows_per_unit):
        filled = int(torch.randint(1, rows_per_unit + 1, (), generator=draw))
        lengths[unit + filled : unit + rows_per_unit] = 0
    prompt = (torch.rand(rows, generator=draw) * (lengths - 1).clamp(min=0)).long()
    place = torch.arange(tokens)
    real = place < lengths[:, None]
    ids = torch.randint(0, model.config.vocab_size, (rows, tokens), generator=draw)
    pad = getattr(model.config, "pad_token_id", None) or 0
    if tokens > 3 and rows:
        ids[0, 1] = pad  # within a text it is a token like others
        ids[0, 3] = ids[0, 2]
    ids[~real] = pad
    trained = real & (place > prompt[:, None])
    return Batch(
        inputs={"input_ids": ids, "attention_mask": real.long()},
        labels=ids.where(trained, torch.tensor(IGNORED)),
        weight=(0.25 + torch.rand(rows, generator=draw)) * (lengths > 0),
        rows_per_unit=rows_per_unit,
    )


def check_clip(
    make_model: Callable[[], Any],
    *,
    clippings: Collection[Clipping] = ("flat", "per_layer", "automatic"),
    tokens: Sequence[int] = (7, 40),
) -> None:
    """Run every check on one model.

    Args:
        make_model: gives the model, with ``requires_grad`` set on what is trained, without dropout.
        clippings: which to check.
        tokens: lengths of the batches, the short one first, the long one such that norms are computed in either way.

    Raises:
        AssertionError: what is not kept to, with the names of all parameters concerned.

    Examples:
        >>> from reticent.testing.tiny import tiny_model
        >>> check_clip(tiny_model, clippings=("flat",), tokens=(7,))
    """
    model = make_model()
    for place, clipping in enumerate(clippings):
        # What follows from norms does not depend on how they were computed: one length does for the others.
        check_against_reference(model, clipping=clipping, tokens=tokens if place == 0 else tokens[:1])
    check_unclipped(model, make_batch(model, units=3, tokens=max(tokens)))
    check_traceless(model, make_batch(model, units=2, tokens=min(tokens)))
    check_company(model, make_batch(model, units=4, tokens=min(tokens)))
    check_half(model, make_batch(model, units=3, tokens=max(tokens)))


def check_against_reference(
    model: Any, *, clipping: Clipping = "flat", tokens: Sequence[int] = (7, 40), make: Make = BookkeepingClipper
) -> None:
    """Norms, losses and sums are those of the loop: several calls, an empty one and one of a single unit among them."""
    batches = [
        make_batch(model, units=u, tokens=t, rows_per_unit=k, seed=t) for t in tokens for u, k in ((3, 1), (2, 3))
    ]
    batches += [make_batch(model, units=0, tokens=5), make_batch(model, units=1, tokens=5)]
    # Some units are to be clipped and others not. Where the line runs is no part of what is checked.
    clip_norm = float(clip(model, batches[0])[0].norm.median())
    oracle = ReferenceClipper(model, clip_norm=clip_norm, clipping=clipping)
    clipper = make(model, clip_norm=clip_norm, clipping=clipping, autocast=None)
    with clipper.attached():
        for batch in batches:
            check_same_seen(batch.give(clipper), batch.give(oracle))
    sums = clipper.take()
    assert not any(total.requires_grad for total in sums.values()), "sums keep the graph that they came from"
    check_same_sums(model, sums, oracle.take())
    emptied = clipper.take()
    assert not any(total.any() for total in emptied.values()), "sums are not forgotten once taken"


def check_unclipped(model: Any, batch: Batch) -> None:
    """With ``clip_norm = inf`` the sum is what ``backward`` puts into ``.grad``, which itself is left alone."""
    clipper = BookkeepingClipper(model, clip_norm=math.inf, clipping="flat", autocast=None)
    with clipper.attached():
        batch.give(clipper)
    assert all(parameter.grad is None for parameter in model.parameters()), "a clipper must not touch .grad"
    check_same_sums(model, clipper.take(), ordinary_gradient(model, batch))


def check_traceless(model: Any, batch: Batch) -> None:
    """After ``attached`` the model has the same layers, outputs and gradients, to the last bit."""
    before = (_anatomy(model), _logits(model, batch), ordinary_gradient(model, batch))
    clipper = BookkeepingClipper(model, clip_norm=1.0, clipping="flat", autocast=None)
    with clipper.attached():
        inside = _logits(model, batch)
        batch.give(clipper)
    after = (_anatomy(model), _logits(model, batch), ordinary_gradient(model, batch))
    changed = [name for name in before[0] if before[0][name] != after[0].get(name)]
    assert not changed, f"not as before: {', '.join(changed)}"
    assert torch.equal(before[1], after[1]), "logits are not as before"
    torch.testing.assert_close(inside, before[1], rtol=1e-5, atol=1e-5, msg="attached, the model answers otherwise")
    moved = [name for name, p in _trained(model).items() if not torch.equal(before[2][p], after[2][p])]
    assert not moved, f"gradients are not as before: {', '.join(moved)}"


def check_company(model: Any, batch: Batch) -> None:
    """A unit's norm and the sums depend neither on the order of units, nor on their company, nor on what padding is."""
    whole, sums = clip(model, batch)
    order = list(reversed(range(len(batch.labels))))
    backwards, same = clip(model, batch.take(order))
    turned = {name: getattr(backwards, name).flip(0) for name in ("norm", "loss", "finite")}
    check_same_seen(ClippedSum(**turned), whole)
    check_same_sums(model, same, sums)
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    other = torch.randint(0, model.config.vocab_size, ids.shape, generator=torch.Generator().manual_seed(1))
    filled = replace(batch, inputs={**batch.inputs, "input_ids": ids.where(mask.bool(), other)})
    seen, same = clip(model, filled)
    check_same_seen(seen, whole)
    check_same_sums(model, same, sums)


def check_half(model: Any, batch: Batch) -> None:
    """Norms under bfloat16 activations are near those in float32, and sums are kept in float32."""
    seen, sums = clip(model, batch, autocast=torch.bfloat16)
    expected, _ = clip(model, batch)
    torch.testing.assert_close(seen.norm, expected.norm, rtol=HALF_RTOL, atol=0.0)
    assert {total.dtype for total in sums.values()} == {torch.float32}
    assert {seen.norm.dtype, seen.loss.dtype} == {torch.float32}


def check_same_seen(actual: ClippedSum, expected: ClippedSum) -> None:
    """Norms and losses agree."""
    assert actual.norm.dtype == torch.float32, actual.norm.dtype
    for what in ("norm", "loss"):
        a, b = getattr(actual, what), getattr(expected, what)
        assert torch.allclose(a, b, rtol=RTOL, atol=FLOOR), f"{what}: {a.tolist()}, not {b.tolist()}"


def check_same_sums(
    model: Any, actual: Mapping[nn.Parameter, torch.Tensor], expected: Mapping[nn.Parameter, torch.Tensor]
) -> None:
    """Sums agree for every trained parameter."""
    largest = max(float(total.abs().max()) for total in expected.values())
    wrong = []
    for name, parameter in _trained(model).items():
        if parameter not in actual:
            wrong.append(f"{name}: missing")
            continue
        a, b = actual[parameter], expected[parameter]
        off = float((a - b).abs().max()) if a.shape == b.shape else math.inf
        if not off <= RTOL * float(b.abs().max()) + FLOOR * largest:
            wrong.append(f"{name} {tuple(b.shape)}: off by {off:.3g}; ‖sum‖ {a.norm():.6g}, not {b.norm():.6g}")
    assert not wrong, f"{len(wrong)} of {len(expected)} parameters are wrong:\n" + "\n".join(wrong)
    assert len(actual) == len(expected), "sums of parameters that are not trained"


def clip(
    model: Any, batch: Batch, *, clip_norm: float = 1.0, autocast: torch.dtype | None = None
) -> tuple[ClippedSum, dict[nn.Parameter, torch.Tensor]]:
    """One batch through bookkeeping."""
    clipper = BookkeepingClipper(model, clip_norm=clip_norm, clipping="flat", autocast=autocast)
    with clipper.attached():
        seen = batch.give(clipper)
    return seen, clipper.take()


def ordinary_gradient(model: Any, batch: Batch) -> dict[nn.Parameter, torch.Tensor]:
    """``backward`` over the whole batch; ``.grad`` is emptied again."""
    logits = _run(model, batch)
    nll = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="none"
    ).view(len(logits), -1)
    trained = (batch.labels[:, 1:] != IGNORED).sum(1).clamp(min=1)
    torch.autograd.backward((nll.sum(1) / trained * batch.weight).sum())
    gradients = {p: torch.zeros_like(p) if p.grad is None else p.grad for p in _trained(model).values()}
    for parameter in model.parameters():
        parameter.grad = None
    return gradients


def _run(model: Any, batch: Batch) -> torch.Tensor:
    logits: torch.Tensor = model(**batch.inputs).logits
    return logits[:, -batch.labels.shape[1] :].float()


def _logits(model: Any, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return _run(model, batch)[batch.weight > 0]


def _trained(model: Any) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _anatomy(model: Any) -> dict[str, object]:
    """Traces that could be left on a layer: its class, its attributes and its hooks."""
    return {
        name: (type(module), sorted(vars(module)), {k: len(v) for k, v in vars(module).items() if k.endswith("_hooks")})
        for name, module in model.named_modules()
    } | {f"requires_grad of {name}": p.requires_grad for name, p in model.named_parameters()}
