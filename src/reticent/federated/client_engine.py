# SPDX-License-Identifier: Apache-2.0
"""The seam between a federation and whatever reaches its clients: one process, workers on one machine, or many
machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from transformers import set_seed

from reticent.federated.client_training import LocalTraining
from reticent.federated.exchange.lora_factors_mean import freeze_first_factors
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.local_grid import Grid, LocalGrid
from reticent.models.encode import EncodedRecord
from reticent.models.load import LoadedModel, has_bfloat16
from reticent.models.tuned import TuningInfo
from reticent.models.tuning.method import TUNINGS
from reticent.train.config import TuneConfig
from reticent.train.start import fresh


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientSide:
    """All that clients need in order to train, as the server has it.

    Args:
        base: folder, hub id or catalogue name.
        spec: of the federation.
        model: the server's own, with the tuning method on it; an engine in the same process may train with it.
        names: of the clients.
        rows: of each client, encoded; empty where texts lie with the clients.
        how: they train.
    """

    base: str
    spec: FederationSpec
    model: Any
    names: Sequence[str]
    rows: Sequence[Sequence[EncodedRecord]]
    how: LocalTraining


Engine = Callable[[ClientSide], AbstractContextManager[Grid]]
"""Reaches the clients as long as its context is open."""


def in_one_process(side: ClientSide) -> AbstractContextManager[Grid]:
    """The engine ``local``: all clients in this process, one after the other, on the server's own model."""
    return nullcontext(LocalGrid(side.model, side.names, side.rows, side.how, seed=side.spec.seed))


def settled_config(spec: FederationSpec) -> TuneConfig:
    """The settings of tuning, with the learning rate of the method where none was given."""
    return spec.training.settled(TUNINGS.get(spec.method).learning_rate)


def with_method(loaded: LoadedModel, spec: FederationSpec) -> tuple[Any, TuningInfo]:
    """The base with what is trained put on it, from the federation's seed: the same for server and clients.

    Args:
        loaded: the base, which is changed in place.
        spec: of the federation.
    """
    set_seed(spec.seed)
    model, tuned = fresh(loaded, settled_config(spec))
    if spec.exchange == "ffa":
        freeze_first_factors(model)
    return model, tuned


def local_training(loaded: LoadedModel, spec: FederationSpec) -> LocalTraining:
    """How each client trains, on the device that the base was loaded to."""
    rate = settled_config(spec).learning_rate
    assert rate is not None
    return LocalTraining(
        steps=spec.local_steps,
        batch_size=spec.local_batch_size,
        learning_rate=rate,
        optimizer=spec.local_optimizer,
        proximal=spec.proximal,
        pad=loaded.tokenizer.pad_token_id or 0,
        bfloat16=spec.dtype == "bfloat16" or (spec.dtype == "auto" and has_bfloat16(loaded.device)),
    )
