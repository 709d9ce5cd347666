# SPDX-License-Identifier: Apache-2.0
"""The self-check of private training: what the engine does is measured while it runs, and compared with the plan.

It is independent of what it checks: gradients come from plain autograd, batches, noise and ε are made a second time by
other code, and weights are looked at before and after each step. A check that fails stops the run, for a model trained
under a broken promise must not be released.

An engine that keeps its promises is stopped by the statistical checks with probability at most ``ERROR`` in a run. The
others allow for the rounding of the arithmetic only. What they cannot see is said in ``docs/private_training.md``.

``SelfCheckItem`` has no figure that depends on the records, as no noise would cover it. The message of
``GuaranteeViolated`` may: it is for whoever runs the training, and not to be published.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import nn

from reticent.privacy.batch_check import BatchCheck
from reticent.privacy.check import GuaranteeViolated, SelfCheckItem
from reticent.privacy.clip.clipper import STABILITY
from reticent.privacy.division import Division
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.noise import NoiseSums, Stretch
from reticent.privacy.noise_check import NoiseCheck
from reticent.privacy.plan import PrivacyPlan
from reticent.privacy.probe import LENGTHS, ROUNDED, Alone, SingleUnit, Sums, length_of, probe_by
from reticent.privacy.recount import epsilon_again
from reticent.privacy.sampling import Unit
from reticent.privacy.saved_experts import saved_by_expert
from reticent.privacy.watch import Weights, places

__all__ = ["ERROR", "GuaranteeViolated", "SelfCheck", "SelfCheckItem"]

ERROR = 1e-6
"""Probability that a run whose engine is right is stopped, over all statistical checks and steps; half for noise, half
for batches."""
PATIENCE = 20
"""Steps after which each parameter must have moved and must have had a gradient."""
PROBED = 5
"""Units that are run a second time at once, see `train.private.settings.chosen`."""
PROBE_SHARE = 0.05
"""Of the work of a training that may go into running units a second time, beside the first time."""
RECOUNTED = 0.03
"""How far a stated ε may be below what a second count finds."""
SAMPLES = 64
"""Elements by which a stored tensor is recognised before all of it is compared."""


class SelfCheck:
    """Watches one private training. Every method raises ``GuaranteeViolated`` as soon as a promise breaks.

    Call order in each step: ``drawn``; ``probe`` where ``due``; ``clipped`` for each process's share; ``before_noise``,
    ``after_noise``, ``given``; ``before_update`` and ``after_update`` around the optimizer's own step; ``step_done``.
    Then ``saved`` and ``finished``. With several processes each runs its own, on the sums over all processes.

    Args:
        plan: what was promised.
        model: what is trained, as it is before the first step of this process.
        users: whose each record is, in the order of the population; None where nobody is known.
        division: where ``model`` is what this process holds of one, see `reticent.privacy.division`.
    """

    def __init__(
        self,
        plan: PrivacyPlan,
        model: nn.Module,
        *,
        users: Sequence[str | None] | None = None,
        division: Division | None = None,
    ) -> None:
        self.plan, self.division = plan, division
        self.weights = Weights(model, plan.key)
        self.names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.begun = places([p.numel() for p in self.names], plan.key, 0)
        self.start = self.begun.of(list(self.names))
        self.noise = NoiseCheck(plan, self.names, error=ERROR / 2, division=division)
        self.batches = BatchCheck(plan, users, error=ERROR / 2)
        self.first: int | None = None
        self.done = 0
        """Number of the step after the last that was done."""
        self.busy_steps = 0
        self.silent = set(self.names)
        self.still = set(self.names)
        self.probed = 0
        """How often units were run a second time."""
        self.reread: int | None = None
        self._probe_due = 0
        self._units = 0
        self._bound = 0.0
        self._measured: torch.Tensor | None = None
        self._updated = True
        self._recount(plan.spent())

    def begin_at(self, step: int) -> None:
        """Go on at a step behind those that were done: a client of a federation is not in every round. Weights are
        other ones meanwhile, by what its server did.

        Raises:
            GuaranteeViolated: the step was taken before, so its noise would be used twice.
        """
        if self.first is None:
            return
        if step < self.done:
            raise GuaranteeViolated(
                "each step is taken once, in order",
                f"step {step} is to be taken, and {self.done} were",
                "Steps that are taken twice, or under another's noise, are not accounted for.",
            )
        self.done = step
        self.weights.stamp(step)

    # ---- who is in a step ------------------------------------------------------------------------------------------

    def drawn(self, step: int, units: Sequence[Unit]) -> None:
        """The units, over all processes, that step number ``step`` (from 0) trains on."""
        if self.first is None:
            self.first = self.done = self._probe_due = step
            self.weights.stamp(step)
        if step != self.done:
            raise GuaranteeViolated(
                "each step is taken once, in order",
                f"step {step} was drawn and step {self.done} is due",
                "Steps that are taken twice, or under another's noise, are not accounted for.",
            )
        self._units = len(units)
        self.batches.check(step, units)

    # ---- clipping --------------------------------------------------------------------------------------------------

    def due(self, step: int) -> bool:
        """True if units are to be run a second time in this step: in the first, and again each epoch, or so much less
        often that it stays a small share of the work."""
        return step >= self._probe_due

    def probe(
        self,
        model: nn.Module,
        units: Sequence[Sequence[SingleUnit]],
        run: Callable[[Sequence[float]], tuple[Sums, torch.Tensor]],
        *,
        autocast: torch.dtype | None = None,
        alone: Alone | None = None,
    ) -> bool:
        """Run some units of a step together by the training's own way, and each alone through plain autograd.

        To be called before anything of the step is accumulated. Everything is left as it was (no ``.grad``, the same
        mode, the same random state).

        Args:
            model: the model that is trained.
            units: a few units of different lengths, see `reticent.privacy.probe.probe`.
            run: the training's own way.
            autocast: what it computes in.
            alone: how each is run alone; None for plain autograd of ``model``.

        Returns:
            Whether a unit had a gradient, so that something was checked; else it is due again in the next step.
        """
        compared = probe_by(
            alone or Alone(model, self.names, autocast),
            self.names,
            units[: len(LENGTHS)],
            run,
            clip_norm=self.plan.clip_norm,
            clipping=self.plan.spec.clipping,
        )
        if compared:
            self.probed += 1
            self._probe_due = self.done + self._period()
            self.weights.whole()
        return compared > 0

    def _period(self) -> int:
        """Steps from one probe to the next: an epoch, or more where batches are small."""
        passes = 2 * PROBED
        batch = max(self.plan.expected_batch, 1e-9)
        return max(math.ceil(1 / self.plan.sampler.rate), math.ceil(passes / (PROBE_SHARE * batch)))

    def clipped(self, norms: torch.Tensor, *, units: int) -> torch.Tensor:
        """The most that units' clipped gradients can add up to (scalar), from their norms ``[U]`` before clipping.

        To be summed over processes. A norm of 0 adds nothing.

        Args:
            norms: of all units of this process's share.
            units: how many of them train on any token.
        """
        if len(norms) != units:
            raise GuaranteeViolated(
                "each unit that was drawn adds its gradient once",
                f"{len(norms)} norms were taken of {units} units in step {self.done}",
                "A unit that is added twice adds twice the clip norm.",
            )
        limit = self.plan.clip_norm
        if self.plan.spec.clipping == "automatic":
            return (limit * norms / (norms + STABILITY)).sum()
        return norms.clamp(max=limit).sum()

    # ---- noise -----------------------------------------------------------------------------------------------------

    def before_noise(self, sums: Mapping[nn.Parameter, torch.Tensor], contributed: torch.Tensor | float) -> None:
        """The clipped sums over all processes are within their bound, for all parameters, none with a ``.grad``.

        Args:
            sums: float32, of every trained parameter; only read. A few elements are kept until ``after_noise``.
            contributed: the sum of what ``clipped`` returned in all processes.
        """
        self._complete(sums, "has no sum of clipped gradients")
        leaked = [name for p, name in self.names.items() if p.grad is not None]
        if leaked:
            raise GuaranteeViolated(
                "no gradient reaches a weight unclipped",
                f"{leaked[0]} has a gradient that autograd made",
                "The optimizer would apply it as it is.",
            )
        if not self.busy_steps and float(contributed) > 0:
            # Once by itself, after that from what add_noise sees on its way through: a pass over all weights is saved.
            self._measured = torch.stack([length_of(sums[p]) for p in self.names])
        self._bound = min(self._units * self.plan.clip_norm, float(contributed))
        self.noise.before(self.done, [sums[p] for p in self.names])

    def after_noise(self, noised: Mapping[nn.Parameter, torch.Tensor], noise: Sequence[NoiseSums]) -> None:
        """Check that the noised sum minus the sum is this step's noise of the parameter, drawn a second time here.

        Args:
            noised: the sums after noise and division by the expected batch (what becomes ``.grad``), float32.
            noise: what ``add_noise`` returned for each, in the order of ``noised``.
        """
        self._complete(noised, "is not noised")
        seen = dict(zip(noised, noise, strict=True))
        before = self.noise.after([noised[p] for p in self.names], [seen[p] for p in self.names])
        self._check_sums([seen[p] for p in self.names], before)
        self._measured = None

    # ---- the optimizer ---------------------------------------------------------------------------------------------

    def given(self, *, public: bool = False) -> None:
        """``.grad`` of each parameter is there for the optimizer.

        Args:
            public: the gradient of public text was added to it since, so only from here on it must stay as it is.
        """
        self.noise.given(public=public)
        self._updated = False

    def before_update(self, optimized: Collection[torch.Tensor]) -> None:
        """The optimizer takes what it was left, and no weight has changed since its last step.

        Args:
            optimized: all that the optimizer may change.
        """
        if self._updated:
            raise GuaranteeViolated(
                "each draw is one step of the optimizer",
                f"the optimizer makes a second step of what was drawn for step {self.done}",
                "The steps that are accounted for are not those that are taken.",
            )
        self.noise.untouched(optimized)
        self.weights.unmoved(trained=True)

    def after_update(self) -> None:
        """The optimizer has left alone what is frozen."""
        self.weights.unmoved(trained=False)
        self.weights.stamp(self.done + 1)
        self._updated = True

    def step_done(self, step: int) -> None:
        """After the optimizer's step number ``step`` (from 0)."""
        if step != self.done or not self._updated:
            raise GuaranteeViolated(
                "each draw is one step of the optimizer",
                f"step {step} was done and step {self.done} was drawn"
                if step != self.done
                else f"the optimizer made no step of what was drawn for step {step}",
                "The steps that are accounted for are not those that were taken.",
            )
        self.done += 1
        if self.still:
            same = self.begun.of(list(self.names)) == self.start
            unchanged = np.logical_and.reduceat(same, self.noise.meter.starts)
            self.still &= {p for p, is_still in zip(self.names, unchanged, strict=True) if is_still}
        if self.done - self.first_step == PATIENCE:
            self._alive()

    def saved(self, folder: Path) -> None:
        """Each trained parameter lies in the folder's safetensors files as it is now, and not as before training.

        Names do not matter, as adapters are stored under others than they have in the model. Stacked weights of experts
        may be stored one by one.
        """
        missing = {p: p.detach().cpu() for p in self.names}
        within = {} if self.division is None else self.division.stretches
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (not a mapping)
                    tensor = file.get_tensor(key)
                    for parameter in [p for p, numbers in missing.items() if _lies_in(numbers, tensor, within.get(p))]:
                        del missing[parameter]
        by_expert = saved_by_expert(missing, folder)
        lost = [self.names[p] for p in missing if p not in by_expert]
        if lost:
            raise GuaranteeViolated(
                "what was trained is what is saved",
                f"{len(lost)} of {len(self.names)} trained parameters, {lost[0]} first, are not in {folder.name}",
                "The model that is kept is another than the one that was trained.",
            )
        self.reread = len(self.names)

    def finished(self, promise: PrivacyGuarantee) -> tuple[SelfCheckItem, ...]:
        """After the last step: the ledger matches the steps that were run, and every parameter moved.

        Args:
            promise: what the run states about itself; where it ended early, of all steps that were planned, as the
                choice of the end may tell of the data.

        Returns:
            All checks, for the logs.
        """
        self._alive(at_end=True)
        stated = (promise.noise_multiplier, promise.rate, promise.delta)
        real = (self.plan.noise_multiplier, self.plan.sampler.rate, self.plan.delta)
        if stated != real or promise.steps not in (self.done, self.plan.steps) or promise.steps < self.done:
            raise GuaranteeViolated(
                "the ledger matches the run",
                f"it has {(promise.steps, *stated)} (steps, noise multiplier, rate, δ), and the run had "
                f"{(self.done, *real)}",
                "ε is stated for another training than this one.",
            )
        self._recount(promise)
        self.weights.whole()
        return self._checks()

    def _recount(self, promise: PrivacyGuarantee) -> None:
        """The stated ε is not below what a second count finds, for the noise, rate and steps that are run."""
        sampler = self.plan.sampler
        single = self.plan.spec.user_sampling == "group"
        mechanism = Mechanism(
            noise_multiplier=self.plan.noise_multiplier, rate=sampler.rate, owned=1 if single else sampler.owned
        )
        drawn = mechanism.participation()
        again = epsilon_again(
            mechanism.noise_multiplier,
            drawn.counts.tolist(),
            drawn.chances.tolist(),
            steps=promise.steps,
            delta=promise.delta,
        )
        if again is not None and promise.epsilon < again * (1 - RECOUNTED) - 1e-3:
            raise GuaranteeViolated(
                "ε is at least what these steps cost",
                f"ε = {promise.epsilon:.4g} is stated for {promise.steps} steps, and a second count has {again:.4g}",
                "The accounting is wrong, or is of another training.",
            )

    @property
    def first_step(self) -> int:
        """Number of the first step that was watched: 0, or where a resumed training went on."""
        return self.first or 0

    def _check_sums(self, seen: Sequence[NoiseSums], slices: npt.NDArray[np.float64]) -> None:
        """The sums of clipped gradients are within their bound; what ``add_noise`` says of them fits what is seen."""
        lengths = np.sqrt([step.x_squared for step in seen])
        parts = np.sqrt(np.add.reduceat(slices**2, self.noise.meter.starts))
        norms = lengths if self._measured is None else self._measured.cpu().numpy()
        if not (np.allclose(norms, lengths, rtol=1e-3) and (parts <= lengths * 1.001).all()):
            raise GuaranteeViolated(
                "what is noised is what was summed",
                f"at step {self.done} the lengths of the sums are others when noise is added",
                "Something changed them in between.",
            )
        if self.division is not None:
            whole = self.division.lengths(dict(zip(self.names, lengths.tolist(), strict=True)))
            total = float(np.sqrt((whole**2).sum()))
            lengths = np.array([whole[self.division.numbers[p]] for p in self.names])
        else:
            total = float(np.sqrt((lengths**2).sum()))
        if not total <= self._bound * (1 + ROUNDED):
            raise GuaranteeViolated(
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
            raise GuaranteeViolated(
                "every trained parameter is clipped and noised",
                f"{lacking[0]} {what}" if lacking else f"{len(tensors)} parameters, and {len(self.names)} are trained",
                "A parameter that is left out tells of the data without any bound.",
            )

    def _alive(self, *, at_end: bool = False) -> None:
        """Every parameter moved and has had a gradient. At the end of short runs, a gradient is not asked for."""
        ran = self.done - self.first_step
        if self.still and ran:
            raise GuaranteeViolated(
                "training changes every trained parameter",
                f"{self._some(self.still)} did not change in {ran} steps",
                "ε is spent for a model that is not trained; look at the learning rate and the optimizer.",
            )
        if self.silent and self.busy_steps >= 3 and not (at_end and ran < PATIENCE):
            raise GuaranteeViolated(
                "every trained parameter has per-unit gradients",
                f"{self._some(self.silent)} had none in {ran} steps",
                "It receives noise and nothing else; freeze it, or look at the rule of its layer.",
            )

    def _some(self, those: set[nn.Parameter]) -> str:
        names = [name for p, name in self.names.items() if p in those]
        return names[0] if len(names) == 1 else f"{len(names)} parameters ({names[0]} …)"

    def _checks(self) -> tuple[SelfCheckItem, ...]:
        """No figure that depends on the records: it would be published without noise."""
        sampler, trained, half = self.plan.sampler, len(self.names), ERROR / 2
        ran = f"in all of steps {self.first_step} to {self.done - 1}" if self.done > self.first_step else "no step ran"
        drawn = f"Binomial({sampler.units}, {sampler.rate:.4g}), exact tests, false alarm {half:.0e} a run"
        probed, reread = self.probed > 0, self.reread is not None
        looked = f"{sum(self.begun.counts)} elements in each step"
        return (
            SelfCheckItem(
                name="units together, against each alone by autograd",
                measured=f"agree, {self.probed} times" if probed else "no unit had a gradient",
                bound=f"lengths within {ROUNDED:.0%}, each parameter's share in place",
                passed=True if probed else None,
            ),
            SelfCheckItem(
                name="sum of clipped gradients",
                measured=f"within its bound {ran}",
                bound=f"units × {self.plan.clip_norm:g}, and {ROUNDED:.0%} for rounding",
                passed=True,
            ),
            SelfCheckItem(
                name="standard deviation of the noise over the promised one",
                measured=f"{self.noise.meter.ratio:.2f} ({self.noise.meter.samples} samples of {trained} parameters)",
                bound=f"1 overall and in each parameter, χ² tests, false alarm {half:.0e} a run",
                passed=True,
            ),
            SelfCheckItem(
                name="noise drawn a second time",
                measured=f"the same {ran}",
                bound=f"{looked}, at places that move",
                passed=True,
            ),
            SelfCheckItem(name="batches", measured=f"as drawn a second time {ran}", bound=drawn, passed=True),
            SelfCheckItem(
                name="trained parameters that moved",
                measured=str(trained - len(self.still)),
                bound=str(trained),
                passed=True,
            ),
            SelfCheckItem(
                name="weights outside of the optimizer's step, and frozen ones",
                measured=f"unchanged {ran}",
                bound=f"{looked}; of frozen ones all bits now and then and at the end",
                passed=True,
            ),
            SelfCheckItem(
                name="trained parameters read back from disk",
                measured=str(self.reread) if reread else "not read back",
                bound=str(trained),
                passed=True if reread else None,
            ),
            SelfCheckItem(name="ε counted a second time", measured="not above", bound=f"{RECOUNTED:.0%}", passed=True),
            SelfCheckItem(name="steps in the ledger", measured=str(self.done), bound=str(self.done), passed=True),
        )


def _lies_in(numbers: torch.Tensor, tensor: torch.Tensor, where: Stretch | None = None) -> bool:
    """True if a stored tensor holds these numbers, in their order, in the precision that it is stored in; all of it, or
    a stretch of it."""
    where = where or Stretch(start=0, whole=numbers.numel())
    if tensor.numel() != where.whole:
        return False
    ours, stored = numbers.reshape(-1), tensor.reshape(-1)[where.start : where.start + numbers.numel()]
    first = ours[:SAMPLES].to(stored.dtype)
    return torch.equal(stored[:SAMPLES], first) and torch.equal(stored, ours.to(stored.dtype))
