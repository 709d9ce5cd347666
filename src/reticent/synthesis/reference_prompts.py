# SPDX-License-Identifier: Apache-2.0
"""ReferencePrompts: what the model reads before it writes, with a private text in it and without.

Both begin with the public words. With a reference, it stands behind them, and the public words come again:

    A text that a person wrote:          A text that a person wrote:
    ▮                                    (the private text)

                                         A text that a person wrote:
                                         ▮
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.encode import opening_tokens
from reticent.synthesis.synthesis_spec import SynthesisSpec

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferencePrompts:
    """The prompts of all texts.

    Args:
        public: for each public prompt its token ids, by its words.
        again: for each public prompt the token ids behind a reference.
        references: token ids of the private records, none longer than ``most``.
        most: tokens of a reference that are read.
    """

    public: dict[str, Tokens]
    again: dict[str, Tokens]
    references: tuple[Tokens, ...] = field(repr=False)
    most: int

    @property
    def shared(self) -> Tokens:
        """The tokens that all prompts of all texts begin with; leaves at least one token of each public prompt."""
        prompts = list(self.public.values())
        length = min(map(len, prompts)) - 1
        while length and any(not np.array_equal(prompt[:length], prompts[0][:length]) for prompt in prompts):
            length -= 1
        return prompts[0][:length]

    @property
    def width(self) -> int:
        """The most tokens of a prompt behind what is shared; follows from public numbers."""
        return self.longest - len(self.shared)

    @property
    def longest(self) -> int:
        """The most tokens of a prompt; follows from public numbers."""
        return self.most + max(len(self.public[words]) + len(self.again[words]) for words in self.public)

    def without(self, words: str) -> Tokens:
        """The prompt with no private text in it."""
        return self.public[words]

    def holding(self, words: str, record: int) -> Tokens:
        """The prompt with that private record in it."""
        return np.concatenate([self.public[words], self.references[record], self.again[words]])


def prompts_of(
    records: Sequence[Record], spec: SynthesisSpec, tokenizer: Any, *, context: int | None
) -> ReferencePrompts:
    """The prompts for all texts that ``spec`` asks for.

    Args:
        records: private.
        spec: settings.
        tokenizer: of the model.
        context: tokens that the model reads; None for any number.

    Raises:
        BadInput: private texts that are longer than is to be read, or prompts that leave no room for a text.
    """
    words = list(dict.fromkeys(spec.prompt(text) for text in range(min(spec.count, max(len(spec.topic_list), 1)))))
    public = {prompt: np.asarray(opening_tokens(f"{prompt}\n", tokenizer), dtype=np.int64) for prompt in words}
    again = {prompt: _inner(f"\n\n{prompt}\n", tokenizer) for prompt in words}
    encoded = [_inner(record.plain, tokenizer) for record in records]
    long = [len(tokens) for tokens in encoded if len(tokens) > spec.reference_tokens]
    if long and spec.long_texts == "refuse":
        raise BadInput(
            f"{len(long)} of {len(records)} private texts",
            f"are longer than the {spec.reference_tokens} tokens that are read, the longest of {max(long)}",
            "Raise --reference_tokens as far as the model's context allows, or give --long_texts cut.",
        )
    prompts = ReferencePrompts(
        public=public,
        again=again,
        references=tuple(tokens[: spec.reference_tokens] for tokens in encoded),
        most=spec.reference_tokens,
    )
    if context is not None and prompts.longest + spec.max_new_tokens > context:
        raise BadInput(
            f"reference_tokens={spec.reference_tokens} with max_new_tokens={spec.max_new_tokens}",
            f"come to {prompts.longest + spec.max_new_tokens} tokens with the words around them, and the model reads "
            f"{context}",
            "Lower them.",
        )
    return prompts


def _inner(text: str, tokenizer: Any) -> Tokens:
    """Token ids of a text that stands within another: nothing is put around it."""
    return np.asarray(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int64)
