# SPDX-License-Identifier: Apache-2.0
"""A private training in twenty lines, made of the engine's parts, with one method for each thing that can go wrong."""

from __future__ import annotations

import torch
from torch import nn

from reticent.privacy.clip.api import make_clipper
from reticent.privacy.noise import NoiseSums
from reticent.privacy.sampling import Population
from reticent.privacy.spec import PrivacySpec
from reticent.privacy.verify import SelfCheck
from reticent.testing.tiny import tiny_model

KEY = bytes(range(32))
TOKENS = 10


def a_plan(*, units=64, batch=8, steps=6, clip_norm=0.5, sigma=1.0, clipping="flat", key=KEY):
    spec = PrivacySpec(noise_multiplier=sigma, delta=1e-4, clip_norm=clip_norm, clipping=clipping)
    population = Population(users=(None,) * units, lengths=(TOKENS,) * units)
    return spec.plan(population, batch_size=batch, steps=steps, key=key)


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

    def __init__(self, plan, model=None, *, impl="bookkeeping", lr=1e-3, seed=0):
        self.plan, self.seed = plan, seed
        self.model = (tiny_model() if model is None else model).train()
        self.names = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.ids = texts(plan.sampler.units)
        self.clipper = make_clipper(self.model, clip_norm=plan.clip_norm, clipping=plan.spec.clipping, impl=impl)
        self.check = SelfCheck(plan, self.names)
        self.optimizer = torch.optim.SGD(self.names.values(), lr=lr)

    def draw(self, step):
        return self.plan.sampler.batch(step)

    def sums(self, step, units):
        ids = self.ids[[unit[0][0].record for unit in units]]
        if not len(units):
            return self.clipper.take(), 0.0
        with self.clipper.attached():
            seen = self.clipper.accumulate({"input_ids": ids}, ids, weight=torch.ones(len(ids)))
        return self.clipper.take(), self.check.contributed(seen.norm)

    def add_noise(self, total: torch.Tensor, step: int, index: int, name: str) -> NoiseSums:
        """With torch's generator: ``add_noise`` has tests of its own."""
        generator = torch.Generator().manual_seed(self.seed + 1_000 * step + index)
        before = total.clone()
        noise = torch.randn(total.shape, generator=generator) * (self.plan.noise_multiplier * self.plan.clip_norm)
        total.add_(noise).div_(self.plan.expected_batch)
        return seen_of(before, noise)

    def update(self, sums: dict[nn.Parameter, torch.Tensor]) -> None:
        for p, gradient in sums.items():
            p.grad = gradient
        self.optimizer.step()
        self.model.zero_grad(set_to_none=True)

    def probe(self):
        ids = self.ids[:1]
        return self.check.one_unit(self.model, self.clipper, {"input_ids": ids}, ids, weight=torch.ones(1))

    def run(self, steps=None, *, first=0):
        self.probe()
        for step in range(first, self.plan.steps if steps is None else steps):
            units = self.draw(step)
            self.check.drawn(step, units)
            sums, contributed = self.sums(step, units)
            self.check.before_noise(sums, contributed)
            of = {p: name for name, p in self.names.items()}
            noise = [self.add_noise(total, step, i, of[p]) for i, (p, total) in enumerate(sums.items())]
            self.check.after_noise(sums, noise)
            self.update(sums)
            self.check.step_done(step)
        return self.check
