# SPDX-License-Identifier: Apache-2.0
"""Attacks and parameters as people write them: read, or refused with what to write."""

from __future__ import annotations

import contextlib
import json
from typing import Annotated, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.attacks import ATTACKS, read_selection
from reticent.attacks.evidence import ATTACK_FAMILIES, EVIDENCE, FAMILY_OF, LABELS
from reticent.attacks.parameter import Parameter, Within, shown
from reticent.attacks.selection import LONGEST
from reticent.auditing.config import AuditConfig
from reticent.auditing.family import FAMILIES
from reticent.core.errors import BadInput
from reticent.testing.planted import plant


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ("min_k", {"min_k": {}}),
        ("min_k(k=0.1),wbc", {"min_k": {"k": 0.1}, "wbc": {}}),
        (" min_k ( k = 0.1 ) ,\n wbc ,", {"min_k": {"k": 0.1}, "wbc": {}}),
        ("min_k()", {"min_k": {}}),
        ("min_k(k=1)", {"min_k": {"k": 1.0}}),
        ("rmia(a=0.2,gamma=2)", {"rmia": {"a": 0.2, "gamma": 2.0}}),
        ("wbc(windows=paper)", {"wbc": {"windows": "paper"}}),
        ("wbc(windows='paper')", {"wbc": {"windows": "paper"}}),
        ('wbc(windows="paper"),loss', {"wbc": {"windows": "paper"}, "loss": {}}),
        ("wbc(windows=[2,3,5])", {"wbc": {"windows": (2, 3, 5)}}),
        ("wbc(windows=(2,3))", {"wbc": {"windows": (2, 3)}}),
        ("ez_mia(drop_first=true,n_zero=official)", {"ez_mia": {"drop_first": True, "n_zero": "official"}}),
        ("ez_mia(drop_first=False)", {"ez_mia": {"drop_first": False}}),
        ("rmia_shadow_offline(a=none)", {"rmia_shadow_offline": {"a": None}}),
        ("probabilistic_np(n=2e3)", {"probabilistic_np": {"n": 2000}}),
        ('{"min_k": {"k": 0.1}, "wbc": {}}', {"min_k": {"k": 0.1}, "wbc": {}}),
        ({"min_k": {"k": 0.1}, "wbc": None}, {"min_k": {"k": 0.1}, "wbc": {}}),
        ({"wbc": {"windows": [2, 3]}}, {"wbc": {"windows": (2, 3)}}),
        ("standard,all", {}),
    ],
)
def test_what_is_meant_is_read(given_, named):
    assert read_selection(given_).named == named


