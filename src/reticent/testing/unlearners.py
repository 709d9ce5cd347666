# SPDX-License-Identifier: Apache-2.0
"""Conformance of unlearning methods: ``check_unlearner("my_method")`` tries it on planted rows, without a model."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from reticent.core.errors import BadInput
from reticent.train.unlearning.method import UNLEARNERS, Unlearner
from reticent.train.unlearning.rows import Rows

__all__ = ["check_unlearner", "planted_rows"]

ROWS, POSITIONS, VOCABULARY, WIDTH = 5, 8, 11, 6
STEP = 1e-2
"""The most that a logit moves in the step along the gradient that shows its direction."""
RTOL, ATOL = 1e-5, 1e-6
"""Losses within these are the same."""
OTHER = 17.0
"""Stands where nothing may be read."""


def check_unlearner(method: Unlearner | str) -> None:
    """Run every check on one unlearning method, registered or not.

    Losses are tried on rows that the model knows: that the gradient is finite and points where it is declared to; that
    prompt and padding count for nothing; rows and batches without a trained token; micro-batches; bfloat16; the same
    seed; settings that cannot be. Of the other kinds, what is declared.

    Args:
        method: a name, or what `reticent.train.unlearning.method.Unlearner` describes.

    Raises:
        AssertionError: the method does not keep to something; says to what.

    Examples:
        >>> check_unlearner("npo")
    """
    method = UNLEARNERS.get(method) if isinstance(method, str) else method
    _check_declared(method)
    _check_settings(method)
    if method.kind == "weights":
        _check_on_weights(method)
    if method.kind != "loss":
        return
    _check_needs(method)
    _check_loss(method)
    _check_pure(method)
    _check_direction(method)
    _check_untrained_positions(method)
    _check_rows_without_tokens(method)
    _check_micro_batches(method)
    _check_bfloat16(method)


def planted_rows(*needs: str, seed: int = 0, rows: int = ROWS, dtype: torch.dtype = torch.float32) -> Rows:
    """Rows of a made-up model that knows them: the true token is on top. Of each row some positions are trained.

    Args:
        needs: fields of `Rows` to be given beside logits.
        seed: of the numbers.
        rows: how many.
        dtype: of logits and hidden states.
    """
    made = torch.Generator().manual_seed(seed)
    gold = torch.randint(VOCABULARY, (rows, POSITIONS), generator=made)
    logits = torch.randn(rows, POSITIONS, VOCABULARY, generator=made)
    logits.scatter_add_(2, gold[..., None], torch.full((rows, POSITIONS, 1), 4.0))
    lengths = torch.arange(rows) % (POSITIONS - 4) + 3
    places = torch.arange(POSITIONS)
    trained = (places >= 1) & (places[None] <= lengths[:, None])
    tuned = logits + 0.1 * torch.randn(logits.shape, generator=made)
    before = Rows(logits=tuned, gold=gold, trained=trained)
    given: dict[str, Any] = {}
    if "reference_logp" in needs:
        given["reference_logp"] = before.logp
    if "reference_logits" in needs:
        given["reference_logits"] = tuned.to(dtype)
    if "alternative" in needs:
        given["alternative"] = planted_rows("reference_logp", seed=seed + 1, rows=rows, dtype=dtype)
    if {"hidden", "reference_hidden"} & set(needs):
        given["hidden"] = torch.randn(rows, POSITIONS, WIDTH, generator=made).to(dtype)
    if "reference_hidden" in needs:
        given["reference_hidden"] = torch.randn(rows, POSITIONS, WIDTH, generator=made).to(dtype)
    return Rows(logits=logits.to(dtype), gold=gold, trained=trained, **given)


# ---- declared -------------------------------------------------------------------------------------------------------


def _check_declared(method: Unlearner) -> None:
    name = method.name
    assert method.summary.endswith("."), f"{name}: the summary must be one whole sentence"
    assert method.paper, f"{name}: needs a paper (paper=)"
    if method.kind == "exact":
        return
    assert method.learning_rate is not None, f"{name}: needs the learning rate of its authors (learning_rate=)"
    assert math.isfinite(method.learning_rate), f"{name}: the learning rate is not finite"
    assert method.learning_rate > 0, f"{name}: the learning rate is not above 0"
    assert method.epochs is not None, f"{name}: needs the epochs of its authors (epochs=)"
    assert method.epochs >= 1, f"{name}: needs an epoch"
    text = " ".join((inspect.getdoc(method.function) or "").split())
    for word in ("Unit:", "Direction:", "Source:", "``"):
        assert word in text, f"{name}: the docstring must say {word} in the form of the others"
    for setting in _own_settings(method):
        assert f"{setting}:" in text, f"{name}: the docstring must say what {setting} is"


def _own_settings(method: Unlearner) -> list[str]:
    parts = {item.name for part in method.parts for item in fields(part)}
    return [name for name in method.settings if name not in parts]


def _check_settings(method: Unlearner) -> None:
    """Settings that it does not have, and numbers that it cannot take, are refused; its defaults are not."""
    method.check(method.defaults)
    _refused(method, {"no_such_setting": 1.0}, "a setting that it does not have")
    for name, setting in method.settings.items():
        if isinstance(setting.default, str | bool):
            continue
        assert setting.bounds is not None, f"{method.name}: {name} needs a range (an annotation of unlearning.ranges)"
        for value in (math.nan, math.inf, -math.inf, "1", None, True):
            _refused(method, {name: value}, f"{name}={value!r}")
    for preset in method.presets.values():
        method.check({name: value for name, value in preset.items() if name in method.settings})


def _refused(method: Unlearner, params: Mapping[str, Any], description: str) -> None:
    try:
        method.check(params)
    except BadInput:
        return
    raise AssertionError(f"{method.name}: takes {description}")


def _check_on_weights(method: Unlearner) -> None:
    """Finite, of the same shape and dtype, a pure function, and nothing where there is nothing to go away from."""
    assert method.function is not None
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.linspace(-1, 1, 6).reshape(2, 3).to(dtype)
        overfitted = weight + 0.25
        copies = weight.clone(), overfitted.clone()
        changed = method.function(weight, overfitted)
        assert changed.shape == weight.shape, f"{method.name}: another shape comes out"
        assert changed.dtype == dtype, f"{method.name}: another dtype comes out"
        assert bool(changed.isfinite().all()), f"{method.name}: weights are not finite"
        same = method.function(weight, weight)
        assert torch.equal(same, weight), f"{method.name}: changes weights that overfitting leaves alone"
        untouched = torch.equal(copies[0], weight) and torch.equal(copies[1], overfitted)
        assert untouched, f"{method.name}: writes into its input"


# ---- losses ---------------------------------------------------------------------------------------------------------


def _check_needs(method: Unlearner) -> None:
    """It reads no more than it declares, and is refused where that is not there."""
    try:
        method(_given(method, planted_rows(*method.needs)))
    except (AttributeError, TypeError, AssertionError) as error:
        raise AssertionError(f"{method.name}: reads more than it declares (needs=): {error!r}") from error
    for need in method.needs:
        try:
            method(_without(planted_rows(*method.needs), need))
        except BadInput:
            continue
        raise AssertionError(f"{method.name}: takes rows without {need}")


def _given(method: Unlearner, rows: Rows) -> Rows:
    """Nothing but what is declared."""
    optional = ("reference_logp", "reference_logits", "alternative", "hidden", "reference_hidden")
    return _without(rows, *(name for name in optional if name not in method.needs))


def _without(rows: Rows, *names: str) -> Rows:
    nothing: dict[str, Any] = dict.fromkeys(names)
    return replace(rows, **nothing)


def _gradients(method: Unlearner, rows: Rows, **params: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and its gradient at logits, hidden states, and logits of alternatives; 0 where it reaches none."""
    leaves = {"logits": rows.logits.detach().clone().requires_grad_()}
    changed: dict[str, Any] = {"logits": leaves["logits"]}
    if rows.hidden is not None:
        changed["hidden"] = leaves["hidden"] = rows.hidden.detach().clone().requires_grad_()
    if rows.alternative is not None:
        leaves["alternative"] = rows.alternative.logits.detach().clone().requires_grad_()
        changed["alternative"] = replace(rows.alternative, logits=leaves["alternative"])
    loss = method(replace(rows, **changed), **params)
    assert loss.requires_grad, f"{method.name}: the loss has no gradient"
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), grads, strict=True)
    return loss.detach(), {name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in pairs}


