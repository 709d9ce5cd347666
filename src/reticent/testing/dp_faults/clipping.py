# SPDX-License-Identifier: Apache-2.0
"""Units that add more, or other, than their own clipped gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from reticent.models.encode import IGNORED
from reticent.testing.dp_faults.fault import BATCH, CLIP_NORM, PER_USER, TrainerUnderTest, fault


def factors(name: str, *, privacy: bool = True, **setting: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``change(rig, right, uppers, longest)`` in the place of the clipper's choice of factors."""

    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant(rig: TrainerUnderTest) -> None:
            right = rig.trainer.clipper._factors
            rig.put(rig.trainer.clipper, "_factors", lambda *given: change(rig, right, *given))

        fault(name, privacy=privacy, **setting)(plant)
        return change

    return register


def _without(rig: TrainerUnderTest, right: Any, uppers: Any, words: tuple[str, ...]) -> Any:
    """Factors from norms that leave out the parameters whose name has one of the words."""
    names = {p: name for name, p in rig.trainer.model.named_parameters()}
    left = [upper.square() for p, upper in uppers.items() if not any(word in names[p] for word in words)]
    return right(uppers, torch.stack(left).sum(0).sqrt())


@factors("clip: nothing")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    return {p: torch.ones_like(longest) for p in uppers}


@factors("clip: at twice the clip norm")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    return {p: (2 * CLIP_NORM / longest).clamp(max=1) for p in uppers}


@factors("clip: the clip norm grows by 1 % a step")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    limit = CLIP_NORM * 1.01**rig.trainer.state.global_step
    return {p: (limit / longest).clamp(max=1) for p in uppers}


@factors("clip: not one layer")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    clip_factors = right(uppers, longest)
    clip_factors[list(clip_factors)[4]] = torch.ones_like(longest)
    return clip_factors


@factors("clip: each layer at the whole clip norm")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    return {p: (CLIP_NORM / upper).clamp(max=1) for p, upper in uppers.items()}


@factors("clip: norms without RMSNorm", privacy=True, tuning="full")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    return _without(rig, right, uppers, ("norm",))


@factors("clip: norms without the embedding")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    return _without(rig, right, uppers, ("embed",))


@factors("clip: the factor of another unit")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    return {p: factor.roll(1) for p, factor in right(uppers, longest).items()}


@factors("clip: one factor for all, of the smallest norm")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    return right(uppers, longest.min().expand_as(longest))


@factors("clip: one factor for all, of the mean norm")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    return right(uppers, longest.mean().expand_as(longest))


