# SPDX-License-Identifier: Apache-2.0
"""Promised against audited: what is compared with what, what is not and why, and what a broken promise leads to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from reticent.auditing.family import leak_levels
from reticent.auditing.guarantee.epsilon_bounds import EpsilonBound, RandomizedUnits, epsilon_bounds, epsilon_finding
from reticent.auditing.guarantee.evaluate import RecordedGuarantee, evaluate, proved_unit, read_guarantee, violations
from reticent.auditing.membership.level import AttackScores
from reticent.auditing.verdict import verdict
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.core.membership import Membership
from reticent.core.results import Confound, GuaranteeAudit
from reticent.privacy.accounting import implied_user_epsilon
from reticent.privacy.check import SelfCheckItem
from reticent.privacy.guarantee import SPANS, PrivacyGuarantee, auroc_bound
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.tradeoff import of_gaussian
from reticent.stats.epsilon import gdp_epsilon

THREAT = ThreatModel(access="logprob")
PROMISE = PrivacyGuarantee(
    epsilon=2.0,
    delta=1e-5,
    unit="record",
    neighbouring="add or remove one record",
    mechanism="Poisson-sampled Gaussian mechanism",
    accountant="PLD accountant",
    noise_multiplier=2.0,
    rate=0.1,
    steps=30,
    units=500,
    check=2.2,
    implied=((2, 4.0), (10, 15.0)),
)
USERS = replace(PROMISE, unit="user", neighbouring="add or remove one user", implied=())
CURVE = of_gaussian(0.4).allowed(1e-5)
STATED = replace(PROMISE, epsilon=1.5, allowed=CURVE)
"""With the curve of the very mechanism, which allows far less than (ε, δ) alone."""


def randomized(unit: str = "record", *, shift: float = 0.0, confounded: bool = False, n: int = 600) -> RandomizedUnits:
    rng = np.random.default_rng(3)
    member = rng.random(n) < 0.5
    scored = AttackScores(name="ref_ratio", score=rng.normal(shift * member), threat=THREAT)
    return RandomizedUnits(units=f"{unit}s", level=unit, unit=unit, member=member, scored=scored, confounded=confounded)


def membership_of(unit: str = "record", *, per_user: int = 4, probability: float = 0.5) -> Membership:
    """Ten users who are in and ten who are out, of whose records ``per_user`` are (or would be) trained on."""
    user = np.repeat([f"u{i}" for i in range(20)], 2 * per_user).astype(object)
    inside = np.repeat(np.arange(20) < 10, 2 * per_user)
    train = np.tile(np.arange(2 * per_user) < per_user, 20)
    return Membership(
        record_id=np.arange(len(user)).astype(str).astype(object),
        member=train & inside,
        user=user,
        user_member=inside,
        role=np.where(train & ~inside, "spare", "evaluate").astype(object),
        unit=unit,
        probability=probability,
    )


def by_shape(plain: float | None, gaussian: float | None) -> list[float | None]:
    """The promised ε that each of the six bounds of a kind of units is compared with: two assume no Gaussian noise."""
    return [plain, gaussian, plain, gaussian, gaussian, gaussian]


def implied(records: int) -> float:
    return implied_user_epsilon(Mechanism(noise_multiplier=2.0, rate=0.1), records=records, steps=30, delta=1e-5)


def audited(
    promise: PrivacyGuarantee,
    *units: RandomizedUnits,
    membership: Membership | None = None,
    auc: float | None = None,
    rates: Mapping[str, float] = MappingProxyType({}),
) -> tuple[GuaranteeAudit, list[EpsilonBound], list[Finding]]:
    bounds = list(epsilon_bounds(units, delta=promise.delta, confidence=0.95, gaussian=proved_unit(promise)).found)
    findings = [epsilon_finding(bound) for bound in bounds]
    if auc is not None:
        estimate = Estimate(value=auc, lo=auc - 0.05, hi=min(auc + 0.05, 1), n=600, method="DeLong")
        template = Finding(
            attack="loss", level=promise.unit, metric="auc", estimate=estimate, severity=Severity.HIGH, threat=THREAT,
            statement="",
        )  # fmt: skip
        findings += [template, replace(template, attack="zlib", estimate=replace(estimate, lo=auc - 0.1))]
    for metric, tpr in rates.items():
        estimate = Estimate(value=tpr, lo=tpr - 0.02, hi=tpr + 0.02, n=600, method="Clopper-Pearson")
        high = {"severity": Severity.HIGH, "threat": THREAT, "statement": ""}
        findings.append(Finding(attack="zlib", level=promise.unit, metric=metric, estimate=estimate, **high))
    membership = membership or membership_of(promise.unit)
    held_out = {"record": 300, "user": 300}
    guarantee = evaluate(
        RecordedGuarantee(promise, ()), bounds, findings, membership, confounded=False, held_out=held_out
    )
    return guarantee, bounds, findings


def test_a_bound_of_the_promised_unit_is_held_against_it() -> None:
    guarantee, _, _ = audited(PROMISE, randomized(), auc=0.6)
    assert [bound.promised for bound in guarantee.bounds] == by_shape(2.0, None)
    assert [bound.alone for bound in guarantee.bounds] == [False] + [True] * 5
    assert guarantee.mu == PROMISE.most.mu
    assert all(bound.estimate.unit.startswith("nats (δ = 1e-05") for bound in guarantee.bounds)
    assert not guarantee.broken
    assert guarantee.auc is not None
    assert (guarantee.auc_attack, guarantee.auc.value) == ("loss", 0.6)
    assert guarantee.auc_limit == pytest.approx(auroc_bound(2.0, 1e-5), abs=2e-6)
    assert guarantee.auc_slack == (guarantee.auc_limit - 0.5) / 300
    assert [(rate.fpr, rate.estimate, rate.attack) for rate in guarantee.rates] == [(0.01, None, ""), (0.1, None, "")]
    assert guarantee.not_compared == (
        "records: a bound for Gaussian noise needs the curve of the mechanism, and this promise has none.",
    )
    assert (guarantee.user_epsilon, guarantee.user_delta) == (implied(4), 1e-5)


def test_with_the_curve_of_the_mechanism_far_less_is_allowed() -> None:
    guarantee, bounds, findings = audited(
        STATED, randomized(), auc=0.62, rates={"tpr@0.1": 0.19, "tpr@0.01": 0.02, "tpr@0.001": 0.0}
    )
    assert (guarantee.auc_limit, guarantee.mu, guarantee.roc) == (CURVE.auc, CURVE.mu, CURVE.roc)
    assert [bound.promised for bound in guarantee.bounds] == by_shape(1.5, max(1.5, gdp_epsilon(CURVE.mu, 1e-5)))
    assert [bound.alone for bound in guarantee.bounds] == [True, False] + [True] * 4
    assert guarantee.not_compared == ()
    assert [(rate.fpr, rate.limit) for rate in guarantee.rates] == [
        (0.001, CURVE.tpr_at(0.001)),
        (0.01, CURVE.tpr_at_1pct_fpr),
        (0.1, CURVE.tpr_at_10pct_fpr),
    ]
    assert not guarantee.broken
    assert violations(guarantee, bounds, findings) == ()
    more, bounds, findings = audited(STATED, randomized(), auc=0.7, rates={"tpr@0.1": 0.3})
    assert more.broken
    assert [(finding.attack, finding.metric) for finding in violations(more, bounds, findings)] == [
        ("loss", "promise_broken"),
        ("zlib", "promise_broken"),
    ]
    assert "28.0% of the records at 10.0% false alarms" in violations(more, bounds, findings)[1].statement
    # What (ε, δ) alone allows would have passed for kept.
    assert not audited(replace(STATED, allowed=None), randomized(), auc=0.7, rates={"tpr@0.1": 0.3})[0].broken


def test_only_what_is_certain_breaks_a_promise() -> None:
    """Values above the limits, lower ends below them; and an AUC that only exceeds the limit as one run can."""
    guarantee, _, _ = audited(STATED, auc=CURVE.auc + 0.04, rates={"tpr@0.1": CURVE.tpr_at_10pct_fpr + 0.01})
    assert not guarantee.broken
    assert not audited(STATED, auc=CURVE.auc + 0.05 + 0.9 * guarantee.auc_slack)[0].broken
    assert audited(STATED, auc=CURVE.auc + 0.05 + 1.1 * guarantee.auc_slack)[0].broken


def test_records_of_users_who_had_the_coin_are_not_held_against_a_promise_per_record() -> None:
    """All records of a user come in together, which is more than one record."""
    guarantee, _, _ = audited(
        STATED, randomized("user"), membership=membership_of("user"), auc=0.99, rates={"tpr@0.1": 0.9}
    )
    assert guarantee.auc is None
    assert [rate.estimate for rate in guarantee.rates] == [None, None]
    assert not guarantee.broken


def test_where_units_may_be_replaced_coins_are_held_against_more_than_they_could_show() -> None:
    replaced = replace(STATED, relation="replace_one", neighbouring="replace one record", implied=())
    guarantee, _, _ = audited(replaced, randomized(), randomized("user"), auc=0.6)
    assert [bound.promised for bound in guarantee.bounds][:1] == [1.5]
    assert [bound.promised for bound in guarantee.bounds][6:] == [None] * 6
    assert guarantee.user_epsilon is None
    assert guarantee.relation == "replace_one"
    assert "no ε per user is known" in guarantee.not_compared[0]


def test_users_are_held_against_what_a_promise_per_record_implies_for_the_largest_user_with_a_coin() -> None:
    guarantee, _, _ = audited(PROMISE, randomized("user"), membership=membership_of("user", per_user=6))
    assert [bound.promised for bound in guarantee.bounds] == by_shape(implied(6), None)
    # Someone who is out would have been larger than anyone who is in: the group is theirs.
    large = membership_of("user", per_user=9)
    guarantee, _, _ = audited(PROMISE, randomized("user"), membership=large)
    assert [bound.promised for bound in guarantee.bounds] == by_shape(implied(9), None)
    # However many records that is, it is counted here, and not read in the promise, which is published.
    guarantee, _, _ = audited(replace(PROMISE, implied=()), randomized("user"), membership=large)
    assert [bound.promised for bound in guarantee.bounds] == by_shape(implied(9), None)
    nameless = replace(large, user=np.full(len(large), None))
    guarantee, _, _ = audited(PROMISE, randomized("user"), membership=nameless)
    assert [bound.promised for bound in guarantee.bounds] == [None] * 6
    assert "no ε per user is known" in guarantee.not_compared[0]


@pytest.mark.parametrize(
    ("promise", "unit", "reason"),
    [
        (USERS, randomized("record", shift=9), "one record of a user who stays"),
        (replace(PROMISE, covers=SPANS), randomized("record", shift=9), "coins were thrown for whole records"),
        (PROMISE, randomized("record", shift=9, confounded=True), "differ without the model"),
    ],
)
def test_what_cannot_be_compared_breaks_nothing_and_says_why(
    promise: PrivacyGuarantee, unit: RandomizedUnits, reason: str
) -> None:
    guarantee, bounds, findings = audited(promise, unit, auc=0.99 if promise.covers == SPANS else None)
    assert [bound.promised for bound in guarantee.bounds] == [None] * 6
    assert reason in guarantee.not_compared[0]
    assert not guarantee.broken
    assert violations(guarantee, bounds, findings) == ()


@pytest.mark.parametrize(
    ("membership", "reason"),
    [
        (replace(membership_of(), unit="given", probability=float("nan")), "membership was given"),
        (membership_of(probability=0.9), "probability 0.9"),
        (membership_of("user"), "coins were thrown for users (--split_unit record)"),
        (membership_of("record"), "too few of them"),
    ],
)
def test_it_says_why_there_is_no_bound(membership: Membership, reason: str) -> None:
    guarantee, _, _ = audited(PROMISE, membership=membership)
    assert guarantee.bounds == ()
    assert reason in guarantee.not_compared[0]
    assert "No AUC per record" in guarantee.not_compared[1]


def test_a_broken_promise_is_critical_and_heads_the_verdict() -> None:
    guarantee, bounds, findings = audited(PROMISE, randomized(shift=9), auc=0.95)
    assert guarantee.broken
    broken = violations(guarantee, bounds, findings)
    assert len(broken) == 2  # the primary bound and the AUC
    assert {finding.severity for finding in broken} == {Severity.CRITICAL}
    assert PROMISE.sentence() in broken[0].statement
    assert (
        "per record at that δ (records; no assumption on the training), and at most 2.00 can be" in broken[0].statement
    )
    assert "AUC of at least 0.900" in broken[-1].statement
    clean = Confound(blind_auc=None, near_duplicates=0, near_duplicate_share=None, separable=False)
    answer = verdict([*broken, *findings], clean, (), levels=leak_levels())
    assert answer.status == "leaks"
    assert "promise is broken" in answer.headline
    assert answer.sentences[0] == broken[0].statement


def test_a_bound_that_holds_only_by_itself_breaks_nothing_alone() -> None:
    guarantee, bounds, findings = audited(STATED, randomized(shift=0.6))
    above = [row for row in guarantee.bounds if row.promised is not None and row.estimate.lo > row.promised]
    assert above
    assert all(row.alone for row in above)
    assert not guarantee.broken
    assert violations(guarantee, bounds, findings) == ()


def test_an_auc_above_what_the_promise_allows_is_enough() -> None:
    guarantee, bounds, findings = audited(PROMISE, randomized(), auc=0.95)
    assert not any(bound.broken for bound in guarantee.bounds)
    assert [finding.attack for finding in violations(guarantee, bounds, findings)] == ["loss"]


def test_what_lies_beside_a_model_is_read(tmp_path: Path) -> None:
    assert read_guarantee("no/such/folder") is None
    assert read_guarantee(tmp_path) is None
    (tmp_path / "privacy.json").write_text(PROMISE.to_json(), encoding="utf-8")
    assert read_guarantee(tmp_path) == RecordedGuarantee(PROMISE, ())
    check = SelfCheckItem(name="noise", measured="1.00", bound="1", passed=True)
    (tmp_path / "train_log.json").write_text(
        json.dumps({"self_check": [asdict(check), {"name": "sum", "bound": "", "passed": None}]}), encoding="utf-8"
    )
    recorded = read_guarantee(tmp_path)
    assert recorded is not None
    assert asdict(recorded.checks[0]) == asdict(check)
    assert (recorded.checks[1].measured, recorded.checks[1].passed) == ("", None)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 9}', PROMISE.to_json().replace('"epsilon"', '"eps"')])
def test_a_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "privacy.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"privacy\.json"):
        read_guarantee(tmp_path)
