# SPDX-License-Identifier: Apache-2.0
"""A private training in twenty lines, made of the engine's parts, with one method for each thing that can go wrong."""

from __future__ import annotations

import torch
from torch import nn

from reticent.privacy.clip.make import make_clipper
from reticent.privacy.noise import NoiseSums, add_noise
from reticent.privacy.plan import make_plan
from reticent.privacy.probe import SingleUnit
from reticent.privacy.sampling import Population
from reticent.privacy.self_check import SelfCheck
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import tiny_model

KEY = bytes(range(32))
TOKENS = 10


def a_plan(*, units=64, batch=8, steps=6, clip_norm=0.5, sigma=1.0, clipping="flat", key=KEY):
    spec = PrivacySpec(noise_multiplier=sigma, delta=1e-4, clip_norm=clip_norm, clipping=clipping)
    population = Population(users=(None,) * units, lengths=(TOKENS,) * units)
    return make_plan(spec, population, batch_size=batch, steps=steps, key=key)


def texts(units=64, tokens=TOKENS, seed=0):
    return torch.randint(0, 250, (units, tokens), generator=torch.Generator().manual_seed(seed))


def seen_of(before: torch.Tensor, noise: torch.Tensor) -> NoiseSums:
    return NoiseSums(
        n=before.numel(),
        x_squared=float(before.double().square().sum()),
        noise=float(noise.double().sum()),
        noise_squared=float(noise.double().square().sum()),
    )


class Engine:
    """Right as it stands; tests override one method to break it."""

    def __init__(self, plan, model=None, *, impl="bookkeeping", lr=1e-3, ids=None):
        self.plan = plan
        self.model = (tiny_model() if model is None else model).train()
        self.names = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.ids = texts(plan.sampler.units) if ids is None else ids
        self.clipper = make_clipper(self.model, clip_norm=plan.clip_norm, clipping=plan.spec.clipping, impl=impl)
        self.check = SelfCheck(plan, self.model)
        self.optimizer = torch.optim.SGD(self.names.values(), lr=lr)

    def draw(self, step):
        return self.plan.sampler.batch(step)

    def clip(self, units, stretches=None):
        """Norms of the units, whose clipped gradients are added to the clipper's sums."""
        if not len(units):
            return torch.zeros(0)
        ids = self.ids[[unit[0][0].record for unit in units]]
        weight = torch.ones(len(ids)) if stretches is None else torch.tensor(stretches)
        with self.clipper.attached():
            return self.clipper.accumulate({"input_ids": ids}, ids, weight=weight).norm

    def sums(self, step, units):
        contributed = self.check.clipped(self.clip(units), units=len(units))
        return self.clipper.take(), contributed

    def add_noise(self, total: torch.Tensor, step: int, index: int, name: str) -> NoiseSums:
        std = self.plan.noise_multiplier * self.plan.clip_norm
        scale = 1 / self.plan.expected_batch
        return add_noise(total, std=std, scale=scale, key=self.plan.key, step=step, index=index)

    def hand_over(self, sums: dict[nn.Parameter, torch.Tensor]) -> None:
        for p, gradient in sums.items():
            p.grad = gradient
        self.check.given()

    def update(self) -> None:
        self.check.before_update([p for group in self.optimizer.param_groups for p in group["params"]])
        self.optimizer.step()
        self.check.after_update()
        self.model.zero_grad(set_to_none=True)

    def between(self, step: int) -> None:
        """Between two steps."""

    def probe(self, units):
        some = units[:4]
        rows = [self.ids[unit[0][0].record] for unit in some]

        def run(stretches):
            norms = self.clip(some, stretches)
            return self.clipper.take(), norms

        return self.check.probe(self.model, [[SingleUnit(ids=ids, labels=ids, weight=1.0)] for ids in rows], run)

    def run(self, steps=None, *, first=0):
        for step in range(first, self.plan.steps if steps is None else steps):
            units = self.draw(step)
            self.check.drawn(step, units)
            if self.check.due(step):
                self.probe(units)
            sums, contributed = self.sums(step, units)
            self.check.before_noise(sums, contributed)
            of = {p: name for name, p in self.names.items()}
            noise = [self.add_noise(total, step, i, of[p]) for i, (p, total) in enumerate(sums.items())]
            self.check.after_noise(sums, noise)
            self.hand_over(sums)
            self.update()
            self.check.step_done(step)
            self.between(step)
        return self.check


class Wrapped:
    """A clipper whose sums are changed on the way out."""

    def __init__(self, clipper, change):
        self.clipper, self.change = clipper, change
        self.attached, self.accumulate = clipper.attached, clipper.accumulate

    def take(self):
        sums = self.clipper.take()
        self.change(sums)
        return sums
