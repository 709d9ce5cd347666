# SPDX-License-Identifier: Apache-2.0
"""The settings of planted secrets."""

from __future__ import annotations

from dataclasses import dataclass

from reticent.core import validate
from reticent.core.errors import BadInput

MOST_CANARIES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """Secrets to plant into the training data, to measure how well the model can be made to tell them.

    Args:
        canaries: how many secrets get a coin each (about half are planted); 0 plants none. Do not ship a model that was
            trained with canaries.
        canary_kind: which kind of secret: secret_number, passphrase, card_number, email, phone, record_number; of the
            model's tokens random_tokens, rare_tokens, new_token; of words of the data unigram, bigram; surprising_end,
            an ordinary beginning with an end that nobody would write, and high_temperature, texts that the public
            model writes, both for the audit of synthetic text.
        canary_controls: how many further secrets are never planted and only serve to rank the planted ones.
        canary_repetitions: how often a secret is planted if its coin says so; "1,4,16" makes three tiers that take
            turns. "auto" is that, and "1" in private training: only a secret planted once is one record, whose coin
            bounds ε per record.
        canary_users: how many users get a phrase of their own into every text of theirs, whether they are in or out;
            they are then compared among themselves.
        canary_words: length of that phrase.

    Examples:
        >>> CanaryConfig(canaries=48, canary_controls=250).canary_kind
        'secret_number'
    """

    canaries: int = 0
    canary_kind: str = "secret_number"
    canary_controls: int = 500
    canary_repetitions: str = "auto"
    canary_users: int = 0
    canary_words: int = 10

    def __post_init__(self) -> None:
        validate.non_negative(
            canaries=self.canaries, canary_controls=self.canary_controls, canary_users=self.canary_users
        )
        counts = {"canaries": self.canaries, "canary_controls": self.canary_controls, "canary_users": self.canary_users}
        validate.at_most(MOST_CANARIES, **counts)
        validate.positive(canary_words=self.canary_words)
        validate.at_most(1000, canary_words=self.canary_words)
        self.tiers(private=False)

    def tiers(self, *, private: bool) -> tuple[int, ...]:
        """How often the secrets of each tier are planted.

        Raises:
            BadInput: ``canary_repetitions`` is no list of distinct numbers from 1 on.
        """
        if self.canary_repetitions == "auto":
            return (1,) if private else (1, 4, 16)
        words = [word.strip() for word in self.canary_repetitions.split(",")]
        if not all(word.isdecimal() and int(word) for word in words) or len(set(words)) < len(words):
            raise BadInput(
                f"canary_repetitions={self.canary_repetitions!r}", "is no list of distinct numbers", "Give 1 or 1,4,16."
            )
        return tuple(map(int, words))
