# SPDX-License-Identifier: Apache-2.0
"""The privacy guarantee: one sentence that names ε, its unit, δ and the neighbouring relation, and JSON.

What the promise takes as public: how many units there are, the steps, the sampling rate, all settings, and the context
that texts are cut to. Where only marked spans are covered, also all other text and where the spans are.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields

from reticent.core import validate
from reticent.core.composed_epsilon import rounded_up
from reticent.core.errors import BadInput
from reticent.core.stated_epsilon import DONE as DONE
from reticent.privacy.spec import ADD_OR_REMOVE, RELATIONS, UNITS
from reticent.privacy.tradeoff import AttackLimits, of_promise

FORMAT = 2
WITHOUT_CURVE = 1
"""The format that knew (ε, δ) only, added or removed units, and the records of the largest user; still read."""
EVERYTHING = "all that a unit adds to the training data"
SPANS = "the content of the marked spans alone"


@dataclass(frozen=True, kw_only=True)
class PrivacyGuarantee:
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
        implied: where records are protected and users known, numbers of records that do not depend on the data, and for
            each the ε of a user who has so many, at the same δ.
        covers: what the promise is about: ``EVERYTHING``, or what `covered_spans` says.
        relation: which data sets are indistinguishable, of `RELATIONS`.
        allowed: the most that any attack can reach; None where all that is known is (epsilon, delta).
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
    implied: tuple[tuple[int, float], ...] = ()
    covers: str = EVERYTHING
    relation: str = ADD_OR_REMOVE
    allowed: AttackLimits | None = None
    owned: int = 1
    black_box: bool = False

    def __post_init__(self) -> None:
        validate.one_of(UNITS, unit=self.unit)
        validate.one_of(RELATIONS, relation=self.relation)
        validate.non_negative(epsilon=self.epsilon, steps=self.steps)
        for records, epsilon in self.implied:
            validate.non_negative(implied=epsilon, implied_records=records)
        validate.in_range(0, 1, delta=self.delta)
        validate.positive(owned=self.owned)

    @property
    def most(self) -> AttackLimits:
        """The most that any attack on a unit can reach: by the curve of the mechanism, else by (ε, δ) alone."""
        return self.allowed if self.allowed is not None else of_promise(self.epsilon, self.delta)

    @property
    def auroc(self) -> float:
        """The largest AUC of any attack on a unit."""
        return self.most.auc

    def sentence(self) -> str:
        """ε with all that gives it a meaning, and what it keeps attacks from; every number is rounded up."""
        text = (
            f"ε = {rounded_up(self.epsilon)} per {self.unit} at δ = {self.delta:.2g} ({self.neighbouring}; "
            f"{self.mechanism}, {self.accountant}; σ = {self.noise_multiplier:.3g}, rate {self.rate:.3g}, "
            f"{self.steps} steps)"
        )
        if self.covers != EVERYTHING:
            text += f", covering {self.covers}"
        return ". ".join([text, self._limits(), *self._users()])

    def _limits(self) -> str:
        most = self.most
        what = f"one {self.unit}" if self.covers == EVERYTHING else f"the marked spans of one {self.unit}"
        return (
            f"So no attack on {what} can have an AUC above {rounded_up(most.auc, 3)}, or find more than "
            f"{rounded_up(100 * most.tpr_at_1pct_fpr, 1)} % of the {self.unit}s at 1 % false alarms"
        )

    def _users(self) -> list[str]:
        if not self.implied:
            return []
        them = "all records of that user" if self.covers == EVERYTHING else "all marked spans of that user"
        bounds = ", ".join(
            f"for a user with {records} records ε = {rounded_up(epsilon)} per user at δ = {self.delta:.2g}"
            for records, epsilon in self.implied
        )
        return [f"F{bounds[1:]} ({DONE[self.relation]} {them})"]

    def to_json(self) -> str:
        """The promise, beside its sentence for those who read the file."""
        return json.dumps(
            {"format": FORMAT, "statement": self.sentence(), **asdict(self)},
            ensure_ascii=False,
            indent=2,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> PrivacyGuarantee:
        """The promise that `to_json` wrote.

        Raises:
            BadInput: another format, or fields missing.
        """
        try:
            fields_of = json.loads(text)
            version = fields_of.pop("format")
            fields_of.pop("statement", None)
            if version == WITHOUT_CURVE:
                largest, epsilon = fields_of.pop("implied_records", None), fields_of.pop("implied", None)
                fields_of["implied"] = [] if largest is None or epsilon is None else [[largest, epsilon]]
            elif version != FORMAT:
                raise BadInput(
                    "privacy.json",
                    f"is of format {version!r}, not {FORMAT} or {WITHOUT_CURVE}",
                    "Read it with the version that wrote it.",
                )
            fields_of["implied"] = tuple((records, epsilon) for records, epsilon in fields_of["implied"])
            allowed = fields_of.get("allowed")
            if allowed is not None:
                roc = tuple((fpr, tpr) for fpr, tpr in allowed.pop("roc"))
                fields_of["allowed"] = AttackLimits(roc=roc, **allowed)
            return cls(**fields_of)
        except BadInput:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            names = ", ".join(field.name for field in fields(cls))
            raise BadInput("privacy.json", f"does not hold a promise ({names})", "Train again.") from error


def covered_spans(recall: float) -> str:
    """The coverage of a guarantee on marked spans that hold the share ``recall`` of the personal data.

    >>> covered_spans(0.9)  # doctest: +ELLIPSIS
    "the content of the marked spans alone (... recall is 0.9: a share of 0.1 of the personal data has no guarantee)"
    """
    missed = f"a share of {1 - recall:.2g} of the personal data has no guarantee"
    recall_text = (
        f"the detector's recall is {recall:g}: {missed}" if recall < 1 else "all personal data is said to be marked"
    )
    return f"{SPANS} (where they are, and all other text, counts as public; {recall_text})"


def auroc_bound(epsilon: float, delta: float) -> float:
    """The largest AUC of any attack that tells a unit in the data from one left out, under (ε, δ)-DP.

    No attack can leave TPR ≤ min(e^ε·FPR + δ, 1 − e^−ε·(1 − δ − FPR)) (Kairouz, Oh and Viswanath 2015, Theorem 2.1);
    the area above that line is a quadrilateral of (1 − δ)² / (1 + e^ε).

    Examples:
        >>> auroc_bound(0, 0)
        0.5
    """
    # e^−ε / (1 + e^−ε) instead of 1 / (1 + e^ε), which overflows.
    odds = math.exp(-epsilon)
    return 1 - (1 - delta) ** 2 * odds / (1 + odds)