def _check_loss(method: Unlearner) -> None:
    """A number without dimensions, float32, finite, with a gradient that is finite and somewhere above 0."""
    for seed in range(3):
        loss, grads = _gradients(method, planted_rows(*method.needs, seed=seed))
        assert loss.shape == (), f"{method.name}: the loss has the shape {tuple(loss.shape)}"
        assert loss.dtype == torch.float32, f"{method.name}: the loss is {loss.dtype}, not float32"
        assert bool(loss.isfinite()), f"{method.name}: the loss is {loss.item()}"
        for name, grad in grads.items():
            assert bool(grad.isfinite().all()), f"{method.name}: the gradient at {name} is not finite"
        assert any(bool(grad.any()) for grad in grads.values()), f"{method.name}: the gradient is 0"


def _check_direction(method: Unlearner) -> None:
    if method.direction == "none":
        return
    for seed in range(3):
        rows = planted_rows(*method.needs, seed=seed)
        _, grads = _gradients(method, rows)
        slope, logits = grads["logits"].double(), rows.logits.double()
        after = replace(rows, logits=logits - STEP * slope / slope.abs().max())
        fallen = bool((after.logp < replace(rows, logits=logits).logp).all())
        assert fallen, f"{method.name}: a small step does not lower the log-probability of every forget row"


