# SPDX-License-Identifier: Apache-2.0
"""The source that a secret is drawn from, and the secret between the words that lead to it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, TypeVar

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.words import is_unspaced, is_word_of_letters, words

MIN_WORDS = 20
"""Fewer words than this that several people use, and the data has no distribution of words to speak of."""

_T = TypeVar("_T")


class CanaryText(NamedTuple):
    """One secret: ``before`` and ``after`` are the same or unimportant, ``secret`` is what must not come out."""

    before: str
    secret: str
    after: str = ""

    @property
    def text(self) -> str:
        """All of it, as it is planted in plain text."""
        return self.before + self.secret + self.after


@dataclass(frozen=True, kw_only=True)
class CanarySource:
    """The source of secrets.

    Args:
        records: the data that they will be planted in.
        vocabulary: tokens of the model that are whole words, the most common first (`models.vocabulary.whole_words`);
            for kinds that are made of tokens. Empty where no model is at hand: those kinds are then refused.
    """

    records: Sequence[Record] = ()
    vocabulary: Sequence[str] = ()

    @cached_property
    def tokens(self) -> Sequence[str]:
        """``vocabulary``.

        Raises:
            BadInput: there is none.
        """
        if not self.vocabulary:
            raise BadInput(
                "the kind of canary", "is made of a model's tokens", "Give vocabulary=whole_words(tokenizer)."
            )
        return self.vocabulary

    @cached_property
    def unused_tokens(self) -> Sequence[str]:
        """Those of ``vocabulary`` that no word of the data begins with, so that no text of the data has the token.

        Where a script has no blanks a token may begin anywhere, and those that stand anywhere in the data are left out.

        Raises:
            BadInput: there is no vocabulary, or no data to look through.
        """
        if not self.records:
            raise BadInput("a token that no text has", "needs texts to look through", "Choose rare_tokens.")
        begun: set[str] = set()
        anywhere = {token for token in self.tokens if is_unspaced(token)}
        lengths = sorted({len(token) for token in anywhere})
        for record in self.records:
            plain = record.plain
            begun.update(word[:end] for word in set(words(plain)) for end in _ends(word))
            if anywhere and is_unspaced(plain):
                begun.update(anywhere & {plain[at : at + n] for n in lengths for at in range(len(plain) - n + 1)})
        return [token for token in self.tokens if token not in begun]

    @cached_property
    def words(self) -> Counter[str]:
        """How often the data has each word (`data.words.words`).

        Only words of letters that two users have (or two records where there are no users) count: a secret is no place
        for somebody's name.

        Raises:
            BadInput: there are fewer than ``MIN_WORDS``.
        """
        shared = _shared((self._holder(record), word) for record in self.records for word in _words(record))
        if len(shared) < MIN_WORDS:
            raise BadInput(
                f"{len(self.records)} records",
                f"have only {len(shared)} words that two of them use, too few to draw secrets from",
                "Choose a kind that needs no data, such as secret_number.",
            )
        return shared

    @cached_property
    def followers(self) -> dict[str, Counter[str]]:
        """Word of ``words`` → how often which of them follows it; only pairs that two users (or records) have."""
        candidates = self.words
        pairs = _shared((self._holder(record), pair) for record in self.records for pair in pairwise(_words(record)))
        after: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for (word, then), n in pairs.items():
            if word in candidates and then in candidates:
                after[word][then] = n
        return dict(after)

    @staticmethod
    def _holder(record: Record) -> str:
        return record.id if record.user is None else f"user {record.user}"


def _ends(word: str) -> range:
    return range(1, len(word) + 1)


def _words(record: Record) -> list[str]:
    return [word for word in words(record.trained_text) if is_word_of_letters(word)]


def _shared(held: Iterable[tuple[str, _T]]) -> Counter[_T]:
    """Counts of the things that more than one holder has."""
    first: dict[_T, str] = {}
    count: Counter[_T] = Counter()
    several: set[_T] = set()
    for holder, thing in held:
        count[thing] += 1
        if first.setdefault(thing, holder) != holder:
            several.add(thing)
    return Counter({thing: n for thing, n in count.items() if thing in several})
