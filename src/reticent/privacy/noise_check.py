# SPDX-License-Identifier: Apache-2.0
"""Checks that a parameter gets the noise of its key, step and number, and that the optimizer gets the noised sum."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.division import Division
from reticent.privacy.meters import NoiseMeter
from reticent.privacy.noise import NoiseSums
from reticent.privacy.plan import PrivacyPlan
from reticent.privacy.redraw import noise_again, noise_of_one
from reticent.privacy.sampling import words
from reticent.privacy.watch import FIRST, Floats, WatchPoints, places


class NoiseCheck:
    """Looks at some elements of all sums before and after the noise, and of all gradients until they are used.

    Args:
        plan: what was promised.
        names: of all trained parameters, in the order of the model.
        error: chance that right noise is stopped by the tests of its distribution, in a run.
        division: where the parameters are parts, of which other processes hold the rest; they share ``error``.
    """

    def __init__(
        self,
        plan: PrivacyPlan,
        names: Mapping[nn.Parameter, str],
        *,
        error: float,
        division: Division | None = None,
    ) -> None:
        self.plan, self.names, self.division = plan, names, division
        error /= division.processes if division is not None else 1
        self.std = plan.noise_multiplier * plan.clip_norm
        self.step = 0
        self.places = self._places(0)
        shared = [min(FIRST, p.numel()) for p in names]
        self.meter = NoiseMeter(
            list(names.values()), self.places.counts, shared, std=self.std, steps=plan.steps, error=error
        )
        self._before: Floats | None = None
        self._given: Floats | None = None

    def before(self, step: int, sums: Sequence[torch.Tensor]) -> None:
        """Keep some elements of the clipped sums, in the order of ``names``."""
        self.step, self.places = step, self._places(step)
        self._before = self.places.of(sums)

    def after(self, noised: Sequence[torch.Tensor], seen: Sequence[NoiseSums]) -> Floats:
        """Check that the noised sum minus the sum is the noise of this step.

        Args:
            noised: in the order of ``names``.
            seen: what ``add_noise`` returned of each.

        Returns:
            The elements that were kept before.

        Raises:
            GuaranteeViolated: it is other noise, or another amount of it.
        """
        assert self._before is not None, "before comes first"
        before, self._before = self._before, None
        self._given = self.places.of(noised)
        drawn = self._given * self.plan.expected_batch - before
        odd = self.meter.add(drawn) or self._odd_sums(seen) or self._other(drawn, before)
        if odd:
            raise GuaranteeViolated(
                f"noise of standard deviation {self.std:.4g} (noise_multiplier × clip_norm) is in each parameter",
                f"at step {self.step}, {odd}",
                "ε is larger than promised, or there is no privacy at all.",
            )
        return before

    def given(self, *, public: bool) -> None:
        """With ``public`` something was added to what was noised, by right: the optimizer is to be given that."""
        if public:
            self._given = self._gradients()

    def untouched(self, optimized: Collection[torch.Tensor]) -> None:
        """``.grad`` of each parameter is what was noised, or what it was when ``given``, and nothing else has one.

        Args:
            optimized: all that the optimizer may change.
        """
        for tensor in optimized:
            if tensor.grad is not None and tensor not in self.names:
                self._broke("is there for a weight that is not trained")
        if self._given is None or not np.array_equal(self._gradients(), self._given):
            self._broke("is not what was noised")

    def _places(self, step: int) -> WatchPoints:
        return places([p.numel() for p in self.names], self.plan.key, step)

    def _gradients(self) -> Floats:
        for parameter, name in self.names.items():
            if parameter.grad is None:
                self._broke(f"of {name} is missing")
        return self.places.of([p.grad for p in self.names if p.grad is not None])

    def _other(self, drawn: Floats, before: Floats) -> str | None:
        """The parameter whose noise is not that of the key, the step and its number."""
        expected, chosen = self._expected()
        off = np.abs(drawn[chosen] - self.std * expected)
        # add_noise is good to 1e-5, and sums are float32.
        wrong = ~(off <= 1e-4 * self.std + 1e-6 * np.abs(before[chosen]))
        if not wrong.any():
            return None
        name = list(self.names.values())[self.places.tensor_of(int(np.flatnonzero(chosen)[int(np.argmax(wrong))]))]
        return f"the noise in {name} is other than the generator's at this key, step and place"

    def _expected(self) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Standard normals at the watched places, and which of the watched elements they are for."""
        parameters = list(self.names)
        if all(p.device.type == "cpu" for p in parameters):
            again = noise_again(self.plan.key, self.step, self.places, self._parts(parameters))
            return again, np.ones(sum(self.places.counts), dtype=bool)
        return self._expected_of_one(parameters)

    def _expected_of_one(self, parameters: Sequence[nn.Parameter]) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The same where a generator cannot be read in the middle: all of one parameter in a step, of another in the
        next."""
        index = int(words(self.plan.key, "redraw", self.step, count=1)[0]) % len(parameters)
        chosen_one, parts = parameters[index], self._parts(parameters)
        number = index if parts is None else parts[index][0]
        where = None if self.division is None else self.division.stretches[chosen_one]
        again = noise_of_one(self.plan.key, self.step, number, chosen_one.numel(), chosen_one.device, where)
        chosen = np.repeat(np.arange(len(parameters)) == index, self.places.counts)
        return WatchPoints(spans=(self.places.spans[index],)).of([again]), chosen

    def _parts(self, parameters: Sequence[nn.Parameter]) -> list[tuple[int, int]] | None:
        """For each the number of the whole tensor, and where in it the part begins; None where all are whole."""
        by = self.division
        return None if by is None else [(by.numbers[p], by.stretches[p].start) for p in parameters]

    def _odd_sums(self, seen: Sequence[NoiseSums]) -> str | None:
        """Mean and size of all noise of one step, as ``add_noise`` saw it, within 8 standard errors."""
        for (parameter, name), sums in zip(self.names.items(), seen, strict=True):
            if sums.n != parameter.numel():
                return f"{sums.n} of {parameter.numel()} elements of {name} got noise"
            if not abs(sums.noise) <= 8 * self.std * sums.n**0.5:
                return f"the noise in {name} is not centred"
        n, squares = sum(step.n for step in seen), sum(step.noise_squared for step in seen)
        # Few elements do not make a Gaussian, and are all among the samples; float32 may be off in the fourth digit.
        if n >= 10_000 and not abs(squares / (n * self.std**2) - 1) <= 8 * (2 / n) ** 0.5 + 1e-3:
            return f"the standard deviation is {(squares / n) ** 0.5:.4g} instead of {self.std:.4g} (all {n} elements)"
        return None

    def _broke(self, how: str) -> None:
        raise GuaranteeViolated(
            "the optimizer is given the noised sum and nothing else",
            f"at step {self.step}, a gradient {how}",
            "It would carry into the weights what no noise covers.",
        )
