# SPDX-License-Identifier: Apache-2.0
"""TunedPlan: texts of a model that was tuned on the private ones, with a promise or without.

What is sampled from a model that carries a promise costs nothing more. Prompts are another matter: how often records
have each of the public prompts, or are of each length, is private, so these counts get Gaussian noise from a share of
the promise. A unit's counts add up to 1, prompts and lengths counted together, so one unit moves them by at most 1
(L2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.promise_check import PromiseCheck
from reticent.core.synthesis import SynthesisRelease
from reticent.privacy import composition
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.spec import ADD_OR_REMOVE, PrivacySpec
from reticent.synthesis.public_releases import public_releases
from reticent.synthesis.reference_units import ReferenceUnits, units_of
from reticent.synthesis.synthesis_mechanism import SynthesisMaterial, SynthesisOutcome, SynthesisTools
from reticent.synthesis.synthesis_promise import SynthesisPromise, settled_delta
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.synthesis.text_lengths import behind_cells
from reticent.synthesis.vote_cost import vote_noise

AT_ONCE = 64
"""Texts of one step."""
COUNTED = {"prompt": "prompts", "length": "lengths", "prompt_length": "prompts and lengths"}
BY = {"prompt": "prompt", "length": "length", "prompt_length": "prompt and length"}
"""Words for what is counted, by condition."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedPlan:
    """Tuning and sampling, settled.

    Args:
        material: records, settings, key.
        members: the units that are protected.
        privacy: of the training; an empty one where nothing is promised.
        delta: chance that the promise may fail; 0 where nothing is promised.
        noise: standard deviation of the noise on counts; 0 where none are made or nothing is promised.
    """

    material: SynthesisMaterial
    members: ReferenceUnits
    privacy: PrivacySpec
    delta: float
    noise: float

    @property
    def units(self) -> int:
        return len(self.members)

    @property
    def conditioned(self) -> bool:
        """True if texts are written after public prompts, as often as noisy counts say."""
        return self.material.spec.condition != "none"

    @property
    def steps(self) -> int:
        return -(-self.material.spec.count // AT_ONCE) + self.conditioned

    @property
    def about(self) -> Mapping[str, Any]:
        spec = self.material.spec
        return {
            "mechanism": spec.mechanism,
            "unit": spec.unit,
            "relation": spec.relation,
            "units": self.units,
            "noise": self.noise,
            "texts": spec.count,
            "delta": self.delta,
        }

    def write(self, tools: SynthesisTools) -> SynthesisOutcome:
        from reticent.synthesis.public_writing import PublicWriter

        spec, first = self.material.spec, int(self.conditioned)
        prompts = [""] * spec.count
        if not tools.store.spent:  # a private training is spent, too: what could never be written is refused before
            PublicWriter(loaded=tools.load(), spec=spec, key=self.material.key).refuse_no_room(spec.cells)
        if self.conditioned:
            counts = [float(line) for line in tools.store.step(0, self._counts)]
            prompts = shared_out(counts, spec.cells, count=spec.count)
        folder, guarantee = tools.tune(self.privacy, self.material.records)
        if self.privacy.is_private and guarantee is None:
            raise BadInput(str(folder), "carries no promise", "Start over in another folder (--out).")
        writer: list[PublicWriter] = []

        def sampled(number: int) -> list[str]:
            if not writer:
                writer.append(PublicWriter(loaded=tools.load_tuned(folder), spec=spec, key=self.material.key))
            some = prompts[number * AT_ONCE : (number + 1) * AT_ONCE]
            return writer[0].fresh(some, purpose=f"texts {number}")

        texts: list[str] = []
        for number in range(self.steps - first):
            texts += tools.store.step(number + first, lambda number=number: sampled(number))  # type: ignore[misc]
            tools.advance(len(texts))
        promise = None if guarantee is None else self.promise(guarantee)
        return SynthesisOutcome(
            texts=tuple(texts),
            promise=promise,
            releases=self._releases(),
            checks=self._checks(guarantee),
            topics=tuple(prompts) if self.conditioned else (),
        )

    def promise(self, guarantee: PrivacyGuarantee) -> SynthesisPromise:
        """The promise of all texts together, by the promise of the training and of the counts."""
        training = Mechanism(
            noise_multiplier=guarantee.noise_multiplier,
            rate=guarantee.rate,
            owned=guarantee.owned,
            black_box=guarantee.black_box,
            relation=guarantee.relation,
        )
        epsilon, counted = guarantee.epsilon, guarantee.mechanism
        if self.noise:
            counts = Mechanism(noise_multiplier=self.noise, rate=1.0)
            parts = (
                composition.Part(mechanism=training, steps=guarantee.steps),
                composition.Part(mechanism=counts, steps=1),
            )
            epsilon = composition.total(parts, delta=self.delta).epsilon
            counted += (
                f"; Gaussian mechanism on counts of {COUNTED[self.material.spec.condition]}, noise {self.noise:.3g}"
            )
        return SynthesisPromise(
            epsilon=epsilon,
            delta=self.delta,
            unit=guarantee.unit,
            relation=guarantee.relation,
            units=self.units,
            mechanism=f"{counted}; σ = {guarantee.noise_multiplier:.3g}, rate {guarantee.rate:.3g}, {guarantee.steps} "
            "steps; texts are sampled from the model",
            accountant="counted by privacy loss distributions",
        )

    def _counts(self) -> list[str]:
        """Noisy counts of the prompts, as texts of a step."""
        from reticent.synthesis.nearest_votes import VoteWatch, histogram, noised

        prompts = self.material.spec.cells
        place_of = {prompt: place for place, prompt in enumerate(prompts)}
        votes = np.array(
            [place_of.get((record.prompt or "").strip(), len(prompts)) for record in self.material.records]
        )

        def count(units: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
            return histogram(votes, units, candidates=len(prompts) + 1)[:-1]

        before = count(self.members.records)
        if not self.privacy.is_private:
            return [repr(float(value)) for value in before]
        after = noised(before, std=self.noise, key=self.material.key, round_number=0)
        watch = VoteWatch(std=self.noise, rounds=1, key=self.material.key)
        watch.sensitivity(count, self.members.records)
        watch.noise(0, before, after)
        return [repr(float(value)) for value in after]

    def _checks(self, guarantee: PrivacyGuarantee | None) -> tuple[PromiseCheck, ...]:
        if guarantee is None:
            return ()
        return (PromiseCheck(name="the training keeps its own promise", bound="its self-check", passed=True),)

    def _releases(self) -> tuple[SynthesisRelease, ...]:
        spec, private = self.material.spec, self.privacy.is_private
        covered = (
            "by the promise of the training: sampling costs nothing more"
            if private
            else "by nothing: no promise was made"
        )
        counts = "by noise, from a share of the promise" if private else "by nothing: they are the true counts"
        return (
            SynthesisRelease(what="the tuned model, and all texts that it writes", covered=covered),
            *(
                [SynthesisRelease(what=f"how many records there are by {BY[spec.condition]}", covered=counts)]
                if self.conditioned
                else []
            ),
            *public_releases(spec.unit, topics=bool(spec.topics)),
        )


def shared_out(counts: Sequence[float], prompts: Sequence[str], *, count: int) -> list[str]:
    """``count`` prompts in their order, as often as their counts say; counts below 0 are 0, and where all are, the
    prompts take equal shares.

    >>> shared_out([3.0, -1.0, 1.0], ["a", "b", "c"], count=4)
    ['a', 'a', 'a', 'c']
    """
    weights = np.maximum(np.asarray(counts, dtype=np.float64), 0.0)
    if weights.sum() == 0:
        weights = np.ones(len(prompts))
    rising = np.cumsum(weights) / weights.sum()
    places = np.searchsorted(rising, (np.arange(count) + 0.5) / count, side="right")
    return [prompts[min(place, len(prompts) - 1)] for place in places.tolist()]


def settled_tuning(material: SynthesisMaterial, *, private: bool) -> TunedPlan:
    """The plan that ``material`` asks for.

    Args:
        material: records, settings, key.
        private: whether it is promised to them.

    Raises:
        BadInput: records that a prompt is needed for and that none is known of, or the other way; a relation that
            counts cannot be added up under.
    """
    spec = material.spec
    _check_shapes(material, spec)
    material = replace(material, records=behind_cells(material.records, spec))
    members = units_of(material.records, unit=spec.unit if private else "record", most=spec.records_per_user,
                       key=material.key)  # fmt: skip
    if not private:
        return TunedPlan(material=material, members=members, privacy=PrivacySpec(), delta=0.0, noise=0.0)
    assert spec.epsilon is not None, "a mechanism with a promise is checked before"
    delta = settled_delta(spec.delta, len(members))
    counted = spec.condition != "none"
    if counted and spec.relation != ADD_OR_REMOVE:
        raise BadInput(
            f"relation={spec.relation!r} with condition={spec.condition!r}",
            "counts and training are added up for units that come or go",
            "Leave --relation or --condition out.",
        )
    noise, epsilon, of_training = 0.0, spec.epsilon, delta
    if counted:
        # Each at half of δ, so that both together keep the promise; added up closer in the end.
        of_training = delta / 2
        share = spec.epsilon * spec.count_share
        noise = vote_noise(share, rounds=1, relation=spec.relation, delta=of_training)
        epsilon = spec.epsilon * (1 - spec.count_share)
    privacy = PrivacySpec(
        epsilon=epsilon,
        delta=of_training,
        unit=spec.unit,
        relation=spec.relation,
        records_per_user=spec.records_per_user if spec.unit == "user" else PrivacySpec().records_per_user,
    )
    return TunedPlan(material=material, members=members, privacy=privacy, delta=delta, noise=noise)


def _check_shapes(material: SynthesisMaterial, spec: SynthesisSpec) -> None:
    """Refuse records that the tuned model cannot be asked for."""
    if any(record.messages is not None for record in material.records):
        raise BadInput(
            "chats",
            "are learned turn by turn, and nothing public is known to begin one with",
            "Give plain texts, or prompts with completions.",
        )
    prompted = sum(record.prompt is not None for record in material.records)
    if not spec.by_prompt and prompted:
        raise BadInput(
            f"{prompted} of {len(material.records)} records",
            "have prompts, and the model learns to write after these only",
            "List all prompts that may be known (--topics) and give --condition prompt or prompt_length, or give plain "
            "texts.",
        )
    if spec.by_prompt and (not spec.topics or prompted < len(material.records)):
        raise BadInput(
            f"condition={spec.condition!r}",
            "needs a prompt in each record, and the list of prompts that may be known",
            "Name the fields (--prompt_field, --completion_field) and give --topics.",
        )