def _check_untrained_positions(method: Unlearner) -> None:
    """Other prompts and other padding change neither loss nor gradient, and get none."""
    rows = planted_rows(*method.needs)
    loss, grads = _gradients(method, rows)
    other_loss, other_grads = _gradients(method, _elsewhere(rows))
    same = torch.equal(loss, other_loss)
    assert same, f"{method.name}: prompt or padding changes the loss from {loss.item()} to {other_loss.item()}"
    for name, grad in grads.items():
        trained = rows.alternative.trained if name == "alternative" and rows.alternative is not None else rows.trained
        assert not bool(grad[~trained].any()), f"{method.name}: prompt or padding has a gradient at {name}"
        equal = torch.equal(grad, other_grads[name])
        assert equal, f"{method.name}: prompt or padding changes the gradient at {name}"


def _elsewhere(rows: Rows) -> Rows:
    """The same rows with other things where nothing is trained."""
    out = ~rows.trained
    changed: dict[str, Any] = {"gold": rows.gold.masked_fill(out, 0)}
    for name in ("logits", "reference_logits", "hidden", "reference_hidden"):
        values = getattr(rows, name)
        changed[name] = None if values is None else values.masked_fill(out[..., None], OTHER)
    changed["alternative"] = None if rows.alternative is None else _elsewhere(rows.alternative)
    return replace(rows, **changed)


def _check_rows_without_tokens(method: Unlearner) -> None:
    """A row without a trained token takes no part; without any the loss is 0; an empty batch and one row work."""
    rows = planted_rows(*method.needs)
    mute = _cut(rows, lambda values: values.clone())
    mute.trained[2] = False
    _zero(mute, 2)
    loss, grads = _gradients(method, mute)
    assert bool(loss.isfinite()), f"{method.name}: a row without a trained token makes the loss {loss.item()}"
    assert all(bool(grad.isfinite().all()) for grad in grads.values()), f"{method.name}: … and its gradient not finite"
    without, _ = _gradients(method, _cut(rows, lambda values: values[[0, 1, 3, 4]]))
    alike = torch.allclose(loss, without, rtol=RTOL, atol=ATOL)
    assert alike, f"{method.name}: a row without a trained token counts: {loss.item()}, not {without.item()}"
    silent = _cut(rows, lambda values: values.clone())
    silent.trained[:] = False
    for row in range(ROWS):
        _zero(silent, row)
    for batch, words in ((silent, "rows without a trained token"), (_cut(rows, lambda values: values[:0]), "no row")):
        loss, grads = _gradients(method, batch)
        assert loss.item() == 0, f"{method.name}: {words}: the loss is {loss.item()}, not 0"
        assert not any(bool(grad.any()) for grad in grads.values()), f"{method.name}: {words} have a gradient"
        assert method.count(batch) == 0, f"{method.name}: {words}: counts {method.count(batch)}, not 0"
    loss, _ = _gradients(method, _cut(rows, lambda values: values[:1]))
    assert bool(loss.isfinite()), f"{method.name}: the loss of one row is {loss.item()}"


