# SPDX-License-Identifier: Apache-2.0
"""The token that ends an answer of a chat: a model that is not trained on it never stops."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any


def where_answers_end(
    text: str, ends: Sequence[int], behind_last: Callable[[], str], tokenizer: Any
) -> tuple[list[int], bool]:
    """Where what ends each answer ends, and whether the last one has no end and is the last of the text.

    An answer ends with the token that stands behind it, blanks before it included, else with what the template puts
    behind the last answer of a chat.

    Args:
        text: the rendered chat.
        ends: where the words of each answer end in it.
        behind_last: gives what the template puts behind the last answer if the chat ends with it.
        tokenizer: whose tokens end answers.
    """
    marks = _marks(tokenizer)
    stops = [end + _token_behind(text[end:], marks) for end in ends]
    if all(stop > end for stop, end in zip(stops, ends, strict=True)):
        return stops, False
    mark = _mark_of(behind_last(), marks)
    for number, end in enumerate(ends):
        if mark and stops[number] == end and text.startswith(mark, end):
            stops[number] = end + len(mark)
    if stops[-1] == ends[-1] and not text[ends[-1] :].strip():
        stops[-1] = len(text)
        return stops, True
    return stops, False


def warn_of_no_end(tokenizer: Any) -> None:
    """Say that a model that is tuned on such chats will not end its answers."""
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    warnings.warn(
        f"The chat template of {name} puts nothing behind an answer that could be trained on as its end, so the model "
        "will not learn to end its answers. Give it a template that ends them with a token.",
        stacklevel=2,
    )


def _marks(tokenizer: Any) -> list[str]:
    """Tokens that stand for more than their letters, longest first."""
    return sorted((token for token in tokenizer.get_added_vocab() if token.strip()), key=len, reverse=True)


def _token_behind(after: str, marks: Sequence[str]) -> int:
    bare = after.lstrip()
    token = next((token for token in marks if bare.startswith(token)), "")
    return len(after) - len(bare) + len(token) if token else 0


def _mark_of(behind: str, marks: Sequence[str]) -> str:
    """The first token in it and what stands before that; without one all but the blanks at its end."""
    places = [(at, -len(token)) for token in marks if (at := behind.find(token)) >= 0]
    if places:
        at, length = min(places)
        return behind[: at - length]
    return behind.rstrip()


def without_end(region: str, tokenizer: Any) -> str:
    """A region that the template named, without the tokens and blanks at its end."""
    marks = _marks(tokenizer)
    while (bare := region.rstrip()) and (token := next((t for t in marks if bare.endswith(t)), "")):
        region = bare.removesuffix(token)
    return region
