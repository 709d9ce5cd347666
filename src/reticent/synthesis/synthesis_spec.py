# SPDX-License-Identifier: Apache-2.0
"""SynthesisSpec: which synthetic text is made, by which mechanism, and what is promised. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.privacy.spec import ADD_OR_REMOVE, CLIENT, RELATIONS, UNITS

INSTRUCTION = "A text that a person wrote:"
MOST_TEXTS = 1_000_000
MOST_EPSILON = 1e6
"""Beyond it nothing is promised, and its accounting leaves what numbers can hold."""
COLDEST, HOTTEST = 1e-3, 1e3
"""Temperatures between which tokens are drawn: all but surely the first, or all but alike."""
TOPIC = "{topic}"
CONDITIONS = ("none", "prompt", "length", "prompt_length")
LONG = ("refuse", "cut")


@dataclass(frozen=True, kw_only=True)
class SynthesisSpec:
    """Settings of synthetic text.

    Args:
        mechanism: private_prediction, private_evolution, dp_tune, or none, which promises nothing.
        epsilon: the promise, as small as is needed. All mechanisms need it but none, which refuses it.
        delta: chance that the promise may fail; left out, a tenth of 1 / units, rounded down to a power of ten.
        unit: whose traces are hidden, "record" or "user".
        relation: what the data sets differ by that cannot be told apart: "add_or_remove" a unit, "zero_out" (it stays
            and adds nothing, so that batches have one size), or "replace_one".
        count: how many texts are made; known to all.
        instruction: the words before each text, known to all: nothing of the data may be in it. {topic} stands for a
            topic.
        topics: separated by commas, known to all: text after text is about one of them in turn.
        max_new_tokens: the most tokens of a text.
        temperature: of the choice of tokens.
        top_k: tokens are chosen among so many, by the public logits, and those that the clip bound lets into them.
        references: private_prediction: private units behind each text.
        records_per_user: how many records of a user count, chosen by chance; each counts as a share of the user.
        reference_tokens: private_prediction: tokens of a private text that are read.
        long_texts: "refuse" private texts that are longer than reference_tokens, or "cut" them.
        rounds: private_evolution: how often the private texts vote.
        variants: private_evolution: texts to vote on, for each that is kept.
        vote_threshold: private_evolution: noisy votes below it, in standard deviations of the noise, count as none.
        hold_out: throw coins as reticent tune does, and read only who came up, so that the texts can be audited; about
            half of the units are left. dp_tune and none always do.
        condition: dp_tune: "prompt" makes texts after each of the topics, as often as records have that prompt, counted
            under the promise; "length" asks for texts of each class of lengths, likewise; "prompt_length" for both.
        lengths: with "length": borders of the classes in words, rising, known to all; longer texts are one more class.
        count_share: dp_tune: share of epsilon that goes to these counts.

    Raises:
        BadInput: out of range, an empty topic, no promise asked for or one that the mechanism cannot make.

    Examples:
        >>> spec = SynthesisSpec(epsilon=8.0, topics="parcels, refunds", instruction="A mail about {topic}:")
        >>> spec.topic_list, spec.prompt(1)
        (('parcels', 'refunds'), 'A mail about refunds:')
    """

    mechanism: str = "private_prediction"
    epsilon: float | None = None
    delta: float | None = None
    unit: str = "record"
    relation: str = ADD_OR_REMOVE
    count: int = 100
    instruction: str = INSTRUCTION
    topics: str = ""
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_k: int = 100
    references: int = 8
    records_per_user: int = 4
    reference_tokens: int = 128
    long_texts: str = "refuse"
    rounds: int = 5
    variants: int = 3
    vote_threshold: float = 2.0
    hold_out: bool = False
    condition: str = "none"
    lengths: str = "16,32,64"
    count_share: float = 0.1

    def __post_init__(self) -> None:
        self._check_promise()
        validate.positive(
            count=self.count,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            references=self.references,
            records_per_user=self.records_per_user,
            reference_tokens=self.reference_tokens,
            rounds=self.rounds,
            variants=self.variants,
        )
        validate.in_range(COLDEST, HOTTEST, temperature=self.temperature)
        validate.at_most(MOST_TEXTS, count=self.count, references=self.references)
        validate.non_negative(vote_threshold=self.vote_threshold)
        validate.one_of(LONG, long_texts=self.long_texts)
        validate.one_of(CONDITIONS, condition=self.condition)
        validate.in_range(0, 1, count_share=self.count_share)
        if self.count_share == 1:
            raise BadInput("count_share=1", "leaves nothing to train with", "Give 0.1.")
        self._check_words()
        if self.by_length:
            _ = self.borders

    def _check_promise(self) -> None:
        if self.unit == CLIENT:
            raise BadInput(f"unit={CLIENT!r}", "is what a federation promises to", "Give --unit user.")
        validate.one_of(UNITS, unit=self.unit)
        validate.one_of(RELATIONS, relation=self.relation)
        if self.epsilon is not None:
            validate.positive(epsilon=self.epsilon)
            validate.in_range(0, MOST_EPSILON, epsilon=self.epsilon)
        if self.delta is not None:
            validate.positive(delta=self.delta)
            validate.in_range(0, 1, delta=self.delta)

    def _check_words(self) -> None:
        if not self.instruction.strip():
            raise BadInput("instruction", "is empty, so the model knows of nothing to write", "Say what a text is.")
        if self.topics and not all(self.topic_list):
            raise BadInput(f"topics={self.topics!r}", "names an empty topic", "Separate topics by single commas.")
        if TOPIC in self.instruction and not self.topics:
            raise BadInput("instruction", f"has {TOPIC} in it, and no topics are given", "Give --topics.")
        if self.condition == "length" and TOPIC in self.instruction:
            raise BadInput(
                "condition='length'",
                f"counts lengths alone, and nobody knows the {TOPIC} of a record",
                "Give records that have it as their prompt and --condition prompt_length.",
            )
        if self.topics and TOPIC not in self.instruction and not self.by_prompt:
            raise BadInput(
                f"topics={self.topics!r}",
                f"would be read by nobody: the instruction has no {TOPIC} in it",
                f"Give --instruction 'A text about {TOPIC}:'.",
            )

    @property
    def by_prompt(self) -> bool:
        """True if texts are written after the prompts that records have."""
        return self.condition in ("prompt", "prompt_length")

    @property
    def by_length(self) -> bool:
        """True if texts are written after words that say their length."""
        return self.condition in ("length", "prompt_length")

    @property
    def borders(self) -> tuple[int, ...]:
        """``lengths`` as numbers.

        Raises:
            BadInput: they do not rise, or are no numbers from 1 on.
        """
        parts = [part.strip() for part in self.lengths.split(",")]
        numbers = tuple(int(part) for part in parts if part.isdecimal())
        if len(numbers) < len(parts) or numbers[0] < 1 or list(numbers) != sorted(set(numbers)):
            raise BadInput(f"lengths={self.lengths!r}", "are no rising numbers of words", "Give such as 16,32,64.")
        return numbers

    def cell(self, prompt: str, length: int) -> str:
        """The words before texts of a prompt and of a class of lengths.

        Examples:
            >>> spec = SynthesisSpec(mechanism="none", condition="length", lengths="8,20")
            >>> spec.cells  # doctest: +NORMALIZE_WHITESPACE
            ('A text that a person wrote (at most 8 words):', 'A text that a person wrote (9 to 20 words):',
             'A text that a person wrote (more than 20 words):')
        """
        borders = self.borders
        least = f"{borders[length - 1] + 1} to " if length else "at most "
        if 0 < length < len(borders) and borders[length] == borders[length - 1] + 1:
            least = ""
        size = f"{least}{borders[length]}" if length < len(borders) else f"more than {borders[-1]}"
        return f"{prompt.rstrip(': ')} ({size} words):"

    @property
    def cells(self) -> tuple[str, ...]:
        """All prompts that conditioned texts are written after, known to all; none without a condition."""
        prompts = self.topic_list if self.by_prompt else (self.instruction,)
        if self.by_length:
            return tuple(self.cell(prompt, length) for prompt in prompts for length in range(len(self.borders) + 1))
        return prompts if self.by_prompt else ()

    @property
    def topic_list(self) -> tuple[str, ...]:
        """The topics, in the order in which texts take turns; none where none were given."""
        return tuple(topic.strip() for topic in self.topics.split(",")) if self.topics else ()

    def prompt(self, text: int) -> str:
        """The public words before the text of that number."""
        return self.instruction.replace(TOPIC, self.topic(text)) if self.topics else self.instruction

    def topic(self, text: int) -> str:
        """The topic of the text of that number; empty where none were given."""
        topics = self.topic_list
        return topics[text % len(topics)] if topics else ""

    @property
    def all_topics(self) -> tuple[str, ...]:
        """One for each text, in turn; none where none were given."""
        return tuple(map(self.topic, range(self.count))) if self.topics else ()

    @property
    def on_record(self) -> dict[str, Any]:
        """For the run folder."""
        return asdict(self)