def _zero(rows: Rows, row: int) -> None:
    if rows.reference_logp is not None:
        rows.reference_logp[row] = 0


def _cut(rows: Rows, of: Callable[[Tensor], Tensor]) -> Rows:
    """Rows made of these tensors by a function of each."""
    tensors = {item.name: getattr(rows, item.name) for item in fields(rows) if item.name != "alternative"}
    made: dict[str, Any] = {name: None if values is None else of(values) for name, values in tensors.items()}
    return Rows(**made, alternative=None if rows.alternative is None else _cut(rows.alternative, of))


def _check_micro_batches(method: Unlearner) -> None:
    """The loss of a batch is that of its parts, weighted by what each is a mean over."""
    rows = planted_rows(*method.needs)
    loss, grads = _gradients(method, rows)
    parts = [_cut(rows, itemgetter(piece)) for piece in (slice(0, 2), slice(2, 3), slice(3, ROWS))]
    counts = [method.count(part) for part in parts]
    assert sum(counts) == method.count(rows), f"{method.name}: counts {counts} do not add up to {method.count(rows)}"
    pieces = [_gradients(method, part) for part in parts]
    together = sum(n * piece.item() for n, (piece, _) in zip(counts, pieces, strict=True)) / sum(counts)
    assert math.isclose(together, loss.item(), rel_tol=RTOL, abs_tol=ATOL), (
        f"{method.name}: micro-batches give {together}, not {loss.item()} (is it a mean over {method.mean_over}?)"
    )
    for name, grad in grads.items():
        weighted = [n * piece[name] / sum(counts) for n, (_, piece) in zip(counts, pieces, strict=True)]
        alike = torch.allclose(torch.cat(weighted), grad, rtol=1e-4, atol=ATOL)
        assert alike, f"{method.name}: micro-batches give another gradient at {name}"


def _check_pure(method: Unlearner) -> None:
    """The same loss again, whatever was drawn before, and nothing written into the rows."""
    rows = planted_rows(*method.needs)
    copy = _cut(rows, lambda values: values.clone())
    loss, _ = _gradients(method, rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        state = torch.random.get_rng_state()
        again, _ = _gradients(method, rows)
        moved = not torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(loss, again), f"{method.name}: a second call gives another loss"
    assert not moved, f"{method.name}: draws from the random state of the training; make a generator of a seed"
    for item in fields(rows):
        before, after = getattr(copy, item.name), getattr(rows, item.name)
        if isinstance(after, Tensor):
            assert torch.equal(before, after), f"{method.name}: writes into {item.name}"


def _check_bfloat16(method: Unlearner) -> None:
    """Logits in bfloat16 are computed with in float32, also where autocast is on; the gradient is bfloat16."""
    coarse = planted_rows(*method.needs, dtype=torch.bfloat16)
    fine = _cut(coarse, lambda values: values.float() if values.dtype == torch.bfloat16 else values)
    right, _ = _gradients(method, fine)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss, grads = _gradients(method, coarse)
        assert loss.dtype == torch.float32, f"{method.name}: bfloat16 logits give a loss in {loss.dtype}"
        alike = torch.allclose(loss, right, rtol=RTOL, atol=ATOL)
        assert alike, f"{method.name}: computes in bfloat16: {loss.item()}, not {right.item()}"
        assert all(grad.dtype == torch.bfloat16 for grad in grads.values())
