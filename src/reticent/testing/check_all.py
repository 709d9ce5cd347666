# SPDX-License-Identifier: Apache-2.0
"""check_all: conformance of everything that is registered, in every registry of the package, plug-ins too."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from reticent.core.registry import Registry

CHECKS: Mapping[str, tuple[str, str]] = {
    "attack": ("reticent.attacks.attack:ATTACKS", "reticent.testing.conformance:check_attack"),
    "layer rule": ("reticent.privacy.clip.rule:LAYER_RULES", "reticent.testing.layer_rules:check_layer_rule"),
    "file format": ("reticent.data.readers.reader:READERS", "reticent.testing.readers:check_reader"),
    "unlearning method": ("reticent.train.unlearning.method:UNLEARNERS", "reticent.testing.unlearners:check_unlearner"),
    "scanner": ("reticent.scanning.scanner:SCANNERS", "reticent.testing.scanners:check_scanner"),
    "aggregation rule": (
        "reticent.federated.aggregate.aggregator:AGGREGATORS",
        "reticent.testing.aggregation_rules:check_aggregation_rule",
    ),
    "synthesis mechanism": (
        "reticent.synthesis.synthesis_mechanism:MECHANISMS",
        "reticent.testing.synthesis_mechanisms:check_synthesis_mechanism",
    ),
    "detector": ("reticent.data.pii.detector:DETECTORS", "reticent.testing.detectors:check_detector"),
}
"""Kind of thing → its registry, and the check of one of it, each as ``module:name``."""


def check_all(kinds: Collection[str] = tuple(CHECKS)) -> dict[str, str]:
    """Check every registered thing, those of plug-ins too.

    Use it in the test suite of a package that registers attacks, layer rules, readers, unlearning methods,
    scanners, detectors, aggregation rules or mechanisms of synthetic text:
    importing the modules that register them, or naming them as entry points, is all it needs.

    Args:
        kinds: some of ``CHECKS``.

    Returns:
        Each thing that could not be checked here, with the reason: a detector whose extra is not installed.

    Raises:
        AssertionError: names everything that fails, and why.

    >>> check_all(["file format"])
    {}
    """
    failed: list[str] = []
    unchecked: dict[str, str] = {}
    for kind in kinds:
        registry, check = registered(kind)
        for thing in registry:
            reason = missing(thing)
            if reason:
                unchecked[f"{kind} {thing.name}"] = reason
                continue
            try:
                check(thing)
            except Exception as error:  # noqa: BLE001 - a fault of one thing must not hide those of others
                failed.append(f"{kind} {thing.name}: {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)
    return unchecked


def registered(kind: str) -> tuple[Registry[Any], Callable[[Any], None]]:
    """The registry of a kind, and the check of one thing in it."""
    registry, check = (_named(place) for place in CHECKS[kind])
    return registry, check


def missing(thing: Any) -> str:
    """The package to install before a thing can run; empty where nothing has to be."""
    return thing.missing() if hasattr(thing, "missing") else ""


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
