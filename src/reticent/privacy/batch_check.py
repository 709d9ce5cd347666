# SPDX-License-Identifier: Apache-2.0
"""Checks that batches of a private training are those that are accounted for: drawn again, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.meters import DrawMeter, SizeMeter
from reticent.privacy.plan import PrivacyPlan
from reticent.privacy.redraw import batch_again
from reticent.privacy.sampling import Unit


class BatchCheck:
    """Looks at the units of each step.

    Args:
        plan: what was promised.
        users: whose each record is, in the order of the population; None where nobody is known.
        error: chance that batches drawn rightly are stopped by the tests of their sizes and overlaps, in a run.
    """

    def __init__(self, plan: PrivacyPlan, users: Sequence[str | None] | None, *, error: float) -> None:
        self.plan, self.users = plan, users
        sampler = plan.sampler
        self.sizes = SizeMeter(sampler.units, sampler.rate, steps=plan.steps, error=error / 2)
        self.draws = DrawMeter(sampler.units, sampler.rate, steps=plan.steps, error=error / 2)
        self._kept: dict[str | None, set[int]] = {}

    def check(self, step: int, units: Sequence[Unit]) -> None:
        """The units, over all processes, of one step.

        Raises:
            GuaranteeViolated: they are others than key and rate give, or not drawn by coins of their own, or no units.
        """
        sampler = self.plan.sampler
        numbers = batch_again(self.plan.key, step, units=sampler.units, rate=sampler.rate)
        if list(units) != [sampler.draw(number, step) for number in numbers]:
            raise GuaranteeViolated(
                "batches are those that the key and the rate give",
                f"the {len(units)} units of step {step} are others than a second draw has",
                "ε is computed for units drawn independently, each with the plan's rate.",
            )
        odd = self.sizes.add(len(units)) or self.draws.add(numbers) or self._odd_units(units)
        if odd:
            raise GuaranteeViolated(
                "units are drawn with the plan's rate", odd, "ε is larger than promised if units are drawn otherwise."
            )

    def _odd_units(self, units: Sequence[Unit]) -> str | None:
        """The fault in the rows of the units of one step, if there is one, as far as the plan and the users tell."""
        spec, sampler = self.plan.spec, self.plan.sampler
        if any(len(unit) > sampler.rows_per_unit for unit in units):
            return f"a unit has more than the {sampler.rows_per_unit} rows that the plan has"
        records = [{piece.record for row in unit for piece in row} for unit in units]
        users = self.users if spec.unit == "user" else None
        owners: list[set[Any]] = list(records)
        if users is not None and spec.user_sampling == "user":
            owners = [{users[record] for record in of_one} for of_one in records]
        if any(len(owner) > 1 for owner in owners) or len(set().union(*owners)) < len(owners):
            return "two of the units that were drawn are one, or one of them is two"
        if users is not None and spec.user_sampling != "user":
            for record in set().union(*records):
                self._kept.setdefault(users[record], set()).add(record)
            if any(len(of_user) > sampler.owned for of_user in self._kept.values()):
                return f"a user has more than the {sampler.owned} records that are accounted for"
        return None
