# SPDX-License-Identifier: Apache-2.0
"""Compares the tokens of two models: the rules by which they cut texts, and the number of each token."""

from __future__ import annotations

import json
from typing import Any

import torch

from reticent.core.errors import BadInput
from reticent.models.blended_logits import ABSENT

_TEXTS = (
    "Dear Ann,\n\tthe order of 12 May (no. 4711-B) has NOT come yet:  could you call +1 555 0100 before Friday?",
    "Grüße, naïve café; 北京の天気は? Привет 👋  \r\n\n  def f(x):\n    return x**2  # 3.14e-10",
)
"""Texts that both tokenizers are tried with, besides a look at their rules."""
_RULES = ("normalizer", "pre_tokenizer", "decoder")


def refuse_other_tokens(large: Any, small: Any, *, names: tuple[str, str]) -> None:
    """Refuse two tokenizers that cut texts into other tokens. Tokens that were added later may differ (marks of turns,
    padding), and so may the numbers of tokens.

    Args:
        large, small: Hugging Face tokenizers.
        names: of the two models, for messages.

    Raises:
        BadInput: their rules, their pieces, or their tokens of a text that both are tried with differ.
    """
    reason = _difference(large, small)
    if reason:
        raise BadInput(
            f"{names[0]} and {names[1]}",
            f"read texts in other tokens: {reason}",
            "Take a small model of the same family as the large one, with the same tokenizer.",
        )


def small_ids(large: Any, small: Any, *, rows: tuple[int, int]) -> torch.Tensor | None:
    """``[V]`` by which number the small models know each token of the large one, or ``ABSENT``, by the tokens' strings;
    None where every number means the same to both.

    Args:
        large, small: their tokenizers.
        rows: ``V`` and ``W``, how many tokens the large model and the small ones have.
    """
    numbers, of_small = large.get_vocab(), small.get_vocab()
    if numbers == of_small:
        numbered = torch.arange(rows[0])
        return None if rows[0] <= rows[1] else torch.where(numbered < rows[1], numbered, ABSENT)
    ids = torch.full((rows[0],), ABSENT, dtype=torch.long)
    for token, number in numbers.items():
        counterpart = of_small.get(token, ABSENT)
        if number < rows[0] and counterpart < rows[1]:
            ids[number] = counterpart
    return ids


def unknown_tokens(large: Any, small_id: torch.Tensor | None) -> frozenset[int]:
    """Tokens of the large model's tokenizer that the small models do not know."""
    if small_id is None:
        return frozenset()
    return frozenset(
        number for number in large.get_vocab().values() if number < len(small_id) and small_id[number] == ABSENT
    )


def _difference(large: Any, small: Any) -> str:
    fast = [bool(getattr(tokenizer, "is_fast", False)) for tokenizer in (large, small)]
    if all(fast):
        rules = [json.loads(tokenizer.backend_tokenizer.to_str()) for tokenizer in (large, small)]
        for name in _RULES:
            if rules[0].get(name) != rules[1].get(name):
                return f"their tokenizers differ in the {name.replace('_', '-')}"
        models = [_pieces(rule["model"]) for rule in rules]
        if models[0] != models[1]:
            return f"their tokenizers have other pieces ({len(large):,} and {len(small):,} tokens)"
    elif large.get_vocab() != small.get_vocab():
        return "their vocabularies differ, and their tokenizers' rules cannot be compared"
    for text in _TEXTS:
        cut = [
            tokenizer.convert_ids_to_tokens(tokenizer(text, verbose=False)["input_ids"]) for tokenizer in (large, small)
        ]
        if cut[0] != cut[1]:
            return "the same text begins or ends otherwise, or is cut elsewhere"
    return ""


def _pieces(model: dict[str, Any]) -> dict[str, Any]:
    """The model of a tokenizer, without the numbers of its pieces."""
    vocabulary = model.get("vocab", {})
    strings = set(vocabulary) if isinstance(vocabulary, dict) else {tuple(entry) for entry in vocabulary}
    return model | {"vocab": strings}
