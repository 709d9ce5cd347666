# SPDX-License-Identifier: Apache-2.0
"""Selection: the attacks that somebody names for an audit, with the parameters that they set.

In words, ``"standard,min_k(k=0.1)"``, or as a mapping, ``{"min_k": {"k": 0.1}, "wbc": {}}``. Names choose among the
membership attacks; attacks of other families run with their family, and naming one sets its parameters.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from reticent.attacks.attack import ATTACKS, Attack
from reticent.attacks.evidence import ATTACK_FAMILIES
from reticent.core.errors import BadInput

GROUPS = ("standard", "all")
"""Words that stand for membership attacks: those without extra passes, and every one."""
LONGEST = 10_000
"""Characters; nobody writes more, and a parser may not be fed without end."""
FIX = 'Write names separated by commas, with parameters in brackets: --attacks "min_k(k=0.1),wbc".'

Given: TypeAlias = str | Mapping[str, Any]

_ITEM = re.compile(r"\s*([^\s()]+)\s*(?:\((.*)\))?\s*", re.DOTALL)
_SETTING = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_CLOSES = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, kw_only=True)
class AttackSelection:
    """Attacks by name, each with the parameters that were set.

    Args:
        groups: words of `GROUPS` that were given.
        named: attack → parameters; empty where it stays at its defaults.

    Examples:
        >>> sorted(read_selection("loss,min_k(k=0.1),combination").chosen(standard=["loss", "zlib"]))
        ['loss', 'min_k']
    """

    groups: tuple[str, ...]
    named: Mapping[str, Mapping[str, Any]]

    def configured(self, attack: Attack) -> Attack:
        """The attack with the parameters that were set."""
        return attack.with_params(**self.named.get(attack.name, {}))

    def of_family(self, family: str) -> tuple[Attack, ...]:
        """All attacks of a family, each with the parameters that were set.

        Examples:
            >>> chosen = read_selection("rmia(a=1)").of_family("membership")
            >>> [attack.params for attack in chosen if attack.name == "rmia"]
            [{'a': 1.0, 'gamma': 1.0}]
        """
        return tuple(self.configured(attack) for attack in ATTACKS.select(family=family))

    def chosen(self, standard: Collection[str]) -> set[str]:
        """Names of the membership attacks that are asked for.

        Args:
            standard: those that the word "standard" stands for. It is what runs where only attacks of other families
                are named.
        """
        members = {attack.name for attack in ATTACKS.select(family="membership")}
        if "all" in self.groups:
            return members
        named = members & set(self.named)
        return named | set(standard) if self.groups or not named else named

    def refuse_switched_off(self, settings: object) -> None:
        """Refuse to set what nothing runs.

        Args:
            settings: has a field for every switch of `ATTACK_FAMILIES`.

        Raises:
            BadInput: an attack is named whose family is not switched on.
        """
        for name in self.named:
            switch = ATTACK_FAMILIES[ATTACKS.get(name).family].switch
            if switch and not getattr(settings, switch):
                raise BadInput(
                    f"attacks: {name!r}",
                    f"is run by --{switch}, which is off, so naming it does nothing",
                    f"Add --{switch} ({switch}=True), or leave {name} out.",
                )


def _known(name: str) -> Attack:
    try:
        return ATTACKS.get(name)
    except BadInput as error:
        raise BadInput(f"--attacks {name}", error.why, error.fix) from error


def read_selection(given: Given) -> AttackSelection:
    """Read what somebody asks for.

    Args:
        given: ``"standard"``, ``"all"``, names with or without parameters separated by commas, or a mapping of names to
            parameters. The same as a JSON object is understood too.

    Raises:
        BadInput: an unknown attack or parameter (the nearest is suggested), a value that a parameter cannot have, an
            attack that is given twice, or words that cannot be read.

    Examples:
        >>> read_selection("min_k(k=0.1), wbc(windows=paper)").named
        {'min_k': {'k': 0.1}, 'wbc': {'windows': 'paper'}}
        >>> read_selection({"standard": {}, "ez_mia": {"drop_first": True}}).groups
        ('standard',)
    """
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, str):
        pairs = list(_pairs(given))
    else:
        raise BadInput(f"attacks={given!r:.80}", "are no names of attacks", FIX)
    groups: list[str] = []
    named: dict[str, dict[str, Any]] = {}
    for name, params in pairs:
        params = {} if params is None else params
        if not isinstance(name, str) or not isinstance(params, Mapping):
            raise BadInput(f"attacks: {name!r:.80}", "has no mapping of parameters", FIX)
        if name in named or name in groups:
            raise BadInput(f"attacks: {name!r}", "is given twice", "Name each attack once, with all its parameters.")
        if name not in GROUPS:
            attack = _known(name)
            configured = attack.with_params(**_keywords(name, params))
            named[name] = {key: configured.params[key] for key in params}
        elif params:
            raise BadInput(f"attacks: {name!r}", "stands for many attacks and has no parameters", FIX)
        else:
            groups.append(name)
    if not groups and not named:
        raise BadInput(f"attacks={given!r}", "names no attack", FIX)
    return AttackSelection(groups=tuple(groups), named=named)


def _keywords(name: str, params: Mapping[Any, Any]) -> dict[str, Any]:
    for key in params:
        if not isinstance(key, str):
            raise BadInput(f"attacks: {name}: {key!r:.80}", "is no name of a parameter", FIX)
    return dict(params)


# ---- from words -------------------------------------------------------------------------------------------------


def _pairs(text: str) -> Iterator[tuple[str, Any]]:
    """``(name, parameters)`` of each attack in the text."""
    if len(text) > LONGEST:
        raise BadInput(f"attacks: {len(text):,} characters", "are more than anybody would write", FIX)
    if text.lstrip().startswith("{"):
        yield from _from_json(text)
        return
    for part in _split(text):
        match = _ITEM.fullmatch(part)
        if match is None:
            raise BadInput(f"attacks: {part.strip()[:80]!r}", "is no name with parameters in brackets", FIX)
        yield match[1], dict(_settings(match[1], match[2] or ""))


def _from_json(text: str) -> list[tuple[str, Any]]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadInput(f"attacks: {twice[:80]!r}", "is given twice", "Name each attack and parameter once.")
        return dict(pairs)

    try:
        return list(json.loads(text, object_pairs_hook=once).items())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"attacks: {text[:80]!r}", "is no JSON object", FIX) from error


def _settings(name: str, text: str) -> Iterator[tuple[str, Any]]:
    """``(parameter, value)`` of what stands in the brackets behind a name."""
    seen: set[str] = set()
    for part in _split(text):
        match = _SETTING.fullmatch(part)
        if match is None:
            raise BadInput(
                f"attacks: {name}({part.strip()[:80]})", "does not say which parameter", f"Write {name}(NAME=VALUE)."
            )
        if match[1] in seen:
            raise BadInput(f"attacks: {name}: {match[1]!r}", "is given twice", "Set each parameter once.")
        seen.add(match[1])
        yield match[1], _value(name, match[1], match[2].strip())


def _value(name: str, key: str, text: str) -> Any:
    """A number, true, false, none, a list, a quoted string; anything else is a word."""
    if not text:
        raise BadInput(f"attacks: {name}({key}=)", "has no value", f"Write {name}({key}=VALUE).")
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, (int, float, str, list, tuple)) else text


def _split(text: str) -> list[str]:
    """Parts between the commas that stand in no bracket and no quotes; empty ones are left out."""
    parts, waiting, quote = [""], [], ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in _CLOSES:
            waiting.append(_CLOSES[char])
        elif char in _CLOSES.values():
            if not waiting or waiting.pop() != char:
                raise BadInput(f"attacks: {text[:80]!r}", f"has a {char!r} that nothing opens", FIX)
        elif char == "," and not waiting:
            parts.append("")
            continue
        parts[-1] += char
    if waiting or quote:
        raise BadInput(f"attacks: {text[:80]!r}", f"lacks a closing {(quote or waiting[-1])!r}", FIX)
    return [part for part in parts if part.strip()]
