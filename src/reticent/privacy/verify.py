# SPDX-License-Identifier: Apache-2.0
"""The self-check of private training: what the engine does is measured while it runs, and compared with the plan.

It is independent of what it checks: gradients come from plain autograd, noise from what the optimizer is given minus
what was summed. A check that fails stops the run, for a model trained under a broken promise must not be released.

An engine that keeps its promises is stopped by the statistical checks with probability at most ``ERROR`` in a run. The
others allow for the rounding of the arithmetic only. What they cannot see is said in ``docs/private_training.md``.

``Check`` has no figure that depends on the records, as no noise would cover it. The message of ``BrokenPromise`` may:
it is for whoever runs the training, and not to be published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import nn

from reticent.privacy.check import BrokenPromise, Check
from reticent.privacy.clip.api import STABILITY, Clipper
from reticent.privacy.meters import NoiseMeter, SizeMeter
from reticent.privacy.noise import NoiseSums
from reticent.privacy.plan import PrivacyPlan
from reticent.privacy.probe import ROUNDED, length_of, probe
from reticent.privacy.sampling import Unit
from reticent.privacy.saved_experts import saved_by_expert
from reticent.privacy.statement import Promise

__all__ = ["ERROR", "BrokenPromise", "Check", "SelfCheck"]

ERROR = 1e-6
"""Probability that a run whose engine is right is stopped, over all statistical checks and steps; half for noise, half
for batch sizes."""
PATIENCE = 20
"""Steps after which each parameter must have moved and must have had a gradient."""
SAMPLES = 64
"""First elements of each parameter whose noise is looked at; as many again lie scattered behind them."""


class SelfCheck:
    """Watches one private training. Every method raises ``BrokenPromise`` as soon as a promise breaks.

    Call order: ``one_unit`` once; then in each step ``drawn``, ``before_noise``, ``after_noise``, ``step_done``; then
    ``saved`` and ``finished``. With several processes each runs its own, on the sums over all processes.

    Args:
        plan: what was promised.
        parameters: every parameter that is trained, by name, with the values that it has before training.
    """

    def __init__(self, plan: PrivacyPlan, parameters: Mapping[str, nn.Parameter]) -> None:
        self.plan, self.names = plan, {parameter: name for name, parameter in parameters.items()}
        self.places = {p: _places(p) for p in self.names}
        self.start = self._slices(parameters.values())
        shared = [min(SAMPLES, p.numel()) for p in self.names]
        sizes = [len(places) for places in self.places.values()]
        self.std = plan.noise_multiplier * plan.clip_norm
        half = ERROR / 2
        self.noise = NoiseMeter(list(parameters), sizes, shared, std=self.std, steps=plan.steps, error=half)
        sampler = plan.sampler
        self.sizes = SizeMeter(sampler.units, sampler.rate, steps=plan.steps, error=half)
        self.first: int | None = None
        self.done = 0
        """Number of the step after the last that was done."""
        self.busy_steps = 0
        self.silent = set(self.names)
        self.still = set(self.names)
        self.probed: float | None = None
        self.reread: int | None = None
        self._units = 0
        self._bound = 0.0
        self._before: torch.Tensor | None = None
        self._measured: torch.Tensor | None = None
        self._buffers: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def one_unit(
        self,
        model: nn.Module,
        clipper: Clipper,
        inputs: Mapping[str, torch.Tensor],
        labels: torch.Tensor,
        *,
        weight: torch.Tensor,
        autocast: torch.dtype | None = None,
    ) -> bool:
        """Run one unit alone, through autograd and through the clipper, stretched to a long and to a short gradient.

        To be called before the first step, again with another unit while it returns False. Nothing may be accumulated
        in ``clipper``. Everything is left as it was (no ``.grad``, the same mode, the same random state).

        Args:
            model: the model that is trained.
            clipper: the one that the training uses.
            inputs: of the rows of one unit, ``[k, T]``.
            labels: ``[k, T]``.
            weight: ``[k]``.
            autocast: what the clipper was made with.

        Returns:
            Whether the unit had a gradient, so that something was checked.
        """
        self._buffers = self._buffers or _buffers(model)
        off = probe(
            model,
            clipper,
            self.names,
            inputs,
            labels,
            weight=weight,
            autocast=autocast,
            clip_norm=self.plan.clip_norm,
            clipping=self.plan.spec.clipping,
        )
        self.probed = self.probed if off is None else off
        return off is not None

    def drawn(self, step: int, units: Sequence[Unit]) -> None:
        """The units, over all processes, that step number ``step`` (from 0) trains on."""
        if self.first is None:
            self.first = self.done = step
        if step != self.done:
            raise BrokenPromise(
                "each step is taken once, in order",
                f"step {step} was drawn and step {self.done} is due",
                "Steps that are taken twice, or under another's noise, are not accounted for.",
            )
        self._units = len(units)
        if list(units) != self.plan.sampler.batch(step):
            raise BrokenPromise(
                "batches are those of the plan's sampler",
                f"the {len(units)} units of step {step} are others than the sampler draws",
                "ε is computed for units drawn independently, each with the plan's rate.",
            )
        odd = self.sizes.add(len(units))
        if odd:
            raise BrokenPromise(
                "units are drawn with the plan's rate", odd, "ε is larger than promised if units are drawn otherwise."
            )

    def contributed(self, norms: torch.Tensor) -> torch.Tensor:
        """The most that units' clipped gradients can add up to (scalar), from their norms ``[U]`` before clipping.

        To be summed over micro-batches and processes. A norm of 0 adds nothing.
        """
        limit = self.plan.clip_norm
        if self.plan.spec.clipping == "automatic":
            return (limit * norms / (norms + STABILITY)).sum()
        return norms.clamp(max=limit).sum()

    def before_noise(self, sums: Mapping[nn.Parameter, torch.Tensor], contributed: torch.Tensor | float) -> None:
        """The clipped sums over all processes are within their bound, for all parameters, none with a ``.grad``.

        Args:
            sums: float32, of every trained parameter; only read. Small slices are kept until ``after_noise``.
            contributed: the sum of ``contributed`` over micro-batches and processes.
        """
        self._complete(sums, "has no sum of clipped gradients")
        leaked = [name for p, name in self.names.items() if p.grad is not None]
        if leaked:
            raise BrokenPromise(
                "no gradient reaches a weight unclipped",
                f"{leaked[0]} has a gradient that autograd made",
                "The optimizer would apply it as it is.",
            )
        if not self.busy_steps and float(contributed) > 0:
            # Once by itself, after that from what add_noise sees on its way through: a pass over all weights is saved.
            self._measured = torch.stack([length_of(sums[p]) for p in self.names])
        self._bound = min(self._units * self.plan.clip_norm, float(contributed))
        self._before = self._slices(sums[p] for p in self.names)

    def after_noise(self, noised: Mapping[nn.Parameter, torch.Tensor], noise: Sequence[NoiseSums]) -> None:
        """What the optimizer is given minus what was summed is Gaussian noise of the promised size, in each parameter.

        Args:
            noised: the sums after noise and division by the expected batch (what becomes ``.grad``), float32.
            noise: what ``add_noise`` returned for each, in the order of ``noised``.
        """
        self._complete(noised, "is not noised")
        assert self._before is not None, "before_noise comes first"
        after = self._slices(noised[p] for p in self.names)
        drawn = (after * self.plan.expected_batch - self._before).cpu().numpy()
        seen = dict(zip(noised, noise, strict=True))
        self._check_sums([seen[p] for p in self.names], self._before.cpu().numpy())
        odd = self.noise.add(drawn) or _odd_noise(seen, self.names, self.std)
        if odd:
            raise BrokenPromise(
                f"noise of standard deviation {self.std:.4g} (noise_multiplier × clip_norm) is in each parameter",
                f"at step {self.done}, {odd}",
                "ε is larger than promised, or there is no privacy at all.",
            )
        self._before = self._measured = None

    def step_done(self, step: int) -> None:
        """After the optimizer's step number ``step`` (from 0)."""
        if step != self.done:
            raise BrokenPromise(
                "each draw is one step of the optimizer",
                f"step {step} was done and step {self.done} was drawn",
                "The steps that are accounted for are not those that were taken.",
            )
        self.done += 1
        if self.still:
            same = (self._slices(self.names) == self.start).cpu().numpy()
            unchanged = np.logical_and.reduceat(same, self.noise.starts)
            self.still &= {p for p, one in zip(self.names, unchanged, strict=True) if one}
        if self.done - self.first_step == PATIENCE:
            self._alive()

    def saved(self, folder: Path) -> None:
        """Each trained parameter lies in the folder's safetensors files as it is now, and not as before training.

        Names do not matter, as adapters are stored under others than they have in the model. Stacked weights of experts
        may be stored one by one.
        """
        missing = {p: p.detach().cpu() for p in self.names}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (not a mapping)
                    tensor = file.get_tensor(key)
                    for parameter in [p for p, numbers in missing.items() if _lies_in(numbers, tensor)]:
                        del missing[parameter]
        by_expert = saved_by_expert(missing, folder)
        lost = [self.names[p] for p in missing if p not in by_expert]
        if lost:
            raise BrokenPromise(
                "what was trained is what is saved",
                f"{len(lost)} of {len(self.names)} trained parameters, {lost[0]} first, are not in {folder.name}",
                "The model that is kept is another than the one that was trained.",
            )
        self.reread = len(self.names)

    def finished(self, promise: Promise) -> tuple[Check, ...]:
        """After the last step: the ledger matches the steps that were run, and every parameter moved.

        Args:
            promise: what the run states about itself.

        Returns:
            All checks, for the logs.
        """
        self._alive(at_end=True)
        stated = (promise.steps, promise.noise_multiplier, promise.rate)
        real = (self.done, self.plan.noise_multiplier, self.plan.sampler.rate)
        if stated != real:
            raise BrokenPromise(
                "the ledger matches the run",
                f"it has {stated} (steps, noise multiplier, rate), and the run had {real}",
                "ε is stated for another training than this one.",
            )
        changed = [name for name, now, before in self._buffers if not torch.equal(now, before)]
        if changed:
            raise BrokenPromise(
                "only noised gradients change the model",
                f"the buffer {changed[0]} changed while training",
                "It holds statistics of the data that no noise covers, and is saved with the model.",
            )
        return self._checks()

    @property
    def first_step(self) -> int:
        """Number of the first step that was watched: 0, or where a resumed training went on."""
        return self.first or 0

    def _check_sums(self, seen: Sequence[NoiseSums], slices: npt.NDArray[np.float64]) -> None:
        """The sums of clipped gradients are within their bound; what ``add_noise`` says of them fits what is seen."""
        lengths = np.sqrt([one.x_squared for one in seen])
        parts = np.sqrt(np.add.reduceat(slices**2, self.noise.starts))
        own = lengths if self._measured is None else self._measured.cpu().numpy()
        if not (np.allclose(own, lengths, rtol=1e-3) and (parts <= lengths * 1.001).all()):
            raise BrokenPromise(
                "what is noised is what was summed",
                f"at step {self.done} the lengths of the sums are others when noise is added",
                "Something changed them in between.",
            )
        total = float(np.sqrt((lengths**2).sum()))
        if not total <= self._bound * (1 + ROUNDED):
            raise BrokenPromise(
                "each unit adds at most the clip norm",
                f"the {self._units} units of step {self.done} add {total:.4g}, and at most {self._bound:.4g} may be",
                "The noise is sized for less, so it does not hide a unit.",
            )
        if self._bound > 0:
            self.busy_steps += 1
            self.silent -= {p for p, length in zip(self.names, lengths.tolist(), strict=True) if length > 0}

    def _complete(self, tensors: Mapping[nn.Parameter, torch.Tensor], what: str) -> None:
        lacking = [name for p, name in self.names.items() if p not in tensors]
        if lacking or len(tensors) != len(self.names):
            raise BrokenPromise(
                "every trained parameter is clipped and noised",
                f"{lacking[0]} {what}" if lacking else f"{len(tensors)} parameters, and {len(self.names)} are trained",
                "A parameter that is left out tells of the data without any bound.",
            )

    def _alive(self, *, at_end: bool = False) -> None:
        """Every parameter moved and has had a gradient. At the end of short runs, a gradient is not asked for."""
        ran = self.done - self.first_step
        if self.still and ran:
            raise BrokenPromise(
                "training changes every trained parameter",
                f"{self._some(self.still)} did not change in {ran} steps",
                "ε is spent for a model that is not trained; look at the learning rate and the optimizer.",
            )
        if self.silent and self.busy_steps >= 3 and not (at_end and ran < PATIENCE):
            raise BrokenPromise(
                "every trained parameter has per-unit gradients",
                f"{self._some(self.silent)} had none in {ran} steps",
                "It receives noise and nothing else; freeze it, or look at the rule of its layer.",
            )

    def _some(self, those: set[nn.Parameter]) -> str:
        names = [name for p, name in self.names.items() if p in those]
        return names[0] if len(names) == 1 else f"{len(names)} parameters ({names[0]} …)"

    def _slices(self, tensors: Iterable[torch.Tensor]) -> torch.Tensor:
        """Numbers at the watched places of each parameter, one behind the other."""
        pairs = zip(tensors, self.places.values(), strict=True)
        return torch.cat([tensor.detach().reshape(-1).index_select(0, places) for tensor, places in pairs]).double()

    def _checks(self) -> tuple[Check, ...]:
        """No figure that depends on the records: it would be published without noise."""
        sampler, trained, half = self.plan.sampler, len(self.names), ERROR / 2
        ran = f"in all of steps {self.first_step} to {self.done - 1}" if self.done > self.first_step else "no step ran"
        drawn = f"Binomial({sampler.units}, {sampler.rate:.4g}), exact tests, false alarm {half:.0e} a run"
        probed, reread = self.probed is not None, self.reread is not None
        return (
            Check(
                name="one unit alone, against autograd",
                measured="agrees" if probed else "no unit had a gradient",
                bound=f"length within {ROUNDED:.0%}, each parameter's share in place",
                passed=True if probed else None,
            ),
            Check(
                name="sum of clipped gradients",
                measured=f"within its bound {ran}",
                bound=f"units × {self.plan.clip_norm:g}, and {ROUNDED:.0%} for rounding",
                passed=True,
            ),
            Check(
                name="standard deviation of the noise over the promised one",
                measured=f"{self.noise.ratio:.2f} ({self.noise.samples} samples of {trained} parameters)",
                bound=f"1 overall and in each parameter, χ² tests, false alarm {half:.0e} a run",
                passed=True,
            ),
            Check(name="batches", measured=f"as the sampler draws them {ran}", bound=drawn, passed=True),
            Check(
                name="trained parameters that moved",
                measured=str(trained - len(self.still)),
                bound=str(trained),
                passed=True,
            ),
            Check(
                name="trained parameters read back from disk",
                measured=str(self.reread) if reread else "not read back",
                bound=str(trained),
                passed=True if reread else None,
            ),
            Check(name="steps in the ledger", measured=str(self.done), bound=str(self.done), passed=True),
        )


