# SPDX-License-Identifier: Apache-2.0
"""Signature of an attack: the evidence and parameters that its function declares, and the refusal of what cannot be."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sized
from typing import Any, Literal, Protocol

from reticent.attacks.evidence import EVIDENCE, LABELS, POPULATION, TABLES
from reticent.score.requests import PLAIN, Request, Variant

VARIANTS: dict[str, Variant] = {}
"""Every variant that a registered attack uses, so that one name never means two renderings."""


class EvidenceSet(Protocol):
    """Evidence by its name."""

    def get(self, name: str, /) -> Any:
        """The evidence of that name; None where there is none."""


def rows_of(evidence: Sized | Mapping[Any, Sized] | None) -> int:
    """How many rows a piece of evidence has; of several of one kind, as many as each has; 0 where it was not made."""
    if not isinstance(evidence, Mapping):
        return 0 if evidence is None else len(evidence)
    return len(next(iter(evidence.values()), ()))


def source_of(evidence: tuple[str, ...]) -> str:
    """The one source of all this evidence; what is no name of `EVIDENCE` is a rendering of the records."""
    sources = {EVIDENCE[name].source if name in EVIDENCE else TABLES for name in evidence}
    return next(iter(sources - {LABELS}), LABELS)


def check_settings(name: str, **settings: tuple[str, Any]) -> None:
    """Refuse a setting ``(value, choices)`` that is not among its choices."""
    for what, (value, choices) in settings.items():
        if value not in choices:
            raise ValueError(f"attack {name!r}: {what} {value!r} is not one of {', '.join(choices)}")


def signature(name: str, function: Callable[..., Any]) -> tuple[dict[str, bool], dict[str, Any]]:
    """``({evidence: may be missing}, {parameter: default})`` of a function."""
    evidence: dict[str, bool] = {}
    defaults: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            evidence[parameter.name] = parameter.default is None
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"attack {name!r}: {parameter} is neither evidence nor a keyword-only hyper-parameter")
        elif parameter.default is inspect.Parameter.empty:
            raise TypeError(f"attack {name!r}: the hyper-parameter {parameter.name!r} needs a default")
        else:
            defaults[parameter.name] = parameter.default
    return evidence, defaults


def check_evidence(name: str, unit: str, evidence: tuple[str, ...]) -> None:
    """Refuse evidence that does not go together, or is about other units than the attack."""
    if not set(evidence) - set(POPULATION):
        raise TypeError(f"attack {name!r} reads nothing about the attacked units: its first parameter is `table`")
    entries = [EVIDENCE[item] for item in evidence if item in EVIDENCE]
    sources = {item.source for item in entries} | ({TABLES} if len(entries) < len(evidence) else set())
    units = {item.unit for item in entries} | ({"record"} if len(entries) < len(evidence) else set())
    if len(sources - {LABELS}) != 1 or len(units) != 1:
        raise TypeError(f"attack {name!r} reads {', '.join(evidence)}: evidence of one source, all about the same unit")
    if LABELS in sources and not sources & {"scores", "internals"}:
        raise TypeError(f"attack {name!r}: only attacks on scores or internals learn from labels")
    if unit not in units and (unit, units) != ("user", {"record"}):
        raise TypeError(f"attack {name!r} is about {unit}s, and {', '.join(evidence)} about {'/'.join(units)}s")


def check_variants(name: str, variants: Mapping[str, Variant]) -> dict[str, Variant]:
    """Refuse a variant under another name than its own, or a name that means another rendering elsewhere."""
    for key, variant in variants.items():
        if key != variant.name or key in {PLAIN.name, *EVIDENCE} or key.endswith("_ref"):
            raise TypeError(f"attack {name!r}: the variant {variant.name!r} cannot be called {key!r}; use its own name")
        if VARIANTS.get(key, variant) != variant:
            raise TypeError(f"attack {name!r}: another attack uses the name {key!r} for another variant")
    return dict(variants)


def request_of(name: str, evidence: str, variants: Mapping[str, Variant]) -> Request:
    """The table to score so that the parameter ``evidence`` can be given."""
    plain: dict[str, Literal["target", "reference"]] = {"table": "target", "ref": "reference"}
    if evidence in plain:
        return Request(name=evidence, model=plain[evidence])
    if evidence in variants:
        return Request(name=evidence, variant=variants[evidence])
    if evidence.removesuffix("_ref") in variants:
        return Request(name=evidence, model="reference", variant=variants[evidence.removesuffix("_ref")])
    names = ", ".join([*EVIDENCE, *variants, *(f"{key}_ref" for key in variants)])
    raise TypeError(
        f"attack {name!r} asks for evidence {evidence!r}, which is none of: {names}. "
        "Declare a variant of that name (variants={...}), or make it a keyword-only hyper-parameter."
    )
