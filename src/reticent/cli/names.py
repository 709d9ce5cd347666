# SPDX-License-Identifier: Apache-2.0
"""The names of a flag: its group's and its own (``--split.unit``), the word that all verbs share, and earlier names.

Each setting has one field of one dataclass. It can be named by that field (``--split_unit``), below its group
(``--split.split_unit``) and there without what repeats the group (``--split.unit``), on the command line and in files
of settings.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.progress import console

GROUPS: Mapping[str, str] = {
    "data_config": "data",
    "split_config": "split",
    "canary_config": "canaries",
    "tune_config": "training",
    "compare_config": "compare",
    "audit_config": "audit",
    "unlearn_config": "unlearning",
    "verify_config": "verification",
    "redteam_config": "redteam",
    "emulation_config": "emulation",
    "forecast_config": "forecast",
    "utility_spec": "utility",
    "real_files": "real",
}
"""Parameters of verbs that are dataclasses, with the name of their group; others are called as they are."""

_REPEATS: Mapping[str, str] = {"canaries": "canary_"}
"""How fields repeat their group, where it is not by its name."""

SHOWN: Mapping[str, Mapping[str, str]] = {"tune": {"monitor_panel": "panel", "monitor_every": "every"}}
"""By verb, fields that go by the word that all verbs have for it."""

FURTHER: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "compare": {
        "training": {name: name for name in ("epochs", "batch_size", "max_tokens", "dtype", "device")},
        "monitor": {"panel": "panel", "every": "every"},
    }
}
"""By verb, groups that another verb has for settings that stand elsewhere here."""

RENAMED: Mapping[str, Mapping[str, str]] = {
    "tune": {"monitor_panel": "panel", "monitor_every": "every"},
    "compare": {"look_every": "every"},
    "audit": {"target": "model"},
}
"""By verb, earlier names of flags; they go on working, and the new name is said."""


def groups(name: str, verb: Callable[..., int]) -> dict[str, dict[str, str]]:
    """For each group of the verb ``name`` its names of settings, each with the field that it stands for."""
    named = {group: dict(settings) for group, settings in FURTHER.get(name, {}).items()}
    for parameter, hint in typing.get_type_hints(verb).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            group = GROUPS.get(parameter, parameter)
            repeats = _REPEATS.get(group, f"{group}_")
            fields = [field.name for field in dataclasses.fields(hint)]
            short = {field.removeprefix(repeats): field for field in fields}
            named[group] = short | {field: field for field in fields}
    return named


def field_of(word: str, name: str, verb: Callable[..., int], fields: Mapping[str, Any]) -> str:
    """The field that a word stands for, in the verb ``name``; the word itself where it is none of these names.

    What stands behind a further dot is kept, since ``--method_params.r`` is a setting of an object. An earlier name is
    answered with the new one.

    Args:
        word: without dashes, with underscores.
        name, verb: which verb.
        known: its fields.
    """
    new = RENAMED.get(name, {}).get(word)
    if new is not None:
        console.print(f"--{word} is called --{new}; both work", style="yellow", highlight=False, markup=False)
        word = new
    for field, shown in SHOWN.get(name, {}).items():
        if word == shown:
            return field
    head, _, rest = word.partition(".")
    inner, dot, further = rest.partition(".")
    plus = "+" if inner.endswith("+") else ""
    below = groups(name, verb).get(head, {}).get(inner.rstrip("+"))
    return word if below is None or below not in fields else f"{below}{plus}{dot}{further}"


def flattened(
    settings: Mapping[Any, Any], name: str, verb: Callable[..., int], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of a file by field, whether they stand below their groups or not.

    Raises:
        BadInput: one stands there twice.
    """
    flat: dict[str, Any] = {}
    named = groups(name, verb)
    for key, value in settings.items():
        nested = isinstance(value, Mapping) and str(key) in named
        pairs = [(f"{key}.{inner}", item) for inner, item in value.items()] if nested else [(str(key), value)]
        for word, item in pairs:
            field = field_of(word, name, verb, fields)
            if field in flat:
                raise BadInput(f"--config: {word!r}", "stands there twice", "Keep one of them.")
            flat[field] = item
    return flat
