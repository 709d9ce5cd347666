# SPDX-License-Identifier: Apache-2.0
"""Private evolution: a public model writes, private texts vote for what is nearest to them, the winners are varied.

Paper: Aug-PE, ICML 2024, arXiv:2403.01749. See `nearest_votes` for a vote and what one unit can move in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.synthesis import SynthesisRelease
from reticent.privacy.plan import default_delta
from reticent.synthesis.public_releases import public_releases
from reticent.synthesis.reference_units import ReferenceUnits, units_of
from reticent.synthesis.synthesis_mechanism import SynthesisMaterial, SynthesisOutcome, SynthesisTools, mechanism
from reticent.synthesis.synthesis_promise import SynthesisPromise, settled_delta
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.synthesis.vote_cost import vote_epsilon, vote_noise, vote_rho

if TYPE_CHECKING:
    from reticent.synthesis.nearest_votes import VoteWatch
    from reticent.synthesis.public_writing import PublicWriter

Floats = npt.NDArray[np.float64]


class Draft(NamedTuple):
    """A public text, and the number by which its topic is found."""

    turn: int
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class EvolutionPlan:
    """Private evolution, settled.

    Args:
        material: records, settings, key.
        members: the units that are protected.
        delta: chance that the promise may fail.
        noise: standard deviation of the noise on each vote count.
    """

    material: SynthesisMaterial
    members: ReferenceUnits
    delta: float
    noise: float

    @property
    def units(self) -> int:
        return len(self.members)

    @property
    def steps(self) -> int:
        return self.material.spec.rounds

    @property
    def about(self) -> Mapping[str, Any]:
        spec = self.material.spec
        return {
            "mechanism": "private_evolution",
            "unit": spec.unit,
            "relation": spec.relation,
            "units": self.units,
            "noise": self.noise,
            "rounds": spec.rounds,
            "texts": spec.count,
            "delta": self.delta,
        }

    @cached_property
    def promise(self) -> SynthesisPromise:
        """The promise of all rounds together."""
        spec = self.material.spec
        return SynthesisPromise(
            epsilon=vote_epsilon(self.noise, rounds=spec.rounds, relation=spec.relation, delta=self.delta),
            delta=self.delta,
            unit=spec.unit,
            relation=spec.relation,
            units=self.units,
            rho=vote_rho(self.noise, rounds=spec.rounds, relation=spec.relation),
            mechanism=f"Gaussian mechanism on a histogram of nearest neighbours, noise {self.noise:.3g} on each count, "
            f"to which a {spec.unit} adds at most 1 (L2) in all; {spec.rounds} rounds",
            accountant="counted by Gaussian differential privacy",
        )

    def write(self, tools: SynthesisTools) -> SynthesisOutcome:
        from reticent.synthesis.nearest_votes import VoteWatch
        from reticent.synthesis.public_writing import PublicWriter
        from reticent.synthesis.text_embedding import embedded

        spec, loaded, key = self.material.spec, tools.load(), self.material.key
        writer = PublicWriter(loaded=loaded, spec=spec, key=key)
        if not tools.store.spent:  # what was begun can be gone on with
            writer.refuse_no_room([f"{spec.prompt(turn)}\n" for turn in self._turns], read=spec.reference_tokens)
        watch = VoteWatch(std=self.noise, rounds=spec.rounds, key=key)
        private: list[Floats] = []

        def votes(number: int, candidates: Sequence[Draft]) -> list[Draft]:
            if not private:  # read once, and not at all where every round is on record
                private.append(embedded(loaded.model, self._texts(writer), blank=writer.blank))
            theirs = embedded(loaded.model, [writer.tokens(draft.text) for draft in candidates], blank=writer.blank)
            return self._winners(number, private[0], theirs, candidates, watch)

        drafts: list[Draft] = []
        for number in range(spec.rounds):

            def step(number: int = number, before: Sequence[Draft] = tuple(drafts)) -> list[str]:
                return [json.dumps(draft) for draft in votes(number, candidates_of(writer, number, before))]

            drafts = [Draft(*json.loads(line)) for line in tools.store.step(number, step)]
        drafts = without_repeats(writer, drafts, purpose="the end")
        tools.advance(len(drafts))
        return SynthesisOutcome(
            texts=tuple(draft.text for draft in drafts),
            promise=self.promise,
            releases=self._releases(),
            checks=watch.items(),
            topics=tuple(spec.topic(draft.turn) for draft in drafts) if spec.topics else (),
        )

    @property
    def _turns(self) -> range:
        """Numbers of texts with all prompts that there are."""
        return range(max(1, len(self.material.spec.topic_list)))

    def _texts(self, writer: PublicWriter) -> list[list[int]]:
        """Token ids of the private texts."""
        spec, records = self.material.spec, self.material.records
        encoded = [writer.tokens(record.plain) for record in records]
        long = [len(tokens) for tokens in encoded if len(tokens) > spec.reference_tokens]
        if long and spec.long_texts == "refuse":
            raise BadInput(
                f"{len(long)} of {len(records)} private texts",
                f"are longer than the {spec.reference_tokens} tokens that are read, the longest of {max(long)}",
                "Raise --reference_tokens as far as the model's context allows, or give --long_texts cut.",
            )
        return [tokens[: spec.reference_tokens] for tokens in encoded]

    def _winners(
        self, number: int, private: Floats, theirs: Floats, candidates: Sequence[Draft], watch: VoteWatch
    ) -> list[Draft]:
        from reticent.synthesis.nearest_votes import histogram, kept, nearest, noised

        spec, key = self.material.spec, self.material.key
        votes = nearest(private, theirs)

        def count(units: Sequence[Sequence[int]]) -> Floats:
            return histogram(votes, units, candidates=len(candidates))

        watch.sensitivity(count, self.members.records)
        before = count(self.members.records)
        after = noised(before, std=self.noise, key=key, round_number=number)
        watch.noise(number, before, after)
        least = spec.vote_threshold * self.noise
        chosen = kept(after, count=spec.count, least=least, key=key, round_number=number)
        return [candidates[place] for place in chosen.tolist()]

    def _releases(self) -> tuple[SynthesisRelease, ...]:
        unit = self.material.spec.unit
        return (
            SynthesisRelease(
                what="which texts are kept in each round",
                covered="by the promise: it follows from the noisy votes alone, and all rounds are counted",
            ),
            SynthesisRelease(
                what="all texts and their variations",
                covered="the public model wrote them after public words and texts that were kept; it read no private "
                "text while it wrote",
            ),
            *public_releases(unit, topics=bool(self.material.spec.topics)),
        )


def candidates_of(writer: PublicWriter, number: int, before: Sequence[Draft]) -> list[Draft]:
    """The texts to vote on: fresh ones in the first round, then those that were kept and variations of them."""
    spec = writer.spec
    if number == 0:
        turns = range(spec.count * spec.variants)
        fresh = writer.fresh([f"{spec.prompt(turn)}\n" for turn in turns], purpose="round 0")
        return [Draft(turn, text) for turn, text in zip(turns, fresh, strict=True)]
    parents = [draft for draft in before for _ in range(spec.variants)]
    return without_repeats(writer, parents, purpose=f"round {number}")


def without_repeats(writer: PublicWriter, drafts: Sequence[Draft], *, purpose: str) -> list[Draft]:
    """``drafts``; in place of those whose text came before, variations of it."""
    prompts = [f"{writer.spec.prompt(draft.turn)}\n" for draft in drafts]
    varied = writer.variations([draft.text for draft in drafts], prompts, purpose=purpose)
    seen: set[str] = set()
    different = []
    for draft, other in zip(drafts, varied, strict=True):
        different.append(draft._replace(text=other) if draft.text in seen else draft)
        seen.add(draft.text)
    return different


def _noise(spec: SynthesisSpec, delta: float) -> float:
    assert spec.epsilon is not None, "a mechanism with a promise is checked before"
    return vote_noise(spec.epsilon, rounds=spec.rounds, relation=spec.relation, delta=delta)


@mechanism(
    "private_evolution",
    private="a histogram of which public texts private ones are nearest to, in each round",
    paper="arXiv:2403.01749",
    units=("record", "user"),
)
def private_evolution(material: SynthesisMaterial) -> EvolutionPlan:
    """A public model writes and varies texts; private texts vote, under noise, for those that are nearest to them.

    Raises:
        BadInput: so few units that noise is larger than all votes together, with the number that would do; a δ that is
            too large.
    """
    spec = material.spec
    members = units_of(material.records, unit=spec.unit, most=spec.records_per_user, key=material.key)
    delta = settled_delta(spec.delta, len(members))
    noise = _noise(spec, delta)
    if noise >= len(members):
        enough = len(members)
        while (needed := _noise(spec, spec.delta or default_delta(enough))) >= enough:
            enough = max(enough + 1, math.ceil(needed))
        raise BadInput(
            f"epsilon={spec.epsilon:g} for {len(members)} {spec.unit}s and {spec.rounds} rounds",
            f"needs noise of {noise:.3g} on each count, more than all votes together",
            f"Give {enough} {spec.unit}s or more, fewer --rounds or a larger --epsilon.",
        )
    return EvolutionPlan(material=material, members=members, delta=delta, noise=noise)
