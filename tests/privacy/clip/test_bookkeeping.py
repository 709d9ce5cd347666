# SPDX-License-Identifier: Apache-2.0
"""One backward pass gives what the loop gives: every tuning method on every family, and what lies at the edges."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LNTuningConfig, LoraConfig, PrefixTuningConfig, PromptEncoderConfig, get_peft_model
from torch import nn

from reticent.core.errors import BadInput
from reticent.models.encode import IGNORED
from reticent.models.tuning.method import TUNINGS
from reticent.privacy.clip import contribution
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.clipper import ClippedSum
from reticent.privacy.clip.make import make_clipper
from reticent.privacy.clip.reference import ReferenceClipper
from reticent.privacy.clip.tape import Tape
from reticent.testing.clip_conformance import (
    Batch,
    check_against_reference,
    check_clip,
    check_same_seen,
    check_same_sums,
    clip,
    make_batch,
    ordinary_gradient,
)
from reticent.testing.tiny import ZOO, tiny_of_family, tiny_tuned

WITHOUT_BIASES = set(ZOO) - {"gpt2", "qwen2"}
UNTIED = {"llama_untied", "mistral"}
PAIRS = [
    (family, method)
    for family in ZOO
    for method in TUNINGS.names()
    if not (method == "bitfit" and family in WITHOUT_BIASES) and not (method == "head_tied" and family in UNTIED)
]


CROSS = [pair for pair in PAIRS if pair[0] == "gemma3" or pair[1] == "full" or pair == ("gpt2", "bitfit")]
"""Every family with one method, and every method on one family, has all checks; other pairs their sums."""


@pytest.mark.parametrize(("family", "method"), CROSS)
def test_every_method_and_every_family(family: str, method: str) -> None:
    check_clip(lambda: tiny_tuned(family, method))


@pytest.mark.parametrize(("family", "method"), [pair for pair in PAIRS if pair not in CROSS])
def test_every_method_on_every_family(family: str, method: str) -> None:
    check_against_reference(tiny_tuned(family, method))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "method"), [pair for pair in PAIRS if pair not in CROSS])
def test_every_check_of_every_method_on_every_family(family: str, method: str) -> None:
    check_clip(lambda: tiny_tuned(family, method))


def test_norms_are_computed_in_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lengths of ``check_clip`` lead to both; and both give the same when forced."""
    model = tiny_tuned("llama", "full")
    chosen = []
    choose = contribution.smaller_written_out
    with monkeypatch.context() as patch:
        patch.setattr(
            "reticent.privacy.clip.tape.smaller_written_out", lambda one: chosen.append(choose(one)) or chosen[-1]
        )
        for tokens in (7, 40):
            clip(model, make_batch(model, units=2, tokens=tokens))
    assert {True, False} == set(chosen)
    for written_out in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr("reticent.privacy.clip.tape.smaller_written_out", lambda one, way=written_out: way)
            for family in ("gpt2", "llama", "gemma3"):
                check_against_reference(tiny_tuned(family, "full"), tokens=(3, 24))