@pytest.mark.parametrize(
    ("given_", "match"),
    [
        ("min_kk", "Did you mean 'min_k'"),
        ("min_k(kk=0.1)", "Did you mean 'k'.*It has: k"),
        ("loss(k=1)", "no parameters"),
        ("min_k(k=2)", r"k=2: must be a number in \(0, 1\]. Its default is 0.2"),
        ("min_k(k=0)", "must be a number"),
        ("min_k(k=-0.1)", "must be a number"),
        ("min_k(k=nan)", "must be a number"),
        ("min_k(k=1e999)", "must be a number"),
        ("min_k(k=true)", "must be a number"),
        ("min_k(k=none)", "must be a number"),
        ("min_k(k=half)", "must be a number"),
        ("min_k(k=[0.1])", "must be a number"),
        ("min_k(k=" + "9" * 4000 + ")", "must be a number"),
        ("rmia(gamma=inf)", "must be a number"),
        ("ez_mia(n_zero=middle)", "must be top or official"),
        ("ez_mia(drop_first=1)", "must be true or false"),
        ("wbc(windows=[])", "must be repository or paper or a list"),
        ("wbc(windows=[0,2])", "whole number in"),
        ("wbc(windows=[2.5])", "whole number in"),
        ("probabilistic_np(n=0)", "whole number in"),
        ("probabilistic_np(n=1.5)", "whole number in"),
        ("min_k(0.1)", "does not say which parameter"),
        ("min_k(k=)", "has no value"),
        ("min_k(k=0.1,k=0.2)", "'k': is given twice"),
        ("min_k,loss,min_k(k=0.1)", "'min_k': is given twice"),
        ("standard,standard", "is given twice"),
        ('{"min_k": {}, "min_k": {"k": 0.1}}', "is given twice"),
        ("standard(k=1)", "stands for many attacks"),
        ("min_k(k=0.1", r"lacks a closing '\)'"),
        ("min_k k=0.1)", "nothing opens"),
        ("min_k(k=(0.1])", "nothing opens"),
        ("min_k k=0.1", "no name with parameters"),
        ("min_k(k='0.1)", "lacks a closing"),
        ("", "names no attack"),
        (",,", "names no attack"),
        ({}, "names no attack"),
        ("{broken", "lacks a closing|no JSON"),
        ('{"min_k": 1}', "no mapping of parameters"),
        ({"min_k": 0.1}, "no mapping of parameters"),
        ({3: {}}, "no mapping of parameters"),
        ({"min_k": {1: 2}}, "no name of a parameter"),
        (["loss"], "no names of attacks"),
        (None, "no names of attacks"),
        ("x" * (LONGEST + 1), "more than anybody would write"),
        ("min_k(k=" + "[" * 4000 + "]" * 4000 + ")", "must be a number"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(given_, match):
    with pytest.raises(BadInput, match=match) as caught:
        read_selection(given_)
    assert len(str(caught.value)) < 2000


@settings(max_examples=40)
@given(st.text(max_size=60) | st.text(alphabet="min_kwbc(=)[]{},'\"0.1 ", max_size=40))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(BadInput):
        read_selection(text)


@settings(max_examples=20)
@given(k=st.floats(min_value=1e-6, max_value=1.0))
def test_what_is_shown_is_read_back(k):
    attack = ATTACKS.get("min_k").with_params(k=k)
    assert read_selection(f"min_k(k={k!r})").named["min_k"]["k"] == k
    assert read_selection(f"min_k(k={shown(k)})").named["min_k"]["k"] == attack.params["k"]


def test_a_set_parameter_is_the_one_that_counts():
    tables = {name: table.trained() for name, table in plant(ATTACKS.get("min_k"), records=30).tables.items()}
    (attack,) = (attack for attack in read_selection("min_k(k=1)").of_family("membership") if attack.name == "min_k")
    np.testing.assert_allclose(attack.score(tables), ATTACKS.get("loss").score(tables))
    assert np.abs(attack.score(tables) - ATTACKS.get("min_k").score(tables)).min() > 0


def test_every_default_can_be_written_as_it_is_listed():
    for attack in ATTACKS:
        if attack.parameters:
            written = ",".join(f"{name}={shown(one.default)}" for name, one in attack.parameters.items())
            assert read_selection(f"{attack.name}({written})").named[attack.name] == attack.params


def test_naming_what_is_switched_off_is_refused_before_a_model_is_loaded():
    for name in ("near_verbatim(off_by=0.2)", "pii_inference", "natural_identifiers", "whitebox_auditor"):
        with pytest.raises(BadInput, match="which is off"):
            AuditConfig(attacks=name)
    AuditConfig(attacks="near_verbatim(off_by=0.2),pii_inference", extraction=True)
    AuditConfig(attacks="natural_identifiers", identifiers=True)
    AuditConfig(attacks="whitebox_auditor", whitebox=True)
    AuditConfig(attacks="combination")
    for wrong in ("min_kk", "min_k(k=2)", {"min_k": {"kk": 1}}):
        with pytest.raises(BadInput):
            AuditConfig(attacks=wrong)


def test_settings_can_be_written_to_a_file():
    config = AuditConfig(attacks={"wbc": {"windows": (2, 3)}, "min_k": {"k": 0.1}})
    assert AuditConfig(attacks=json.loads(json.dumps(config.attacks))).selection == config.selection


def test_families_of_attacks_are_switched_on_as_the_audit_says():
    assert set(FAMILY_OF.values()) == set(ATTACK_FAMILIES)
    assert {evidence.source for evidence in EVIDENCE.values()} == {*FAMILY_OF, LABELS}
    for name, family in ATTACK_FAMILIES.items():
        assert not family.switch or hasattr(AuditConfig(), family.switch)
        if name in FAMILIES:
            assert (FAMILIES.get(name).switch or "") == family.switch


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (Annotated[int, Within("[1, 5)")], [1, 4, 4.0], [0, 5, 4.5, True, "4"]),
        (Annotated[float, Within("(-1, 1)")], [0, -0.5], [-1, 1, float("nan"), 10**400]),
        (Literal["a", 1], ["a", 1], ["b", True, 2]),
        (tuple[int, str], [(1, "a"), [1, "a"]], [(1,), ("a", 1), 1]),
        (bool | None, [True, None], [0, "none"]),
        (str, ["x"], [1, None]),
    ],
)
def test_types_of_parameters(hint, good, bad):
    parameter = Parameter(name="p", default=None, hint=hint)
    for value in good:
        assert parameter.read("x", value) == (tuple(value) if isinstance(value, list) else value)
    for value in bad:
        with pytest.raises(BadInput, match="p="):
            parameter.read("x", value)


def test_a_range_that_is_none_is_a_slip():
    with pytest.raises(ValueError, match="no interval"):
        Within("0 to 1")
