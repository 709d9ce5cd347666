# SPDX-License-Identifier: Apache-2.0
"""Everything that is registered keeps to the rules of its kind, and the rules catch what does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import reticent
from reticent.core.errors import BadInput
from reticent.core.record import Span
from reticent.data.pii.detector import DETECTORS
from reticent.data.readers.reader import READERS, BadRow, InputRow
from reticent.federated.aggregate.aggregator import AGGREGATORS
from reticent.privacy.clip.rule import LAYER_RULES
from reticent.synthesis.mechanisms.private_prediction import private_prediction
from reticent.synthesis.synthesis_mechanism import MECHANISMS
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.testing.aggregation_rules import check_aggregation_rule
from reticent.testing.check_all import CHECKS, check_all, missing, registered
from reticent.testing.detectors import check_detector
from reticent.testing.layer_rules import check_layer_rule
from reticent.testing.readers import check_reader
from reticent.testing.synthesis_mechanisms import KEY, check_synthesis_mechanism

KINDS = [kind for kind in CHECKS if kind != "attack"]
"""Attacks are checked one by one in tests/attacks/test_conformance.py."""

TESTS = Path(__file__).parents[1]
ELSEWHERE = {
    "check of unlearning": "unlearning/verification",
    "audit family": "auditing",
    "kind of canary": "data/canaries",
    "kind of shard": "score/workers",
    "objective": "train",
    "poison": "redteam",
    "preset": "comparison",
    "red-team attack": "redteam",
    "surrogate": "data/pii",
    "trigger": "redteam",
    "tuning method": "models",
    "way to work": "score/workers",
}
"""Registries of things that have no conformance suite, and where they are tested."""


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in registered(kind)[0].names()])
def test_conformance(kind: str, name: str) -> None:
    registry, check = registered(kind)
    thing = registry.get(name)
    if missing(thing):
        pytest.skip(missing(thing))
    check(thing)


def test_every_registry_has_a_suite_or_a_place() -> None:
    """Whoever adds a registry finds out here."""
    source = Path(reticent.__file__).parent
    kinds = set()
    for path in source.rglob("*.py"):
        kinds |= set(
            re.findall(r'^[A-Z_]+\b.*= Registry\(\s*"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
        )
    assert set(CHECKS) <= kinds
    assert kinds == set(CHECKS) | set(ELSEWHERE)
    assert all((TESTS / place).exists() for place in ELSEWHERE.values())


def test_all_failures_are_named_and_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    things = {
        "jsonl": READERS.get("jsonl"),
        "bad": replace(READERS.get("jsonl"), name="bad", example=None),
        "worse": replace(READERS.get("jsonl"), name="worse", rows=lambda source: 1 / 0),
    }
    monkeypatch.setattr(READERS, "_things", things)
    with pytest.raises(AssertionError, match=r"file format bad: .*needs an example") as caught:
        check_all(["file format"])
    assert "file format worse: ZeroDivisionError" in str(caught.value)
    assert "file format jsonl" not in str(caught.value)
    absent = replace(DETECTORS.get("email"), name="absent", missing=lambda: "Install it.")
    monkeypatch.setattr(DETECTORS, "_things", {"absent": absent, "email": DETECTORS.get("email")})
    assert check_all(["detector"]) == {"detector absent": "Install it."}


def _rows(*rows: Any) -> Any:
    return lambda source: iter([row(source) if callable(row) else row for row in rows])


def _row(text: Any, place: str = "") -> Any:
    return lambda source: InputRow(place=f"{source}{place}", fields={"text": text})


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (_rows(_row("a", ":1")), "1 rows"),
        (_rows(_row("a", ":1"), _row("b", ":1")), "same place"),
        (_rows(_row("a", ":1"), _row("", ":2")), "empty text"),
        (_rows(_row("a", ":1"), _row(None, ":2")), "no field"),
        (_rows(_row("a", ":1"), BadRow(place="x", why="is broken", fix="")), "is broken"),
        (_rows(_row("a", ":1"), InputRow(place="x:2", fields={"text": "b"})), "begin with the source"),
        (_rows(_row("a", ":1"), _row("b", ":2")), "another reader takes"),
    ],
)
def test_bad_readers_are_caught(rows: Any, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_reader(replace(READERS.get("jsonl"), rows=rows))


def _spans(*spans: Span) -> Any:
    return lambda text: spans


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"example": None}, "needs an example"),
        ({"find": _spans()}, "finds \\[\\]"),
        ({"find": lambda text: [Span(start=9, end=24, kind="CARD")] if "@" in text else []}, "gives kinds"),
        ({"find": lambda text: [Span(start=9, end=24, kind="EMAIL")] if len(text) > 24 else []}, "in 'The kettle"),
        ({"find": lambda text: [Span(start=9, end=24, kind="EMAIL")] if "@" in text else []}, "behind other text"),
        ({"find_many": lambda texts: [[] for _ in texts]}, "many texts|finds"),
        ({"summary": "no sentence"}, "whole sentence"),
    ],
)
def test_bad_detectors_are_caught(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_detector(replace(DETECTORS.get("email"), **change))


def _rule(function: Any) -> Any:
    return lambda updates, *, denominator: function(list(updates), denominator)


def _summed(held: Any, factor: Any = lambda number: 1.0) -> Any:
    return {name: sum(update[name] * factor(n) for n, update in enumerate(held)) for name in held[0]}


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("mean", {"summary": "no sentence"}, "whole sentence"),
        ("mean", {"rule": _rule(lambda held, d: {"a": _summed(held)["a"]})}, "other arrays"),
        ("mean", {"rule": _rule(lambda held, d: {n: a / 0 for n, a in _summed(held).items()})}, "not finite"),
        ("mean", {"rule": _rule(lambda held, d: {n: a.zero_() for n, a in held[0].items()})}, "writes into"),
        ("mean", {"rule": _rule(lambda held, d: _summed(held, lambda n: 1.0 if n else 2.0))}, "order"),
        ("mean", {"rule": _rule(lambda held, d: {n: a / d for n, a in _summed(held).items()})}, "at a time"),
        (
            "mean",
            {"streams": False, "rule": _rule(lambda held, d: _summed(held, lambda n: 1 / len(held)))},
            "says zero",
        ),
        ("mean", {"streams": False, "rule": _rule(lambda held, d: _summed(held, lambda n: 1 / 3))}, "twice the"),
        (
            "mean",
            {"streams": False, "rule": _rule(lambda held, d: _summed(held, lambda n: 2 / d))},
            "moves the outcome",
        ),
        ("median", {"bounded": True}, "says zero|twice the|moves the outcome"),
        ("median", {"fewest": 0}, "at least 1"),
        ("median", {"rule": _rule(lambda held, d: held[3] and _summed(held))}, "fails with 3 updates"),
    ],
)
def test_bad_aggregation_rules_are_caught(name: str, change: dict[str, Any], complaint: str) -> None:
    rule = replace(AGGREGATORS.get(name), **change)
    with pytest.raises(AssertionError, match=complaint):
        check_aggregation_rule(rule)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"summary": "no sentence"}, "whole sentence"),
        ({"private": ""}, "where chance or noise protects"),
        ({"units": ()}, "is checked before"),
        (
            {"settle": lambda material: private_prediction(replace(material, spec=fewer(material.spec)))},
            "gives 4 texts",
        ),
        ({"settle": lambda material: private_prediction(replace(material, key=KEY))}, "do not follow from the key"),
        ({"settle": lambda material: private_prediction(replace(material, spec=dearer(material.spec)))}, "for 6.0"),
    ],
)
def test_bad_synthesis_mechanisms_are_caught(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises((AssertionError, BadInput), match=complaint):
        check_synthesis_mechanism(replace(MECHANISMS.get("private_prediction"), **change))


def fewer(spec: SynthesisSpec) -> SynthesisSpec:
    return replace(spec, count=4)


def dearer(spec: SynthesisSpec) -> SynthesisSpec:
    return replace(spec, epsilon=7.0)


def test_bad_layer_rules_are_caught() -> None:
    rule = LAYER_RULES.get("linear")
    for change, complaint in (
        ({"example": None}, "needs an example"),
        ({"example": lambda: nn.GRU(8, 8)}, "no rule matches"),
        ({"example": lambda: nn.LayerNorm(8)}, "gets the rule layer_norm"),
        ({"example": nn.Identity}, "no trained parameter"),
    ):
        with pytest.raises(AssertionError, match=complaint):
            check_layer_rule(replace(rule, **change))


def test_a_layer_rule_that_computes_something_else_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = LAYER_RULES.get("linear")
    wrong = replace(rule, forward=lambda module, tape, x: rule.forward(module, tape, 1.5 * x))
    monkeypatch.setitem(LAYER_RULES._things, "linear", wrong)
    with pytest.raises(AssertionError):
        check_layer_rule(wrong)
