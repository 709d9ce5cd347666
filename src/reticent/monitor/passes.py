# SPDX-License-Identifier: Apache-2.0
"""One pass over the panel with a model that is being trained, which is left exactly as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from reticent.models import adapters
from reticent.models.encode import EncodedRecord
from reticent.models.held_weights import plain_layers
from reticent.models.load import pick_dtype
from reticent.monitor.look import PanelPass, copied_share
from reticent.score.candidates.memory import steady_heap
from reticent.score.engine import Engine, ScoreOptions, open_engine, score
from reticent.score.forward import device_of

_PROBE = 4
"""Records by which it is found out whether a fresh adapter changes what the model says."""
_INTO_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to start LoRA that move a part of the base's weights into the adapter: with it switched off, no base is left."""


@dataclass(kw_only=True, eq=False)
class Passes:
    """Makes looks at the same texts, over and over.

    Args:
        rows: ``[N]`` encoded records, each with a token to predict.
        dtype: what is computed in: "float32", "bfloat16", or "auto" for bfloat16 where the device computes in it, as
            an audit does. Weights in float32 are rounded for the time of a look, so a look sees what an audit of the
            saved model would see.
    """

    rows: Sequence[EncodedRecord]
    dtype: str = "auto"
    _engines: dict[bool, Engine] = field(default_factory=dict)

    def look(self, model: Any) -> PanelPass:
        """At the model as it answers now."""
        return self._pass(model, self.rows, off=False)

    def base(self, model: Any, fresh: PanelPass) -> PanelPass:
        """At the base, before training: the model with its adapter switched off, if that makes a difference.

        Args:
            model: before its first step.
            fresh: what `look` gave for it.
        """
        if not adapters.can_switch_off(model) or _holds_a_part_of_the_base(model):
            return fresh
        probe = self._pass(model, self.rows[:_PROBE], off=True)
        same = self._pass(model, self.rows[:_PROBE], off=False)
        if np.array_equal(probe.nll, same.nll):
            return fresh
        return self._pass(model, self.rows, off=True)

    def _pass(self, model: Any, rows: Sequence[EncodedRecord], *, off: bool) -> PanelPass:
        with as_it_was(model), ExitStack() as within:
            if pick_dtype(self.dtype, device_of(model).type) == "bfloat16":
                within.enter_context(rounded(model))
            if off:
                within.enter_context(adapters.switched_off(model))
            if off not in self._engines:
                self._engines[off] = open_engine(model, "the model in training", ScoreOptions())
            columns, offsets = score(self._engines[off], rows)
        ends = list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
        places = [np.flatnonzero(row.trained[1:]) for row in rows]
        logp = columns["logp"].astype(np.float64)
        copied = [copied_share(columns["rank"][a:b], place) for (a, b), place in zip(ends, places, strict=True)]
        return PanelPass(
            nll=np.array([-logp[a:b].sum() for a, b in ends]),
            tokens=np.diff(offsets).astype(np.int32),
            copied=np.array(copied, dtype=np.float64),
        )


@contextmanager
def as_it_was(model: Any) -> Iterator[None]:
    """Within this context the model is in evaluation mode; afterwards modes, what is trained and the state of random
    numbers are those of before, so that a training goes on as if nobody had looked."""
    training = [module for module in model.modules() if module.training]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    device = device_of(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), steady_heap():
        model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True
            for parameter, needs in wanted:
                parameter.requires_grad_(needs)


@contextmanager
def rounded(model: Any) -> Iterator[None]:
    """Within this context parameters hold bfloat16 copies of themselves; afterwards the very same tensors.

    A copy for the time of a look is faster than autocast, which rounds weights again for each batch and keeps the
    residual stream in float32: 0.6 against 0.7 ms a token with SmolLM2-135M on 2 cores.
    """
    wider = (torch.float32, torch.float16)
    weights = [(parameter, parameter.data) for parameter in model.parameters() if parameter.dtype in wider]
    try:
        for parameter, data in weights:
            parameter.data = data.to(torch.bfloat16)
        with plain_layers(model):
            yield
    finally:
        for parameter, data in weights:
            parameter.data = data


def _holds_a_part_of_the_base(model: Any) -> bool:
    configs = getattr(model, "peft_config", None) or {}
    ways = [getattr(config, "init_lora_weights", None) for config in configs.values()]
    return any(isinstance(way, str) and way.lower().startswith(_INTO_THE_BASE) for way in ways)
