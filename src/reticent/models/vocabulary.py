# SPDX-License-Identifier: Apache-2.0
"""Finds the tokens of a model that are whole words, so that text can be made of them that it reads token by token."""

from __future__ import annotations

from typing import Any

SHORTEST = 3
"""Letters: shorter tokens are mostly endings and initials."""
_BEFORE = "a"
_CHUNK = 4096


def whole_words(tokenizer: Any) -> tuple[str, ...]:
    """Words of letters that are one token after a blank, in the order of the vocabulary: the most common first.

    The order holds for byte-pair and unigram tokenizers, which number their tokens as they learn or score them. Tokens
    that were added later (for turns of a chat and the like) are no words.

    Args:
        tokenizer: a Hugging Face tokenizer.
    """
    added = set(tokenizer.get_added_vocab().values())
    candidates: dict[str, None] = {}
    for number in range(len(tokenizer)):
        if number not in added:
            word = tokenizer.decode([number]).strip()
            if len(word) >= SHORTEST and word.isalpha():
                candidates.setdefault(word)
    words, length = list(candidates), len(_ids(tokenizer, [_BEFORE])[0]) + 1
    return tuple(
        word
        for start in range(0, len(words), _CHUNK)
        for word, ids in zip(
            words[start : start + _CHUNK],
            _ids(tokenizer, [f"{_BEFORE} {word}" for word in words[start : start + _CHUNK]]),
            strict=True,
        )
        if len(ids) == length and tokenizer.decode([ids[-1]]).strip() == word
    )


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids
