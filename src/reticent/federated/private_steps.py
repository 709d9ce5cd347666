# SPDX-License-Identifier: Apache-2.0
"""Local training under a promise to each record: the DP engine's clipped, noised steps, with its self-check, inside one
client.

One step: the records that the client's own coins draw → sum of clipped gradients → noise of the client's key, once →
divided by the expected number → ``.grad`` → the local optimizer. The update is a function of key, round and the round's
global arrays, so that a round that is run again gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reticent.core.errors import BadInput
from reticent.federated.client_training import LocalTraining, add_proximal, make_optimizer
from reticent.federated.exchange.arrays import trained
from reticent.models.encode import EncodedRecord
from reticent.privacy.clip.clipper import Clipper
from reticent.privacy.clip.make import make_clipper
from reticent.privacy.noise import NoiseSums, add_noise
from reticent.privacy.plan import PrivacyPlan
from reticent.privacy.probe import SingleUnit
from reticent.privacy.refused_models import MODEL_RULES
from reticent.privacy.sampling import Unit
from reticent.privacy.self_check import SelfCheck
from reticent.privacy.training_setup import TrainingSetup
from reticent.train.dropout import keyed_dropout
from reticent.train.private.micro_batches import micro_batches, row_of
from reticent.train.private.settings import CPU_MICRO_TOKENS, MICRO_TOKENS, chosen


@dataclass(frozen=True, kw_only=True, eq=False)
class PrivateClient:
    """One client's records and plan.

    Args:
        rows: its records.
        plan: over all rounds.
        check: of what its steps do; kept from round to round.
    """

    rows: Sequence[EncodedRecord]
    plan: PrivacyPlan
    check: SelfCheck


class PrivateSteps:
    """Trains clients on one model, one after the other.

    Args:
        model: with the tuning method on it.
        how: clients train; its seed plays no part, as all randomness follows from keys.
        clip_norm: of a record's gradient.

    Raises:
        BadInput: a layer that cannot be clipped, or that mixes the records of a batch.
    """

    def __init__(self, model: Any, how: LocalTraining, *, clip_norm: float) -> None:
        refuse_model(model)
        self.model, self.how = model, how
        autocast = torch.bfloat16 if how.bfloat16 else None
        self.autocast = autocast
        self.clipper: Clipper = make_clipper(model, clip_norm=clip_norm, autocast=autocast)

    def train(self, client: PrivateClient, first_step: int) -> dict[str, torch.Tensor]:
        """Train from the weights that the model has, and give what that added to each trained array.

        Args:
            client: whose records.
            first_step: of the plan; each is taken once, as its noise may hide one gradient only.

        Raises:
            GuaranteeViolated: the self-check found that a step did not do what was promised.
        """
        parameters = trained(self.model)
        start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        optimizer = make_optimizer(list(parameters.values()), self.how)
        client.check.begin_at(first_step)
        optimizer.register_step_pre_hook(
            lambda stepped, *_: client.check.before_update(
                [tensor for group in stepped.param_groups for tensor in group["params"]]
            )
        )
        optimizer.register_step_post_hook(lambda *_: client.check.after_update())
        self.model.train()
        for step in range(first_step, first_step + self.how.steps):
            optimizer.zero_grad(set_to_none=True)
            self._step(client, step)
            # A term of the weights alone: it tells nothing of records, and is no part of what is noised.
            add_proximal(parameters, start, self.how.proximal)
            client.check.given(public=self.how.proximal > 0)
            optimizer.step()
            client.check.step_done(step)
        optimizer.zero_grad(set_to_none=True)  # left there, gradients of one client would be found by the next
        return {name: (parameter.detach() - start[name]).float().cpu() for name, parameter in parameters.items()}

    def _step(self, client: PrivateClient, step: int) -> None:
        """Set ``.grad`` of each trained parameter to the noised mean of clipped gradients."""
        plan, check = client.plan, client.check
        units = plan.sampler.batch(step)
        check.drawn(step, units)
        # A unit without a token to predict is drawn and adds nothing.
        units = [unit for unit in units if any(row_of(client.rows, row).is_trained for row in unit)]
        if check.due(step):
            self._probe(client, units)
        device = next(iter(trained(self.model).values())).device
        with keyed_dropout(plan.key, "private dropout", step, 0, device):
            contributed = check.clipped(self._clip(client.rows, units), units=len(units))
        sums = self.clipper.take()
        check.before_noise(sums, contributed)
        check.after_noise(sums, self._add_noise(sums, plan, step))
        for parameter, gradient in sums.items():
            parameter.grad = gradient.to(parameter.dtype)

    def _clip(
        self, rows: Sequence[EncodedRecord], units: Sequence[Unit], stretches: Sequence[float] | None = None
    ) -> torch.Tensor:
        """Add the clipped gradients of ``units`` to the clipper's sums; their norms ``[U]``, in their order.

        Args:
            stretches: what to multiply the loss of each unit by.
        """
        device = next(iter(trained(self.model).values())).device
        budget = CPU_MICRO_TOKENS if device.type == "cpu" else MICRO_TOKENS
        norms: dict[int, torch.Tensor] = {}
        for batch in micro_batches(units, rows, micro_tokens=budget, pad=self.how.pad):
            placed = batch.to(device)
            weight = placed.weight
            if stretches is not None:
                weight = weight * torch.tensor([stretches[place] for place in placed.places], device=device)
            with self.clipper.attached():
                seen = self.clipper.accumulate(placed.inputs, placed.labels, weight=weight)
            norms |= dict(zip(placed.places, seen.norm, strict=True))
        return torch.stack([norms[place] for place in sorted(norms)]) if norms else torch.zeros(0, device=device)

    def _add_noise(self, sums: Mapping[nn.Parameter, torch.Tensor], plan: PrivacyPlan, step: int) -> list[NoiseSums]:
        """In place: ``(sum + σC·N(0, 1)) / expected number``."""
        std, scale = plan.noise_multiplier * plan.clip_norm, 1 / plan.expected_batch
        return [
            add_noise(total, std=std, scale=scale, key=plan.key, step=step, index=index)
            for index, total in enumerate(sums.values())
        ]

    def _probe(self, client: PrivateClient, units: Sequence[Unit]) -> None:
        """A few units together and each alone. Nothing may be accumulated."""
        device = next(iter(trained(self.model).values())).device
        alone = [(self._alone(client.rows, unit, device), unit) for unit in units]
        for some in chosen(sorted(alone, key=lambda candidate: sum(len(row.ids) for row in candidate[0]))):

            def run(
                stretches: Sequence[float], some: Any = some
            ) -> tuple[dict[nn.Parameter, torch.Tensor], torch.Tensor]:
                norms = self._clip(client.rows, [unit for _, unit in some], stretches)
                return self.clipper.take(), norms

            client.check.probe(self.model, [rows for rows, _ in some], run, autocast=self.autocast)

    @staticmethod
    def _alone(rows: Sequence[EncodedRecord], unit: Unit, device: torch.device) -> list[SingleUnit]:
        tokens = [row_of(rows, row) for row in unit]
        return [
            SingleUnit(ids=torch.from_numpy(t.ids).to(device), labels=torch.from_numpy(t.labels).to(device), weight=1.0)
            for t in tokens
        ]


def refuse_model(model: Any) -> None:
    """Refuse a model in which the records of a batch mix, or weights that cannot be noised.

    Raises:
        BadInput: what stands against it.
    """
    broken = [violation for rule in MODEL_RULES for violation in rule(TrainingSetup(args=None, model=model))]
    if broken:
        raise BadInput(*broken[0])
