# SPDX-License-Identifier: Apache-2.0
"""What was promised, in one sentence that names ε, its unit, δ and the neighbouring relation, and as JSON.

What the promise takes as public: how many units there are, the steps, the sampling rate, all settings, and the context
that texts are cut to. Where only marked spans are covered, also all other text and where the spans are.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.privacy.spec import UNITS

PROMISE_FILE = "privacy.json"
"""In the folder of a model that was trained with differential privacy: what was promised."""
FORMAT = 1
EVERYTHING = "all that a unit adds to the training data"
SPANS = "the content of the marked spans alone"


@dataclass(frozen=True, kw_only=True)
class Promise:
    """(ε, δ)-differential privacy of the trained weights, and how it was counted.

    Args:
        epsilon: upper bound, counted by ``accountant`` for the steps that were run.
        delta: chance that the bound may fail.
        unit: whose traces are hidden, "record" or "user".
        neighbouring: which data sets are indistinguishable.
        mechanism: of one step.
        accountant: how ε was counted.
        noise_multiplier: standard deviation of the noise over the clip norm.
        rate: chance of a sampled unit to be in a step.
        steps: that were run.
        units: how many are protected.
        check: the same ε by Rényi divergences, coarser.
        implied: where records are protected and users known, the ε of the user with the most records, at the same δ.
        implied_records: how many records that user has.
        covers: what the promise is about: ``EVERYTHING``, or what `covered_spans` says.
        owned: how many of the sampled units one protected unit can be behind, as in `Mechanism`.
        black_box: whether such owners were accounted for by group privacy, as in `Mechanism`.

    Raises:
        BadInput: numbers that promise nothing, such as an infinite ε.
    """

    epsilon: float
    delta: float
    unit: str
    neighbouring: str
    mechanism: str
    accountant: str
    noise_multiplier: float
    rate: float
    steps: int
    units: int
    check: float
    implied: float | None = None
    implied_records: int | None = None
    covers: str = EVERYTHING
    owned: int = 1
    black_box: bool = False

    def __post_init__(self) -> None:
        validate.one_of(UNITS, unit=self.unit)
        validate.non_negative(epsilon=self.epsilon, implied=self.implied or 0.0, steps=self.steps)
        validate.in_range(0, 1, delta=self.delta)
        validate.positive(owned=self.owned)

    @property
    def auroc(self) -> float:
        """The most that any attack on a unit can reach: `auroc_bound`."""
        return auroc_bound(self.epsilon, self.delta)

    def sentence(self) -> str:
        """ε with all that gives it a meaning; ε is rounded up."""
        said = (
            f"ε = {_up(self.epsilon)} per {self.unit} at δ = {self.delta:.2g} ({self.neighbouring}; {self.mechanism}, "
            f"{self.accountant}; σ = {self.noise_multiplier:.3g}, rate {self.rate:.3g}, {self.steps} steps)"
        )
        if self.covers != EVERYTHING:
            said += f", covering {self.covers}"
        if self.implied is not None and self.implied_records is not None:
            them = "all records of that user" if self.covers == EVERYTHING else "all marked spans of that user"
            said += (
                f". For the user with the most records ({self.implied_records}) that is ε = {_up(self.implied)} per "
                f"user at δ = {self.delta:.2g} (add or remove {them})"
            )
        return said

    def to_json(self) -> str:
        """The promise, beside its sentence for those who read the file."""
        return json.dumps(
            {"format": FORMAT, "statement": self.sentence(), **asdict(self)},
            ensure_ascii=False,
            indent=2,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Promise:
        """The promise that `to_json` wrote.

        Raises:
            BadInput: another format, or fields missing.
        """
        try:
            found = json.loads(text)
            if found.pop("format") != FORMAT:
                raise BadInput("privacy.json", f"is not of format {FORMAT}", "Read it with the version that wrote it.")
            found.pop("statement", None)
            return cls(**found)
        except BadInput:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            names = ", ".join(field.name for field in fields(cls))
            raise BadInput("privacy.json", f"does not hold a promise ({names})", "Train again.") from error


def covered_spans(recall: float) -> str:
    """What a promise on marked spans covers, where they hold the share ``recall`` of the personal data.

    >>> covered_spans(0.9)  # doctest: +ELLIPSIS
    "the content of the marked spans alone (... recall is 0.9: a share of 0.1 of the personal data has no guarantee)"
    """
    missed = f"a share of {1 - recall:.2g} of the personal data has no guarantee"
    said = f"the detector's recall is {recall:g}: {missed}" if recall < 1 else "all personal data is said to be marked"
    return f"{SPANS} (where they are, and all other text, counts as public; {said})"


def auroc_bound(epsilon: float, delta: float) -> float:
    """The largest AUROC of any attack that tells a unit in the data from one left out, under (ε, δ)-DP.

    No attack can leave TPR ≤ min(e^ε·FPR + δ, 1 − e^−ε·(1 − δ − FPR)) (Kairouz, Oh and Viswanath 2015, Theorem 2.1);
    the area above that line is a quadrilateral of (1 − δ)² / (1 + e^ε).

    >>> auroc_bound(0, 0)
    0.5
    """
    # e^−ε / (1 + e^−ε) instead of 1 / (1 + e^ε), which overflows.
    odds = math.exp(-epsilon)
    return 1 - (1 - delta) ** 2 * odds / (1 + odds)


def _up(epsilon: float) -> str:
    """Two decimals, rounded up: a promise must not be rounded down. A billionth over is floating point."""
    return f"{math.ceil(epsilon * 100 - 1e-7) / 100:.2f}"