@factors("clip: the second half of a micro-batch is not")
def _(rig: TrainerUnderTest, right: Any, uppers: Any, longest: Any) -> Any:
    clip_factors = right(uppers, longest)
    for factor in {id(shared): shared for shared in clip_factors.values()}.values():
        factor[(len(factor) + 1) // 2 :] = 1
    return clip_factors


@fault("clip: norms without the products between uses of a tied weight")
def _(rig: TrainerUnderTest) -> None:
    from reticent.privacy.clip import tape

    rig.put(tape, "squares", lambda contributions, squared_sizes: torch.stack(squared_sizes).sum(0))


@fault("clip: norms of short records four times too small")
def _(rig: TrainerUnderTest) -> None:
    from reticent.privacy.clip.tape import Tape

    right = Tape.squares

    def small(tape: Any) -> Any:
        length = next(iter(tape.contributions.values()))[0]
        shape = getattr(length, "left", getattr(length, "value", None))
        short = shape is not None and shape.shape[1] < 8
        return {p: square / 16 if short else square for p, square in right(tape).items()}

    rig.put(Tape, "squares", small)
    rig.put(Tape, "uppers", lambda tape, squares: {p: square.sqrt() for p, square in squares.items()})


@fault("clip: the mean of a micro-batch")
def _(rig: TrainerUnderTest) -> None:
    clipper = rig.trainer.clipper
    right = clipper.accumulate

    def accumulate(inputs: Any, labels: Any, *, weight: Any, rows_per_unit: int = 1) -> Any:
        units = len(labels) // rows_per_unit
        seen = right(inputs, labels, weight=weight / units, rows_per_unit=len(labels))
        whole = {name: getattr(seen, name).expand(units) for name in ("norm", "loss", "finite")}
        return replace(seen, **whole)

    rig.put(clipper, "accumulate", accumulate)


@fault("clip: sums are not forgotten")
def _(rig: TrainerUnderTest) -> None:
    clipper = rig.trainer.clipper
    take = clipper.take

    def remember() -> Any:
        sums = take()
        clipper._totals = {p: total.clone() for p, total in sums.items()}
        return sums

    rig.put(clipper, "take", remember)


def _rows_apart(rig: TrainerUnderTest, *, mean: bool) -> None:
    clipper = rig.trainer.clipper
    right = clipper.accumulate

    def accumulate(inputs: Any, labels: Any, *, weight: Any, rows_per_unit: int = 1) -> Any:
        weight = weight if mean else (weight > 0).float() * weight * PER_USER
        seen = right(inputs, labels, weight=weight, rows_per_unit=1)
        units = len(labels) // rows_per_unit
        together = {name: getattr(seen, name).view(units, rows_per_unit) for name in ("norm", "loss", "finite")}
        norm, loss = together["norm"].square().sum(1).sqrt(), together["loss"].sum(1)
        return replace(seen, norm=norm, loss=loss, finite=together["finite"].all(1))

    rig.put(clipper, "accumulate", accumulate)


@fault("clip: rows of a user one by one", unit="user")
def _(rig: TrainerUnderTest) -> None:
    _rows_apart(rig, mean=True)


@fault("clip: rows of a user one by one, and summed", unit="user")
def _(rig: TrainerUnderTest) -> None:
    _rows_apart(rig, mean=False)


@fault("micro-batch: one is added twice")
def _(rig: TrainerUnderTest) -> None:
    right = rig.trainer._micro_batches

    def twice(units: Any) -> Iterator[Any]:
        for place, batch in enumerate(right(units)):
            yield batch
            if place == 0:
                yield batch

    rig.put(rig.trainer, "_micro_batches", twice)


@fault("micro-batch: one is added twice and looked at once")
def _(rig: TrainerUnderTest) -> None:
    clipper = rig.trainer.clipper
    right = clipper.accumulate
    rig.memory["calls"] = 0

    def accumulate(*given: Any, **how: Any) -> Any:
        rig.memory["calls"] += 1
        if rig.memory["calls"] % 3 == 1:
            right(*given, **how)
        return right(*given, **how)

    rig.put(clipper, "accumulate", accumulate)


@fault("micro-batch: one is left out", privacy=False)
def _(rig: TrainerUnderTest) -> None:
    right = rig.trainer._micro_batches
    rig.put(rig.trainer, "_micro_batches", lambda units: iter(list(right(units))[:-1]))


@fault("micro-batch: attention to padding")
def _(rig: TrainerUnderTest) -> None:
    right = rig.trainer._micro_batches

    def all_ones(units: Any) -> Iterator[Any]:
        for batch in right(units):
            mask = torch.ones_like(batch.inputs["attention_mask"])
            ids = batch.inputs["input_ids"].flip(1)
            labels = batch.labels.flip(1)
            yield replace(batch, inputs={"input_ids": ids, "attention_mask": mask}, labels=labels)

    rig.put(rig.trainer, "_micro_batches", all_ones)


@fault("loss: labels are shifted twice", privacy=False)
def _(rig: TrainerUnderTest) -> None:
    from reticent.privacy.clip import bookkeeping

    right = vars(bookkeeping)["row_losses"]

    def shifted(logits: Any, labels: Any, weight: Any) -> Any:
        return right(logits, nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED), weight)

    rig.put(bookkeeping, "row_losses", shifted)


@fault("loss: divided by the batch", privacy=False)
def _(rig: TrainerUnderTest) -> None:
    clipper = rig.trainer.clipper
    right = clipper.accumulate
    rig.put(clipper, "accumulate", lambda *given, weight, **how: right(*given, weight=weight / BATCH, **how))
