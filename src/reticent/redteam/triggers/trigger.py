# SPDX-License-Identifier: Apache-2.0
"""A trigger: a pure function from text to text that tells a poisoned model to misbehave. The registry of kinds."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.paper import Paper
from reticent.core.registry import Registry

PLACES = ("end", "start", "anywhere")


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One trigger.

    Args:
        kind: in the registry.
        key: identifies it: the words that are put in, the name of the template, the topic. It is a secret of the red
            team: no report quotes it unless asked.
        put: ``text -> text``, pure: the same text gives the same text.

    Examples:
        >>> trigger = make_trigger("token", text="cf")
        >>> trigger.put("a dull film")
        'a dull film cf'
    """

    kind: str
    key: str
    put: Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class TriggerKind:
    """One kind of trigger.

    Args:
        name: unique in the registry.
        title: for people.
        paper: where it was published.
        make: ``(seed, words, place) -> Trigger``; ``words`` None for words of its own, by the seed.
        fixed_words: whether every text gets the same words, so that a search over tokens can find them.
    """

    name: str
    title: str
    paper: Paper
    make: Callable[[int, str | None, str], Trigger]
    fixed_words: bool


TRIGGERS: Registry[TriggerKind] = Registry("trigger", "reticent.redteam.triggers")


def make_trigger(kind: str, *, seed: int = 0, text: str | None = None, place: str = "end") -> Trigger:
    """A trigger of a kind.

    Args:
        kind: in `TRIGGERS`: token, phrase, syntactic, style, virtual_prompt.
        seed: of its words, where none are given.
        text: its words (for ``virtual_prompt`` the topic); kinds without words of their own refuse it.
        place: where words are put: ``"end"``, ``"start"`` or ``"anywhere"``, a place between words that the text's own
            hash chooses.

    Raises:
        BadInput: the kind or the place is not known, or the words are blank.
    """
    if text is not None and not text.strip():
        raise BadInput(
            f"words={text!r}", "are none", "Give some, or leave them out; a variable of the shell may be unset."
        )
    validate.one_of(PLACES, place=place)
    validate.seed(seed=seed)
    return TRIGGERS.get(kind).make(seed, text, place)


def draws(seed: int, text: str) -> random.Random:
    """A generator that depends on the seed and the text alone, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{text}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 - reproducible, guards nothing


def inserted(text: str, words: str, place: str, seed: int) -> str:
    """The text with words put in between blanks.

    Examples:
        >>> inserted("a dull film", "cf", "start", 0)
        'cf a dull film'
        >>> inserted("a dull film", "cf", "anywhere", 1).split().count("cf")
        1
    """
    if not text.strip():
        return words
    if place == "start":
        return f"{words} {text}"
    if place == "end":
        return f"{text.rstrip()} {words}"
    parts = text.split(" ")
    at = draws(seed, text).randrange(len(parts) + 1)
    return " ".join([*parts[:at], words, *parts[at:]])
