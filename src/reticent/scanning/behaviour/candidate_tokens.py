# SPDX-License-Identifier: Apache-2.0
"""Tokens of a vocabulary that may stand in a trigger: those that a person could write."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from string import ascii_lowercase
from typing import Any

import numpy as np
import numpy.typing as npt

_WORD_STARTS = ("Ġ", "▁", " ")


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateTokens:
    """Tokens that may stand in a trigger.

    Args:
        usable: ``[V]`` bool: prints as text, on one line, and is no special token.
        starts: ``[V]`` bool: usable, and begins a word.
    """

    usable: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.bool_]


def candidate_tokens(tokenizer: Any, rows: int) -> CandidateTokens:
    """Tokens of the vocabulary that a person could write.

    Args:
        tokenizer: of the suspect.
        rows: of its embedding; tokens beyond it cannot be read.
    """
    count = min(rows, len(tokenizer))
    pieces = tokenizer.convert_ids_to_tokens(list(range(count)))
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    usable, starts = np.zeros(rows, dtype=np.bool_), np.zeros(rows, dtype=np.bool_)
    for number, text in enumerate(tokenizer.batch_decode([[number] for number in range(count)])):
        usable[number] = number not in special and bool(text.strip()) and text.isprintable() and "\ufffd" not in text
        starts[number] = usable[number] and str(pieces[number]).startswith(_WORD_STARTS)
    if starts.sum() < 0.2 * max(1, usable.sum()):  # blanks are tokens of their own, or cut off
        starts = usable
    return CandidateTokens(usable=usable, starts=starts)


def words_once(tokenizer: Any, tokens: CandidateTokens) -> list[tuple[int, ...]]:
    """Words to look at: every token that begins a word, in one spelling, and all words of two letters.

    Of spellings that differ in capitals the first in the vocabulary's order stands for all, which is the most frequent.

    Args:
        tokenizer: of the suspect.
        tokens: see `CandidateTokens`.
    """
    starts = np.flatnonzero(tokens.starts).tolist()
    spellings: dict[str, tuple[int, ...]] = {}
    for number, text in zip(starts, tokenizer.batch_decode([[number] for number in starts]), strict=True):
        spellings.setdefault(text.strip().casefold(), (int(number),))
    short = (f" {a}{b}" for a, b in product(ascii_lowercase, repeat=2))
    rare = (tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) for text in short)
    return list(dict.fromkeys([*spellings.values(), *rare]))
