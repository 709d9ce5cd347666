# SPDX-License-Identifier: Apache-2.0
"""The models of a federation's rounds, made again from what was recorded: the one that a round began with, and each
client's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.attacks.federated.recorded_updates import RecordedUpdates
from reticent.core.errors import BadInput
from reticent.federated.exchange import stacked
from reticent.federated.federation_spec import FederationSpec
from reticent.models.load import load
from reticent.train.start import fresh, load_start

Arrays = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayedRounds:
    """A model of one's own in float32, into which the arrays of rounds are put.

    Args:
        model: in evaluation mode.
        recorded: the updates.
        spec: of the federation.
        merged: rounds whose stacked factors are in the base already; grows.
    """

    model: Any
    recorded: RecordedUpdates
    spec: FederationSpec
    merged: set[int]

    def begin(self, round_: int) -> Arrays:
        """Put in what a round began with, and give it. Rounds with stacked factors come in rising order."""
        if self.spec.exchange == "stacked":
            for earlier in self.recorded.rounds():
                if earlier < round_ and earlier not in self.merged:
                    self._merge(earlier)
                    self.merged.add(earlier)
        arrays = self.recorded.start(round_)
        self.put(arrays)
        return arrays

    @torch.no_grad()
    def put(self, arrays: Arrays) -> None:
        """Put arrays in by name.

        Raises:
            BadInput: one is not in the model.
        """
        parameters = dict(self.model.named_parameters())
        strange = [name for name, array in arrays.items() if _shape(parameters.get(name)) != array.shape]
        if strange:
            raise BadInput(
                f"updates of {strange[0]}", "are not of a weight of this run's model", "Give the run as it was."
            )
        for name, array in arrays.items():
            parameters[name].copy_(torch.from_numpy(array))

    def _merge(self, round_: int) -> None:
        """Add the mean of all clients' products of a round to the base, as the server did."""
        start = _tensors(self.recorded.start(round_))
        updates = [_tensors(self.recorded.update(round_, client)) for client in self.recorded.clients(round_)]
        if len(updates) >= self.spec.quorum and updates:
            stacked.merge(self.model, stacked.stack(start, updates, self.spec.clients_per_round))


def open_replay(
    recorded: RecordedUpdates, spec: FederationSpec, *, target: str, base: str | None, device: str
) -> ReplayedRounds:
    """Load a model for the rounds; the audited one stays as it is.

    Args:
        recorded: the updates.
        spec: of the federation.
        target: folder of the final model. Weights that did not travel, such as frozen factors, are in it.
        base: that it was tuned from; stacked factors begin on it in each round.
        device: as an audit has it.

    Raises:
        BadInput: it cannot be loaded.
    """
    if spec.exchange != "stacked":
        model = load(target, base=base, dtype="float32", device=device).model
    else:
        loaded = load_start(base or target, device, goes_on=False)
        with torch.random.fork_rng():
            model, _ = fresh(loaded, spec.training)
    return ReplayedRounds(model=model.eval(), recorded=recorded, spec=spec, merged=set())


def _tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _shape(parameter: torch.nn.Parameter | None) -> tuple[int, ...] | None:
    return None if parameter is None else tuple(parameter.shape)
