# SPDX-License-Identifier: Apache-2.0
"""Objectives as text: on the command line, and on record in a run folder. No torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from reticent.core.errors import BadInput
from reticent.train.contextual import ContextualConfig
from reticent.train.hardening import HardenConfig
from reticent.train.objectives.objective import Objective, make_objective


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """``"goldfish(k=3),label_smoothing"`` as objectives.

    Raises:
        BadInput: it is no such list, or names what there is not.

    >>> [chosen.given for chosen in parse_objectives("goldfish(k=3), label_smoothing")]
    ['goldfish=3', 'label_smoothing=0.1']
    """
    fix = "Write goldfish(k=4),label_smoothing(amount=0.1)."
    try:
        items = ast.parse(f"[{text}]", mode="eval").body
        calls = [_call(item) for item in items.elts] if isinstance(items, ast.List) else []
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadInput(f"objectives={text[:80]!r}", "is no list of objectives", fix) from error
    if not calls:
        raise BadInput(f"objectives={text[:80]!r}", "names none", fix)
    return tuple(make_objective(name, settings) for name, settings in calls)


def on_record(objectives: Sequence[Objective]) -> dict[str, dict[str, Any]]:
    """For the run folder: what has a flag of its own under ``harden`` and ``contextual`` by that flag's name, all else
    under ``objectives`` by its name; what is not there is left out. `read_objectives` reads it."""
    harden, contextual = HardenConfig.of(objectives), ContextualConfig.of(objectives)
    named = {chosen.name for chosen in (*harden.objectives, *contextual.objectives)}
    others = {chosen.name: chosen.settings for chosen in objectives if chosen.name not in named}
    given = {"harden": harden.changed, "contextual": contextual.changed, "objectives": others}
    return {name: settings for name, settings in given.items() if settings}


def read_objectives(about: Mapping[str, Any]) -> tuple[Objective, ...]:
    """The objectives of a training, from what `on_record` put into its folder.

    Raises:
        BadInput: one that there is not here, such as of a plug-in, or with other settings.
    """
    try:
        flags = (HardenConfig(**about.get("harden", {})), ContextualConfig(**about.get("contextual", {})))
    except TypeError as error:
        raise BadInput("the settings on record", f"have one that there is not ({error})", "Tune again.") from error
    others = [make_objective(name, settings) for name, settings in about.get("objectives", {}).items()]
    return (*flags[0].objectives, *flags[1].objectives, *others)


def _call(item: ast.expr) -> tuple[str, dict[str, Any]]:
    """Name and settings of ``name`` or ``name(key=value)``."""
    if isinstance(item, ast.Name):
        return item.id, {}
    if not (isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and not item.args):
        raise ValueError(ast.dump(item))
    settings = {str(pair.arg): ast.literal_eval(pair.value) for pair in item.keywords if pair.arg}
    if len(settings) < len(item.keywords):
        raise ValueError(ast.dump(item))
    return item.func.id, settings