@pytest.mark.parametrize("method", ["full", "lora", "adapter", "ia3", "prompt"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_gradient_checkpointing(family: str, method: str) -> None:
    model = tiny_tuned(family, method)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    check_against_reference(model, tokens=(16,))


def test_a_model_in_bfloat16() -> None:
    model = tiny_tuned("llama", "lora").to(torch.bfloat16)
    batch = make_batch(model, units=4, tokens=30)
    seen, sums = clip(model, batch)
    oracle = ReferenceClipper(model, clip_norm=1.0)
    torch.testing.assert_close(seen.norm, batch.give(oracle).norm, rtol=0.03, atol=0)
    for parameter, expected in oracle.take().items():
        assert sums[parameter].dtype == torch.float32
        assert (sums[parameter] - expected).norm() < 0.05 * expected.norm()


def test_no_noise_and_no_clipping_are_ordinary_training() -> None:
    """Three SGD steps through the clipper end where three ordinary ones end."""
    plain, private = tiny_tuned("llama", "full"), tiny_tuned("llama", "full")
    clipper = make(private, clip_norm=1e9)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (plain, private)]
    for step in range(3):
        batch = make_batch(plain, units=3, tokens=12, seed=step)
        for parameter, gradient in ordinary_gradient(plain, batch).items():
            parameter.grad = gradient
        with clipper.attached():
            batch.give(clipper)
        for parameter, gradient in clipper.take().items():
            parameter.grad = gradient
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for (name, one), other in zip(plain.named_parameters(), private.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("impl", ["bookkeeping", "reference"])
@pytest.mark.parametrize("clipping", ["flat", "per_layer", "automatic"])
def test_no_unit_contributes_more_than_the_bound(impl: Any, clipping: Any) -> None:
    model = tiny_tuned("qwen2", "full")
    clipper = make_clipper(model, clip_norm=0.05, clipping=clipping, impl=impl)
    with clipper.attached():
        for unit in range(4):
            seen = make_batch(model, units=1, tokens=9, rows_per_unit=2, seed=unit).give(clipper)
            length = math.hypot(*(float(total.norm()) for total in clipper.take().values()))
            assert length <= 0.05 * (1 + 1e-5)
            assert length > 0.04 or clipping == "per_layer"
            assert float(seen.norm) > 0.05


def test_nothing_to_learn_from() -> None:
    """No unit, no token, no trained token, no weight: zero norms, zero sums."""
    model = tiny_tuned("llama", "full")
    whole = make_batch(model, units=2, tokens=6)
    blank = torch.full_like(whole.labels, IGNORED)
    for batch in (
        whole.take([]),
        Batch(inputs=whole.inputs, labels=blank, weight=whole.weight),
        Batch(inputs=whole.inputs, labels=whole.labels, weight=torch.zeros(2)),
        Batch(inputs={k: v[:, :1] for k, v in whole.inputs.items()}, labels=whole.labels[:, :1], weight=whole.weight),
    ):
        for clipping in ("flat", "per_layer", "automatic"):
            clipper = make(model, clipping=clipping)
            with clipper.attached():
                seen = batch.give(clipper)
            assert seen.norm.tolist() == [0.0] * len(batch.labels)
            assert seen.loss.tolist() == [0.0] * len(batch.labels)
            taken = clipper.take()
            assert set(taken) == set(model.parameters())
            assert not any(total.any() for total in taken.values())


def test_rows_of_a_unit_are_one_gradient() -> None:
    """A unit of one row twice, at half the weight, is the row; two rows that are two units are not."""
    model = tiny_tuned("llama", "full")
    row = make_batch(model, units=1, tokens=9)
    twice = Batch(
        inputs={k: v.repeat(2, 1) for k, v in row.inputs.items()},
        labels=row.labels.repeat(2, 1),
        weight=row.weight.repeat(2) / 2,
        rows_per_unit=2,
    )
    expected, sums = clip(model, row)
    seen, same = clip(model, twice)
    check_same_seen(seen, expected)
    check_same_sums(model, same, sums)


@pytest.mark.parametrize(
    "config",
    [
        PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=16),
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=16),
        LoraConfig(task_type="CAUSAL_LM", r=4, bias="all", modules_to_save=["lm_head"]),
        LNTuningConfig(task_type="CAUSAL_LM"),
    ],
    ids=["p_tuning", "prefix_projection", "lora_and_more", "norms"],
)
@pytest.mark.filterwarnings("ignore")
def test_what_else_peft_can_train(config: Any) -> None:
    torch.manual_seed(0)
    model = get_peft_model(tiny_of_family("qwen2"), config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    check_clip(lambda: model)


# ---- what is left behind -------------------------------------------------------------------------------------------


def test_an_attached_model_can_be_evaluated() -> None:
    """Held-out loss may be measured between steps, gradients of it may even be taken: nothing is recorded."""
    model = tiny_tuned("llama", "full")
    batch = make_batch(model, units=2, tokens=6)
    clipper = make(model)
    with clipper.attached():
        inside = ordinary_gradient(model, batch)
        assert not any(total.any() for total in clipper.take().values())
    outside = ordinary_gradient(model, batch)
    assert all(torch.equal(inside[parameter], outside[parameter]) for parameter in outside)


def test_accumulating_while_not_attached_is_an_error() -> None:
    model = tiny_tuned("llama", "full")
    with pytest.raises(BadInput):
        make_batch(model, units=2, tokens=6).give(make(model))


@pytest.mark.parametrize("clipping", ["flat", "per_layer", "automatic"])
@pytest.mark.parametrize("impl", ["bookkeeping", "reference"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_a_unit_that_is_not_finite_adds_nothing(impl: Any, clipping: Any, autocast: torch.dtype | None) -> None:
    """The others add what they add without it; were it an error, one record could end every training."""
    model = tiny_tuned("llama_untied", "full")
    with torch.no_grad():
        model.model.embed_tokens.weight[250] = math.nan
        model.model.embed_tokens.weight[251] = math.inf
    batch = make_batch(model, units=6, tokens=40)
    batch.inputs["input_ids"].clamp_(max=249)
    poisoned = replace(batch, inputs={name: tensor.clone() for name, tensor in batch.inputs.items()})
    poisoned.inputs["input_ids"][1, 0], poisoned.inputs["input_ids"][4, 1] = 250, 251
    rest = batch.take([0, 2, 3, 5])

    def summed(of: Batch) -> tuple[ClippedSum, dict[nn.Parameter, torch.Tensor]]:
        clipper = make_clipper(model, clip_norm=0.1, clipping=clipping, impl=impl, autocast=autocast)
        with clipper.attached():
            return of.give(clipper), clipper.take()

    seen, sums = summed(poisoned)
    wanted, others = summed(rest)
    assert seen.finite.tolist() == [True, False, True, True, False, True]
    assert seen.norm[[1, 4]].tolist() == [0, 0]
    torch.testing.assert_close(seen.norm[[0, 2, 3, 5]], wanted.norm, rtol=1e-2, atol=0)
    for parameter, total in others.items():
        torch.testing.assert_close(sums[parameter], total, rtol=1e-2, atol=1e-3 * float(total.abs().max()))


def test_a_step_of_units_that_are_not_finite_adds_nothing() -> None:
    model = tiny_tuned("llama", "full")
    with torch.no_grad():
        model.lm_head.weight[3, 3] = math.nan
    for impl in ("bookkeeping", "reference"):
        clipper = make_clipper(model, clip_norm=1.0, impl=impl)  # type: ignore[arg-type]
        with clipper.attached():
            seen = make_batch(model, units=2, tokens=5).give(clipper)
        assert not bool(seen.finite.any())
        assert not any(bool(total.any()) for total in clipper.take().values())


# ---- the harness ---------------------------------------------------------------------------------------------------


class Faulty(BookkeepingClipper):
    """Forgets one parameter, scales another, in the sums only."""

    def take(self) -> dict[nn.Parameter, torch.Tensor]:
        sums = super().take()
        names = dict(self.model.named_parameters())
        sums[names["model.norm.weight"]].zero_()
        sums[names["model.layers.0.mlp.up_proj.weight"]].mul_(1.001)
        return sums


class Deaf(BookkeepingClipper):
    """Reports norms that leave out a thousandth."""

    def accumulate(self, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, **kwargs: Any) -> ClippedSum:
        seen = super().accumulate(inputs, labels, **kwargs)
        return replace(seen, norm=seen.norm * 0.999)


def test_the_harness_names_all_that_fails() -> None:
    model = tiny_of_family("llama").requires_grad_(True)
    with pytest.raises(AssertionError) as caught:
        check_against_reference(model, make=Faulty)
    assert "2 of 20 parameters" in str(caught.value)
    assert "model.norm.weight" in str(caught.value)
    assert "model.layers.0.mlp.up_proj.weight" in str(caught.value)
    with pytest.raises(AssertionError, match="norm"):
        check_against_reference(model, make=Deaf)


def make(model: Any, *, clip_norm: float = 1.0, clipping: Any = "flat") -> BookkeepingClipper:
    return BookkeepingClipper(model, clip_norm=clip_norm, clipping=clipping, autocast=None)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("tokens", [7, 40])
def test_nothing_of_a_batch_outlives_it(
    autocast: torch.dtype | None, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tape holds all activations; graph and tape that hold each other would never be let go."""
    tapes: list[weakref.ref[Tape]] = []

    class Watched(Tape):
        def __init__(self, **about: Any) -> None:
            super().__init__(**about)
            tapes.append(weakref.ref(self))

    monkeypatch.setattr("reticent.privacy.clip.bookkeeping.Tape", Watched)
    model = tiny_tuned("llama", "full")
    clipper = make_clipper(model, clip_norm=1.0, autocast=autocast, impl="bookkeeping")
    batch = make_batch(model, units=3, tokens=tokens)
    gc.disable()
    try:
        with clipper.attached():
            clipper.accumulate(batch.inputs, batch.labels, weight=batch.weight)
        assert [tape() for tape in tapes] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
@pytest.mark.parametrize("tokens", [7, 40])
def test_rounding_makes_no_clipped_gradient_longer_than_promised(family: str, tokens: int) -> None:
    model = tiny_tuned(family, "full")
    batch = make_batch(model, units=6, tokens=tokens)
    clipper = make_clipper(model, clip_norm=1e-2, autocast=torch.bfloat16)
    for unit in range(6):
        rows = slice(unit, unit + 1)
        with clipper.attached():
            inputs = {name: tensor[rows] for name, tensor in batch.inputs.items()}
            clipper.accumulate(inputs, batch.labels[rows], weight=batch.weight[rows])
        sums = clipper.take()
        assert torch.stack([total.double().norm() for total in sums.values()]).norm() <= 1e-2
