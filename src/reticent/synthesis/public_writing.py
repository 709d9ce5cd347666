# SPDX-License-Identifier: Apache-2.0
"""Texts that a model writes with no private text before it: from a prompt, or from the beginning of another text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reticent.core.errors import BadInput
from reticent.models.encode import opening_tokens
from reticent.privacy.sampling import words
from reticent.score.forward import most_read
from reticent.score.generation.generate import generate
from reticent.score.generation.scheme import Scheme
from reticent.synthesis.synthesis_spec import SynthesisSpec

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel

LEAST_KEPT, MOST_KEPT = 0.25, 0.75
"""Share of a text's tokens that a variation of it begins with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PublicWriter:
    """Writes texts by a model, as a function of what it is asked and of a key.

    Args:
        loaded: the model.
        spec: how tokens are chosen, and how many.
        key: 32 bytes that coins follow from.
    """

    loaded: LoadedModel
    spec: SynthesisSpec
    key: bytes

    def refuse_no_room(self, prompts: Sequence[str], *, read: int = 0) -> None:
        """Refuse texts for which the model's context has no room, by public numbers and before anything is spent.

        Args:
            prompts: public words before texts.
            read: the most tokens of a text that is only read.

        Raises:
            BadInput: they would be longer than the model reads.
        """
        context, spec = most_read(self.loaded.model), self.spec
        if context is None:
            return
        starts = [opening_tokens(prompt, self.loaded.tokenizer) for prompt in set(prompts)]
        before = max(len(start or self.start) for start in starts or [[]])
        if before + spec.max_new_tokens > context:
            raise BadInput(
                f"max_new_tokens={spec.max_new_tokens}",
                f"come to {before + spec.max_new_tokens} tokens with the words before them, and the model reads "
                f"{context}",
                "Lower it.",
            )
        if read > context:
            raise BadInput(
                f"reference_tokens={read}", f"is more than the {context} tokens that the model reads", "Lower it."
            )

    @property
    def blank(self) -> int:
        """A token for a text of none."""
        tokenizer = self.loaded.tokenizer
        marks = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        return next((int(token) for token in marks if token is not None), 0)

    def fresh(self, prompts: Sequence[str], *, purpose: str) -> list[str]:
        """One text after each prompt; an empty prompt is the beginning of a text.

        Args:
            prompts: public words.
            purpose: other coins for another one.
        """
        tokenizer = self.loaded.tokenizer
        starts = [opening_tokens(prompt, tokenizer) if prompt else [] for prompt in prompts]
        rows = [start or self.start for start in starts]
        return self._written(rows, [self.spec.max_new_tokens] * len(rows), purpose)

    @property
    def start(self) -> list[int]:
        """Token ids that a text without any words before it begins with."""
        return opening_tokens("", self.loaded.tokenizer) or [self.blank]

    def variations(self, texts: Sequence[str], prompts: Sequence[str], *, purpose: str) -> list[str]:
        """For each text another one with the same beginning, of a length that chance decides.

        Args:
            texts: to begin with.
            prompts: the words before each.
            purpose: other coins for another one.
        """
        tokenizer, rows, limits, begun = self.loaded.tokenizer, [], [], []
        for number, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
            tokens = [int(token) for token in tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]
            chance = (int(words(self.key, "variation", purpose, number, count=1)[0]) >> 11) * 2.0**-53
            share = LEAST_KEPT + (MOST_KEPT - LEAST_KEPT) * chance
            beginning = tokens[: min(int(share * len(tokens)), self.spec.max_new_tokens - 1)]
            begun.append(str(tokenizer.decode(beginning, skip_special_tokens=True)))
            rows.append([*opening_tokens(prompt, tokenizer), *beginning])
            limits.append(self.spec.max_new_tokens - len(beginning))
        ends = self._written(rows, limits, purpose)
        return [beginning + end for beginning, end in zip(begun, ends, strict=True)]

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text by itself."""
        encoded = self.loaded.tokenizer(text, add_special_tokens=False, verbose=False)
        return [int(token) for token in encoded["input_ids"]]

    def _written(self, rows: Sequence[Sequence[int]], limits: Sequence[int], purpose: str) -> list[str]:
        if not rows:
            return []
        seed = int.from_bytes(hashlib.sha256(self.key + b"\0written\0" + purpose.encode()).digest()[:4], "little")
        scheme = Scheme(temperature=self.spec.temperature, top_k=self.spec.top_k)
        written = generate(
            self.loaded.model, self.loaded.tokenizer, rows, max_new_tokens=limits, scheme=scheme, seed=seed
        )
        return written.texts(self.loaded.tokenizer)
