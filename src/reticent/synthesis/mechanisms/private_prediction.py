# SPDX-License-Identifier: Apache-2.0
"""Private prediction: no training, each text follows the clipped logits of a batch of private references.

Paper: InvisibleInk, NeurIPS 2025, arXiv:2507.02974. See `clipped_prediction` for a token and `concentrated` for ε.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from reticent.core.synthesis import SynthesisRelease
from reticent.synthesis import concentrated
from reticent.synthesis.public_releases import public_releases
from reticent.synthesis.reference_units import Batches, ReferenceUnits, batches_of, refuse_reuse, units_of
from reticent.synthesis.synthesis_mechanism import SynthesisMaterial, SynthesisOutcome, SynthesisTools, mechanism
from reticent.synthesis.synthesis_promise import SynthesisPromise, settled_delta

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel
    from reticent.synthesis.predicted_text import PendingText
    from reticent.synthesis.reference_prompts import ReferencePrompts

ROWS = 64
"""About so many prompts are read together; a fixed number, so that a step is the same whoever makes it again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionPlan:
    """Private prediction, settled.

    Args:
        material: records, settings, key.
        members: the units that are protected.
        batches: the units behind each text.
        delta: chance that the promise may fail.
        clip: C.
    """

    material: SynthesisMaterial
    members: ReferenceUnits
    batches: Batches
    delta: float
    clip: float

    @property
    def units(self) -> int:
        return len(self.members)

    @property
    def at_once(self) -> int:
        """Texts of one step."""
        return max(1, ROWS // (1 + self.material.spec.references))

    @property
    def steps(self) -> int:
        return -(-self.material.spec.count // self.at_once)

    @property
    def rho(self) -> float:
        """zCDP of a text of the most tokens, which is what a unit pays."""
        spec = self.material.spec
        token = concentrated.rho_of_token(
            clip=self.clip, references=spec.references, temperature=spec.temperature, relation=spec.relation
        )
        return spec.max_new_tokens * token

    @property
    def about(self) -> Mapping[str, Any]:
        spec = self.material.spec
        return {
            "mechanism": "private_prediction",
            "unit": spec.unit,
            "relation": spec.relation,
            "units": self.units,
            "clip": self.clip,
            "references": spec.references,
            "temperature": spec.temperature,
            "tokens": spec.max_new_tokens,
            "texts": spec.count,
            "rho": self.rho,
            "delta": self.delta,
        }

    @cached_property
    def promise(self) -> SynthesisPromise:
        """The promise of all texts together."""
        spec = self.material.spec
        return SynthesisPromise(
            epsilon=concentrated.epsilon_of_rho(self.rho, self.delta),
            delta=self.delta,
            unit=spec.unit,
            relation=spec.relation,
            units=self.units,
            rho=self.rho,
            mechanism=f"exponential mechanism on clipped differences of logits: C = {self.clip:.3g} nats, "
            f"B = {spec.references}, temperature {spec.temperature:g}, at most {spec.max_new_tokens} tokens a text; "
            f"each {spec.unit} is behind one text at most",
            accountant=f"ρ = {self.rho:.3g}, counted by zero-concentrated differential privacy",
        )

    def write(self, tools: SynthesisTools) -> SynthesisOutcome:
        from reticent.models.encode import opening_tokens
        from reticent.score.forward import most_read
        from reticent.score.generation.generate import stop_tokens
        from reticent.synthesis.predicted_text import PredictionSettings, logits_after, write_texts
        from reticent.synthesis.prediction_check import PredictionWatch
        from reticent.synthesis.prefix_decoder import open_prompts
        from reticent.synthesis.reference_prompts import prompts_of

        spec, loaded = self.material.spec, tools.load()
        prompts = prompts_of(self.material.records, spec, loaded.tokenizer, context=most_read(loaded.model))
        settings = PredictionSettings(
            clip=self.clip,
            references=spec.references,
            temperature=spec.temperature,
            tokens=spec.max_new_tokens,
            top_k=spec.top_k,
            ends=stop_tokens(loaded.model, loaded.tokenizer),
            key=self.material.key,
        )
        watch = PredictionWatch(
            clip=self.clip,
            references=spec.references,
            tokens=spec.max_new_tokens,
            top_k=spec.top_k,
            alone=cache(lambda words: logits_after(loaded.model, opening_tokens(f"{words}\n", loaded.tokenizer))),
        )
        refuse_reuse(self.batches)
        decoder = open_prompts(
            loaded.model,
            shared=prompts.shared,
            width=prompts.width,
            longest=prompts.longest + spec.max_new_tokens,
        )

        def step(number: int) -> list[str]:
            pending = self._pending(number, prompts, watch)
            write_texts(decoder, pending, settings, watch)
            return [_as_text(loaded, text) for text in pending]

        texts: list[str] = []
        for number in range(self.steps):
            texts += tools.store.step(number, lambda number=number: step(number))  # type: ignore[misc]
            tools.advance(len(texts))
        return SynthesisOutcome(
            texts=tuple(texts),
            promise=self.promise,
            releases=self._releases(),
            checks=watch.items(),
            topics=spec.all_topics,
        )

    def _pending(self, step: int, prompts: ReferencePrompts, watch: Any) -> list[PendingText]:
        from reticent.synthesis.predicted_text import PendingText

        spec, pending = self.material.spec, []
        for text in range(step * self.at_once, min((step + 1) * self.at_once, spec.count)):
            batch, prompt = self.batches[text], spec.prompt(text)
            watch.batch(text, batch)
            behind = [(place, record) for place, unit in enumerate(batch) for record in self.members.records[unit]]
            pending.append(
                PendingText(
                    number=text,
                    words=prompt,
                    public=prompts.without(prompt),
                    private=tuple(prompts.holding(prompt, record) for _, record in behind),
                    owner=tuple(place for place, _ in behind),
                    units=len(batch),
                )
            )
        return pending

    def _releases(self) -> tuple[SynthesisRelease, ...]:
        unit = self.material.spec.unit
        return (
            SynthesisRelease(
                what="the tokens of all texts, and where each ends",
                covered=f"by the promise: each {unit} is behind one text, of which the most tokens are counted",
            ),
            *public_releases(unit, topics=bool(self.material.spec.topics)),
            SynthesisRelease(
                what=f"the choice of the {unit}s behind each text",
                covered="it is drawn by a secret key, looks at no text and is not told",
            ),
        )


def _as_text(loaded: LoadedModel, text: PendingText) -> str:
    return str(loaded.tokenizer.decode(text.token_id, skip_special_tokens=True))


@mechanism(
    "private_prediction",
    private="the choice of each token, among logits to which every unit adds a clipped difference",
    paper="arXiv:2507.02974",
    units=("record", "user"),
)
def private_prediction(material: SynthesisMaterial) -> PredictionPlan:
    """A public model writes; a batch of private references for each text bends its logits by a bounded difference.

    Raises:
        BadInput: too few units, with the number that would do; a δ that is too large.
    """
    spec = material.spec
    assert spec.epsilon is not None, "a mechanism with a promise is checked before"
    members = units_of(material.records, unit=spec.unit, most=spec.records_per_user, key=material.key)
    batches = batches_of(
        members, texts=spec.count, references=spec.references, relation=spec.relation, key=material.key
    )
    delta = settled_delta(spec.delta, len(members))
    rho = concentrated.rho_for(spec.epsilon, delta) / spec.max_new_tokens
    clip = concentrated.clip_for(rho, references=spec.references, temperature=spec.temperature, relation=spec.relation)
    return PredictionPlan(material=material, members=members, batches=batches, delta=delta, clip=clip)
