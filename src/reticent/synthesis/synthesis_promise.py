# SPDX-License-Identifier: Apache-2.0
"""SynthesisPromise: (ε, δ) of synthetic texts, in a sentence that never says ε without what gives it a meaning."""

from __future__ import annotations

from dataclasses import dataclass

from reticent.core import validate
from reticent.core.composed_epsilon import rounded_up
from reticent.core.errors import BadInput
from reticent.privacy.guarantee import DONE
from reticent.privacy.plan import default_delta
from reticent.privacy.spec import RELATIONS, UNITS
from reticent.privacy.tradeoff import of_promise

FEW = 200
"""With fewer units the sentence says how weak δ is."""


@dataclass(frozen=True, kw_only=True)
class SynthesisPromise:
    """Differential privacy of all texts together, and how it was counted.

    Args:
        epsilon: upper bound.
        delta: chance that it may fail.
        unit: whose traces are hidden.
        relation: what the data sets differ by that cannot be told apart.
        units: how many there are.
        mechanism: where chance or noise protects, with its numbers.
        accountant: how ε was counted.
        rho: zCDP of one unit; None where it was not counted so.

    Raises:
        BadInput: numbers that promise nothing.

    Examples:
        >>> about = {"unit": "user", "relation": "add_or_remove", "units": 2000, "mechanism": "…", "accountant": "…"}
        >>> SynthesisPromise(epsilon=1.0, delta=1e-5, **about).sentence()  # doctest: +ELLIPSIS
        'ε = 1.00 per user at δ = 1e-05 (add or remove one of N = 2000 users; …; …). So no attack on one user ...'
    """

    epsilon: float
    delta: float
    unit: str
    relation: str
    units: int
    mechanism: str
    accountant: str
    rho: float | None = None

    def __post_init__(self) -> None:
        validate.one_of(UNITS, unit=self.unit)
        validate.one_of(RELATIONS, relation=self.relation)
        validate.non_negative(epsilon=self.epsilon)
        validate.in_range(0, 1, delta=self.delta)

    def sentence(self) -> str:
        """ε with all that gives it a meaning, and what it keeps attacks from; every number is rounded up."""
        auc = of_promise(self.epsilon, self.delta).auc
        text = (
            f"ε = {rounded_up(self.epsilon)} per {self.unit} at δ = {self.delta:.2g} ({DONE[self.relation]} one of "
            f"N = {self.units} {self.unit}s; {self.mechanism}; {self.accountant}). So no attack on one {self.unit} can "
            f"have an AUC above {rounded_up(auc, 3)}."
        )
        return text if self.units >= FEW else f"{self._weak()} {text}"

    def _weak(self) -> str:
        share = rounded_up(100 * self.delta * self.units, 1)
        return (
            f"With only {self.units} {self.unit}s δ is weak: even a mechanism that publishes a {self.unit}'s texts "
            f"whole in {share} % of all runs would keep this promise."
        )


def settled_delta(delta: float | None, units: int) -> float:
    """δ as given, or a tenth of 1 / units rounded down to a power of ten.

    Raises:
        BadInput: it is so large that publishing a unit whole would keep the promise, or there is nobody to hide among.

    Examples:
        >>> settled_delta(None, 2000)
        1e-05
    """
    if units < 2:
        raise BadInput(f"{units} units", "cannot hide one among others", "Give at least 2.")
    settled = default_delta(units) if delta is None else delta
    if not 0 < settled < 1 / units:
        raise BadInput(
            f"delta={settled:g} for {units} units",
            "is so large that publishing one of them whole would keep the promise",
            f"Give less than {1 / units:.2g}, or leave it out ({default_delta(units):g}).",
        )
    return settled