def _places(parameter: nn.Parameter) -> torch.Tensor:
    """Which elements are watched: the first ones, and as many spread over the rest."""
    n = parameter.numel()
    if n <= 2 * SAMPLES:
        return torch.arange(n, device=parameter.device)
    first = torch.arange(SAMPLES, device=parameter.device)
    return torch.cat(
        [first, torch.linspace(SAMPLES, n - 1, SAMPLES, device=parameter.device, dtype=torch.float64).long()]
    )


def _buffers(model: nn.Module) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Buffers that are saved with the model, and what they are now."""
    kept = model.state_dict(keep_vars=True)
    return [(name, one, one.clone()) for name, one in model.named_buffers() if name in kept]


def _odd_noise(seen: Mapping[nn.Parameter, NoiseSums], names: Mapping[nn.Parameter, str], std: float) -> str | None:
    """Mean and size of all noise of one step, as ``add_noise`` saw it. 8 standard errors: a false alarm in 10^14."""
    for parameter, sums in seen.items():
        if sums.n != parameter.numel():
            return f"{sums.n} of {parameter.numel()} elements of {names[parameter]} got noise"
        if not abs(sums.noise) <= 8 * std * sums.n**0.5:
            return f"the noise in {names[parameter]} is not centred"
    n, squares = sum(one.n for one in seen.values()), sum(one.noise_squared for one in seen.values())
    # Few elements do not make a Gaussian, and are all among the samples; float32 may be off in the fourth digit.
    if n >= 10_000 and not abs(squares / (n * std**2) - 1) <= 8 * (2 / n) ** 0.5 + 1e-3:
        return f"the standard deviation is {(squares / n) ** 0.5:.4g} instead of {std:.4g} (all {n} elements)"
    return None


def _lies_in(numbers: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Whether a stored tensor holds these numbers, in their order, in the precision that it is stored in."""
    if tensor.numel() != numbers.numel():
        return False
    ours, stored = numbers.reshape(-1), tensor.reshape(-1)
    first = ours[:SAMPLES].to(stored.dtype)
    return torch.equal(stored[:SAMPLES], first) and torch.equal(stored, ours.to(stored.dtype))
