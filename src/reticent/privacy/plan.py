# SPDX-License-Identifier: Apache-2.0
"""PrivacyPlan: sampler, noise, unit and accounting of one training, built together and nowhere else."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

from dp_accounting import dp_event

from reticent.core.errors import BadInput
from reticent.privacy import accounting
from reticent.privacy.guarantee import DONE, EVERYTHING, PrivacyGuarantee, covered_spans
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.sampling import PoissonSampler, Population, Unit
from reticent.privacy.selection import check_rule, draw_chunks, draw_records, keep, whole
from reticent.privacy.spec import REPLACE_ONE, PrivacySpec

LEAST_UNITS = 2
IMPLIED_FOR = (2, 10)
"""Numbers of records of a user for whom a promise per record says what it comes to."""


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """A private training that is settled: who is drawn when, how much noise is added and what that costs.

    What is accounted for is read off the sampler, so the two cannot disagree. Made by `make_plan`. It can be pickled,
    with its key, to be the plan of other processes of the same training.

    Args:
        spec: calibrated: noise multiplier and delta are given.
        sampler: the batches.
        units: how many units are protected (users with unit "user", however they are sampled).
        has_users: records are protected, and it is known whose they are.
        data: fingerprint of the population.
        covers: what the promise is about.

    Examples:
        >>> people = Population(users=(None,) * 1000, lengths=(20,) * 1000)
        >>> key = hashlib.sha256(b"use secrets.token_bytes(32) instead").digest()
        >>> plan = make_plan(PrivacySpec(epsilon=8.0), people, batch_size=100, steps=50, key=key)
        >>> plan.units, plan.expected_batch, plan.spent().epsilon <= 8
        (1000, 100.0, True)
    """

    spec: PrivacySpec
    sampler: PoissonSampler
    units: int
    has_users: bool
    data: str = field(repr=False)
    covers: str = EVERYTHING

    @property
    def mechanism(self) -> Mechanism:
        """One step, as the accountant sees it."""
        return Mechanism(
            noise_multiplier=self.noise_multiplier,
            rate=self.sampler.rate,
            owned=self.sampler.owned,
            black_box=self.spec.user_sampling == "group",
            relation=self.spec.relation,
        )

    @property
    def event(self) -> dp_event.DpEvent:
        """One step; with user_sampling "group" for one record, as group privacy comes at the end."""
        return self.mechanism.event

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise over the clip norm."""
        return _given(self.spec.noise_multiplier)

    @property
    def delta(self) -> float:
        return _given(self.spec.delta)

    @property
    def clip_norm(self) -> float:
        return self.spec.clip_norm

    @property
    def unit(self) -> str:
        return self.spec.unit

    @property
    def key(self) -> bytes:
        """32 secret bytes that batches and noise follow from."""
        return self.sampler.key

    @property
    def steps(self) -> int:
        return self.sampler.steps

    @property
    def expected_batch(self) -> float:
        """Expected number of sampled units in a step: what the noisy sum is divided by."""
        return self.sampler.expected_batch

    @property
    def rows_per_unit(self) -> int:
        return self.sampler.rows_per_unit

    @property
    def fingerprint(self) -> str:
        """Differs where anything of the plan differs, the key included; tells nothing of the key."""
        parts = {
            "spec": asdict(self.spec),
            "rate": self.sampler.rate,
            "steps": self.steps,
            "data": self.data,
            "key": hashlib.sha256(b"fingerprint" + self.key).hexdigest(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def refuse_other(self, population: Population) -> None:
        """Refuse ``population`` unless the plan was made for it; nothing is accounted for again.

        Raises:
            BadInput: other records, users, scores or contents, or other counts than the sampler has.
        """
        if (self.data, self.units, self.sampler.units) != (population.fingerprint, *counts(self.spec, population)):
            raise BadInput("the plan", "was made for another population", "Give a function that makes it for this one.")

    def spent(self, steps: int | None = None) -> PrivacyGuarantee:
        """The guarantee after ``steps`` steps; after all where it is left out. Stopping early is allowed.

        Raises:
            BadInput: more steps than the plan has.
        """
        steps = self.steps if steps is None else steps
        if not 0 <= steps <= self.steps:
            raise BadInput(f"{steps} steps", f"the plan has {self.steps}", "Make a plan for all steps that are run.")
        cost = accounting.spent(self.mechanism, steps=steps, delta=self.delta)
        return PrivacyGuarantee(
            epsilon=cost.epsilon,
            check=cost.check,
            delta=self.delta,
            unit=self.unit,
            relation=self.spec.relation,
            neighbouring=_what_differs(self.spec),
            mechanism=_describe(self.spec),
            accountant="PLD accountant",
            noise_multiplier=self.noise_multiplier,
            rate=self.sampler.rate,
            steps=steps,
            units=self.units,
            implied=self._implied(steps),
            covers=self.covers,
            allowed=accounting.allowed(self.mechanism, steps=steps, delta=self.delta),
            owned=self.mechanism.owned,
            black_box=self.mechanism.black_box,
        )

    def _implied(self, steps: int) -> tuple[tuple[int, float], ...]:
        """ε of users with so many records, where records are protected and users known. None of it depends on who has
        how many, which is private."""
        if not self.has_users or self.spec.relation == REPLACE_ONE:
            return ()
        return tuple(
            (records, accounting.implied_user_epsilon(self.mechanism, records=records, steps=steps, delta=self.delta))
            for records in IMPLIED_FOR
        )


def calibrate(spec: PrivacySpec, population: Population, *, batch_size: int, steps: int) -> PrivacySpec:
    """The same spec with noise_multiplier and delta filled in, and epsilon, which follows from them, left out.

    Args:
        spec: of a private training.
        population: who is in the data.
        batch_size: expected number of users in a step (unit "user" sampled by user), else of records.
        steps: optimizer steps.

    The noise is the smallest, to three digits, at which the accountant's ε is at most ``epsilon``.

    Raises:
        BadInput: not private, too few units, a batch larger than the data, or a delta that promises nothing.
    """
    # Which records are kept at random depends on the key, how many does not; nothing is ever drawn with this one.
    key = hashlib.sha256(b"calibration").digest()
    sampler = _sampler(spec, population, batch_size=batch_size, steps=steps, key=key)
    return _calibrated(spec, sampler, _units(spec, population))


def make_plan(spec: PrivacySpec, population: Population, *, batch_size: int, steps: int, key: bytes) -> PrivacyPlan:
    """Sampler, noise and accounting, built together.

    Args:
        spec, population, batch_size, steps: as in `calibrate`, which is done first where the noise is not given.
        key: 32 secret random bytes; who knows them can take the noise off the model.

    Raises:
        BadInput: as `calibrate`, or a key of another length.
    """
    sampler = _sampler(spec, population, batch_size=batch_size, steps=steps, key=key)
    units = _units(spec, population)
    return PrivacyPlan(
        spec=_calibrated(spec, sampler, units),
        sampler=sampler,
        units=units,
        has_users=spec.unit == "record" and any(user is not None for user in population.users),
        data=population.fingerprint,
        covers=EVERYTHING if spec.detector_recall is None else covered_spans(spec.detector_recall),
    )


def default_delta(units: int) -> float:
    """A tenth of 1 / units, rounded down to a power of ten.

    >>> default_delta(1000), default_delta(1001)
    (0.0001, 1e-05)
    """
    return float(f"1e-{len(str(units - 1)) + 1}")


def _sampler(spec: PrivacySpec, population: Population, *, batch_size: int, steps: int, key: bytes) -> PoissonSampler:
    """Poisson sampling of what ``spec`` samples.

    Raises:
        BadInput: not private, too few units, or a batch larger than what is sampled.
    """
    if not spec.is_private:
        raise BadInput("this PrivacySpec", "promises nothing", "Give epsilon or noise_multiplier.")
    if len(population) == 0:
        raise BadInput("no records", "there is nothing to train on", "Give records.")
    owned = rows = 1
    draw: Callable[[int, int], Unit]
    if spec.unit == "record":
        count = len(population)
        draw = partial(_draw_record, population, range(count))
    else:
        check_rule(population, spec.record_selection)
        users = tuple(population.records_of_users().values())
        most = spec.records_per_user
        if spec.user_sampling == "user":
            count, rows = len(users), most
            draw = _draw_user(spec, population, users, key)
        else:
            records_kept = [keep(population, user, rule=spec.record_selection, cap=most, key=key) for user in users]
            count, owned = sum(map(len, records_kept)), most
            draw = partial(_draw_record, population, tuple(sorted(record for user in records_kept for record in user)))
    if not 1 <= batch_size <= count:
        raise BadInput(
            f"batch_size={batch_size}",
            f"must be between 1 and the {count} {_sampled(spec)} that are sampled",
            "Give the number that a step holds on average (larger batches need relatively less noise).",
        )
    return PoissonSampler(
        units=count, rate=batch_size / count, steps=steps, owned=owned, rows_per_unit=rows, draw=draw, key=key
    )


def _draw_record(population: Population, records: Sequence[int], unit: int, step: int) -> Unit:
    return (whole(population, records[unit]),)


def _draw_user(
    spec: PrivacySpec, population: Population, users: tuple[tuple[int, ...], ...], key: bytes
) -> Callable[[int, int], Unit]:
    """(unit, step) → the rows of that user: drawn anew by the random rules, always the same by the others."""
    most = spec.records_per_user
    anew = {"random": draw_records, "random_chunk": draw_chunks}.get(spec.record_selection)
    if anew is not None:
        return partial(_anew, anew, population, users, most, key)
    records_kept = [keep(population, user, rule=spec.record_selection, cap=most, key=key) for user in users]
    return partial(_kept, population, records_kept)


def _anew(
    rule: Callable[..., Unit],
    population: Population,
    users: tuple[tuple[int, ...], ...],
    most: int,
    key: bytes,
    unit: int,
    step: int,
) -> Unit:
    return rule(population, users[unit], count=most, key=key, at=(unit, step))


def _kept(population: Population, records: Sequence[Sequence[int]], unit: int, step: int) -> Unit:
    return tuple(whole(population, record) for record in records[unit])


def _calibrated(spec: PrivacySpec, sampler: PoissonSampler, units: int) -> PrivacySpec:
    """``spec`` with noise multiplier and delta.

    Raises:
        BadInput: too few units, or a delta that allows one unit to be published.
    """
    if units < LEAST_UNITS:
        raise BadInput(f"{units} {spec.unit}", "cannot hide among others", f"Give at least {LEAST_UNITS}.")
    delta = default_delta(units) if spec.delta is None else spec.delta
    if delta >= 1 / units:
        raise BadInput(
            f"delta={delta:g} for {units} {spec.unit}s",
            "is so large that publishing one of them whole would keep the promise",
            f"Give less than {1 / units:.2g}, or leave it out ({default_delta(units):g}).",
        )
    noise = spec.noise_multiplier
    if noise is None:
        mechanism = Mechanism(
            noise_multiplier=1.0,
            rate=sampler.rate,
            owned=sampler.owned,
            black_box=spec.user_sampling == "group",
            relation=spec.relation,
        )
        noise = accounting.calibrate(mechanism, steps=sampler.steps, epsilon=_given(spec.epsilon), delta=delta)
    return replace(spec, epsilon=None, noise_multiplier=noise, delta=delta)


def _units(spec: PrivacySpec, population: Population) -> int:
    return counts(spec, population)[0]


def counts(spec: PrivacySpec, population: Population) -> tuple[int, int]:
    """How many units are protected, and how many are there to draw from."""
    if spec.unit == "record":
        return len(population), len(population)
    of_users = Counter(population.users).values()
    if spec.user_sampling == "user":
        return len(of_users), len(of_users)
    return len(of_users), sum(min(count, spec.records_per_user) for count in of_users)


def _sampled(spec: PrivacySpec) -> str:
    return "users" if spec.unit == "user" and spec.user_sampling == "user" else "records"


def _describe(spec: PrivacySpec) -> str:
    if _sampled(spec) == "users":
        return f"users Poisson-sampled, up to {spec.records_per_user} rows of each averaged, Gaussian mechanism"
    if spec.unit == "record":
        return "Poisson-sampled Gaussian mechanism"
    way = "mixture of Gaussians" if spec.user_sampling == "record" else "Gaussian mechanism and group privacy"
    return f"records Poisson-sampled, at most {spec.records_per_user} of each user, {way}"


def _what_differs(spec: PrivacySpec) -> str:
    """Between neighbouring data sets."""
    what = f"one {spec.unit}" if spec.protect == "all" else f"what the marked spans of one {spec.unit} hold"
    return f"{DONE[spec.relation]} {what}"


def _given(value: float | None) -> float:
    assert value is not None, "a plan holds a calibrated spec"
    return value
