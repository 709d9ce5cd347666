# SPDX-License-Identifier: Apache-2.0
"""The self-check of private training: what the engine does is measured while it runs, and compared with the plan.

It is independent of what it checks: gradients come from plain autograd, noise from what the optimizer is given minus
what was summed. A check that fails stops the run, for a model trained under a broken promise must not be released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reticent.core.errors import ReticentError


class BrokenPromise(ReticentError):
    """The running engine does not do what the plan promises. Exit code 1: nothing of the run may be released.

    Args:
        promise: which promise broke.
        measured: what was measured, with the bound it breaks.
        meaning: what that means for whoever's data it is.
    """

    exit_code = 1

    def __init__(self, promise: str, measured: str, meaning: str) -> None:
        self.promise, self.measured, self.meaning = promise, measured, meaning
        super().__init__(f"Broken promise: {promise}: {measured}. {meaning}")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was checked; goes to ``privacy.json`` and ``train_log.json``.

    Args:
        name: what was checked.
        measured: the figure that was measured, in the words of a person.
        bound: what it had to be.
        passed: whether it was. None: not checked, and ``measured`` says why.
    """

    name: str
    measured: str
    bound: str
    passed: bool | None


class SelfCheck:
    """Watches one private training. Every method raises ``BrokenPromise`` as soon as a promise breaks.

    Call order: ``one_unit`` once; then each step ``drawn``, ``before_noise``, ``after_noise``, ``step_done``; then
    ``saved`` and ``finished``. With several processes each runs its own, on the sums over all processes.

    Args:
        plan: what was promised.
        parameters: every parameter that is trained, by name; as they are before training.
    """

    def __init__(self, plan: Any, parameters: Mapping[str, nn.Parameter]) -> None:
        raise NotImplementedError

    def one_unit(
        self,
        model: nn.Module,
        clipper: Any,
        inputs: Mapping[str, torch.Tensor],
        labels: torch.Tensor,
        *,
        weight: torch.Tensor,
        autocast: torch.dtype | None = None,
    ) -> None:
        """Run one unit alone, through autograd and through the clipper, as long and as short gradients.

        To be called once, before the first step that has a unit, outside of ``clipper.attached()``, with nothing
        accumulated in ``clipper``. Everything is left as it was (no ``.grad``, same mode, same random state).

        Args:
            model: the model that is trained.
            clipper: the one that the training uses.
            inputs: of the rows of one unit ``[k, T]``; all rows belong to it.
            labels: ``[k, T]``.
            weight: ``[k]``.
            autocast: what the clipper was made with.
        """
        raise NotImplementedError

    def drawn(self, step: int, units: Sequence[Any]) -> None:
        """The units (over all processes) that step number ``step`` (from 0) trains on: those of the plan's sampler."""
        raise NotImplementedError

    def contributed(self, norms: torch.Tensor) -> torch.Tensor:
        """Scalar: what the units' clipped gradients may add up to at most, from their norms ``[U]`` before clipping.

        To be summed over micro-batches and processes. Norms of units that only fill up are 0 and add nothing.
        """
        raise NotImplementedError

    def before_noise(self, sums: Mapping[nn.Parameter, torch.Tensor], contributed: torch.Tensor | float) -> None:
        """The clipped sums over all processes are within their bound, for all parameters, none with a ``.grad``.

        Args:
            sums: float32, of every trained parameter; only read. Small slices are kept until ``after_noise``.
            contributed: the sum of ``contributed`` over micro-batches and processes.
        """
        raise NotImplementedError

    def after_noise(self, noised: Mapping[nn.Parameter, torch.Tensor], noise: Sequence[Any]) -> None:
        """What the optimizer is given minus what was summed is Gaussian noise of the promised size, in each parameter.

        Args:
            noised: the same tensors after noise and division by the expected batch (what becomes ``.grad``).
            noise: the ``NoiseSums`` that ``add_noise`` returned, in the order of ``sums``.
        """
        raise NotImplementedError

    def step_done(self, step: int) -> None:
        """After the optimizer's step number ``step`` (from 0)."""
        raise NotImplementedError

    def saved(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """The trained parameters as read back from disk, by the names given at the start: as trained, not as before."""
        raise NotImplementedError

    def finished(self, promise: Any) -> tuple[Check, ...]:
        """After the last step: the ledger (``promise.steps``) matches the steps run, each parameter moved.

        Returns:
            All checks, for the logs.
        """
        raise NotImplementedError
