# SPDX-License-Identifier: Apache-2.0
"""Promised against audited: the accountant's ε of a private training beside the audit's bounds for the same unit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from reticent.auditing.guarantee.epsilon_bounds import EpsilonBound, epsilon_finding
from reticent.auditing.verdict import BROKEN
from reticent.core.errors import BadInput
from reticent.core.finding import Finding, Severity
from reticent.core.membership import Membership
from reticent.core.results import GuaranteeAudit, GuaranteeBound, GuaranteeCheck, GuaranteeRate
from reticent.core.run_folder import PROMISE_FILE
from reticent.models.emulation import is_emulation
from reticent.privacy.guarantee import EVERYTHING, PrivacyGuarantee
from reticent.privacy.spec import REPLACE_ONE
from reticent.stats.epsilon import gdp_epsilon

LOG = "train_log.json"
"""Beside the promise: the log of the training, with the engine's self-check."""

RATES = (0.01, 0.1)
"""False positive rates at which the promise says what it allows even if nothing was measured there."""

NOT_COVERED = (
    "What the base model had learned before this training.",
    "Choices made by looking at the data: settings tuned on them, users or records left out by their number.",
    "The run folder itself: records, coins, scores, held-out losses and this report are no output of the private "
    "training.",
)

OF_ENSEMBLES = ("What the large model of this ensemble had learned: it answers too, and no promise is about it.",)


class RecordedGuarantee(NamedTuple):
    """The guarantee on record in the folder of a privately trained model."""

    promise: PrivacyGuarantee
    checks: tuple[GuaranteeCheck, ...]
    """Of the engine's self-check."""
    not_covered: tuple[str, ...] = ()
    """Sentences of this model's own on what nothing is promised about."""


def read_guarantee(model: str | Path) -> RecordedGuarantee | None:
    """The promise in a model's folder; None where there is no such folder, or nothing was promised.

    Raises:
        BadInput: it, or the log of the training beside it, is broken.
    """
    path = Path(model) / PROMISE_FILE
    if not path.is_file():
        return None
    try:
        log = path.with_name(LOG)
        checks = json.loads(log.read_text(encoding="utf-8")).get("self_check", ()) if log.is_file() else ()
        return RecordedGuarantee(
            PrivacyGuarantee.from_json(path.read_text(encoding="utf-8")),
            tuple(GuaranteeCheck(**{"measured": ""} | row) for row in checks),
            OF_ENSEMBLES if is_emulation(model) else (),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(str(path), f"is broken ({error})", "Train again, or give the folder as it was.") from error
    except BadInput as error:
        raise BadInput(str(path), error.why, error.fix) from error


def proved_unit(promise: PrivacyGuarantee) -> str | None:
    """The unit for which the promise has a Gaussian mechanism's whole curve; None where only (ε, δ) is known."""
    return None if promise.allowed is None else promise.unit


def evaluate(
    recorded: RecordedGuarantee,
    bounds: Sequence[EpsilonBound],
    findings: Sequence[Finding],
    membership: Membership,
    *,
    confounded: bool,
    held_out: Mapping[str, int],
) -> GuaranteeAudit:
    """Compare every bound, AUC and true positive rate with the promise for its unit, where that can be done.

    * A bound of the promise's unit: against the promised ε. A bound that assumes Gaussian noise comes from one on μ:
      it is compared with the ε of the μ that covers the whole curve, where that is larger; and with nothing where the
      promise has no curve, since many shapes have that ε.
    * Only the primary bound of each kind of units can break the promise. The others are put beside it, each with what
      it assumes: that units do not interact is no part of any promise.
    * The AUC and the true positive rates of attacks on that unit, where each unit had a coin of its own: against the
      largest that the mechanism's curve allows.
    * A bound per user under a promise per record: against the ε that the promise implies for the largest user that
      could have been in (group privacy), at the same δ. Not a bound that assumes Gaussian noise: adding many
      records at once is no Gaussian mechanism.
    * Where units may be replaced: against the same promise, which is looser than necessary. A coin leaves a unit out,
      as if it were replaced by a unit that adds nothing.
    * A bound per record under a promise per user: against nothing. A record of a user who stays is replaced, which is
      removing a user and adding another: (2ε, (1 + e^ε)δ), and that δ says nothing.
    * Where only marked spans are promised: against nothing, since coins are thrown for whole texts.

    Args:
        recorded: promise and checks.
        bounds: at the promise's δ.
        findings: of the audit, for the AUC.
        membership: of all records.
        confounded: the sides of the data differ without any model.
        held_out: by level, the number of evaluated units that were not trained on.
    """
    promise, most = recorded.promise, recorded.promise.most
    implied = _user_epsilon(promise, membership)
    rows = tuple(_held_against(bound, promise, implied) for bound in bounds)
    of_unit = _of_unit(promise, findings, membership, confounded=confounded)
    best = _surest(of_unit, "auc")
    measured = {float(finding.metric.removeprefix("tpr@")) for finding in of_unit if finding.metric.startswith("tpr@")}
    return GuaranteeAudit(
        sentence=promise.sentence(),
        unit=promise.unit,
        epsilon=promise.epsilon,
        delta=promise.delta,
        user_epsilon=implied,
        user_delta=None if implied is None else promise.delta,
        bounds=rows,
        auc=None if best is None else best.estimate,
        auc_attack="" if best is None else best.attack,
        auc_limit=most.auc,
        auc_slack=0.0 if best is None else (most.auc - 0.5) / held_out[promise.unit],
        rates=tuple(_rate(fpr, promise, of_unit) for fpr in sorted({*RATES, *measured})),
        mu=most.mu,
        roc=most.roc,
        relation=promise.relation,
        checks=recorded.checks,
        not_covered=(*recorded.not_covered, *_not_covered(promise)),
        not_compared=_not_compared(rows, promise, membership, has_auc=best is not None),
    )


def violations(
    audited: GuaranteeAudit, bounds: Sequence[EpsilonBound], findings: Sequence[Finding]
) -> tuple[Finding, ...]:
    """A critical finding for each bound, AUC or rate of true positives that is above what was promised.

    Args:
        bounds: those of ``audited.bounds``, in their order.
        findings: of the audit.
    """
    broken = []
    for bound, row in zip(bounds, audited.bounds, strict=True):
        if row.broken:
            measurement = f"shows ε ≥ {row.estimate.lo:.2f} per {row.unit} at that δ ({row.units}; {row.assumption})"
            broken.append(
                _broken(epsilon_finding(bound), audited, f"{measurement}, and at most {row.promised:.2f} can be")
            )
    if audited.auc is not None and audited.auc_broken:
        measurement = f"finds {audited.unit}s with an AUC of at least {audited.auc.lo:.3f}"
        sentence = f"{measurement}, and at most {audited.auc_limit:.3f} can be"
        broken += [
            _broken(finding, audited, sentence) for finding in _whose(findings, audited.unit, "auc", audited.auc_attack)
        ]
    for rate in audited.rates:
        if rate.estimate is not None and rate.broken:
            measurement = f"finds at least {rate.estimate.lo:.1%} of the {audited.unit}s at {rate.fpr:.1%} false alarms"
            sentence = f"{measurement}, and at most {rate.limit:.1%} can be"
            metric = _metric(rate.fpr)
            broken += [
                _broken(finding, audited, sentence) for finding in _whose(findings, audited.unit, metric, rate.attack)
            ]
    return tuple(broken)


def _whose(findings: Sequence[Finding], level: str, metric: str, attack: str) -> list[Finding]:
    return [
        finding for finding in findings if (finding.level, finding.metric, finding.attack) == (level, metric, attack)
    ]


def _metric(fpr: float) -> str:
    return f"tpr@{fpr:g}"


def _broken(finding: Finding, audited: GuaranteeAudit, sentence: str) -> Finding:
    return replace(
        finding,
        metric=BROKEN,
        severity=Severity.CRITICAL,
        statement=f"A promise is broken: {audited.sentence}. This audit {sentence}.",
        advice="Do not release this model and do not state this ε. The training, its accounting or the coins are "
        "faulty: look at the self-check, and report it as a bug.",
    )


def _held_against(bound: EpsilonBound, promise: PrivacyGuarantee, implied: float | None) -> GuaranteeBound:
    promised: float | None = None
    why_not = ""
    if promise.covers != EVERYTHING:
        why_not = f"coins were thrown for whole {bound.randomized.unit}s, and the promise covers {promise.covers}"
    elif bound.randomized.confounded:
        why_not = "the two sides differ without the model, so the coins were not what made the difference"
    elif bound.randomized.unit == promise.unit:
        if not bound.gaussian:
            promised = promise.epsilon
        elif promise.allowed is not None:
            promised = max(promise.epsilon, gdp_epsilon(promise.allowed.mu, promise.delta))
        else:
            why_not = "a bound for Gaussian noise needs the curve of the mechanism, and this promise has none"
    elif promise.unit == "record" and bound.gaussian:
        why_not = "a bound for Gaussian noise says nothing against a promise per record that was carried over to users"
    elif promise.unit == "record":
        promised = implied
        why_not = "" if implied is not None else "no ε per user is known for this promise per record"
    else:
        why_not = "a promise per user says too little of one record of a user who stays"
    return GuaranteeBound(
        units=bound.randomized.units,
        unit=bound.randomized.unit,
        assumption=bound.assumption,
        estimate=bound.estimate,
        promised=promised,
        why_not=why_not,
        alone=not bound.primary,
    )


def _user_epsilon(promise: PrivacyGuarantee, membership: Membership) -> float | None:
    """The ε per user that a promise per record implies, for every user who had a coin, trained on or not.

    None where units may be replaced: nothing counts users who are. The number of the largest user's records is private
    and stands in no promise, so it is counted here: an audit is not released.
    """
    if promise.unit != "record" or promise.relation == REPLACE_ONE or not membership.has_users:
        return None
    largest = membership.most_of_a_user
    if not largest:
        return None
    # Here: the accountant takes a second to load, and most audits have no promise.
    from reticent.privacy.accounting import implied_user_epsilon
    from reticent.privacy.mechanism import Mechanism

    mechanism = Mechanism(noise_multiplier=promise.noise_multiplier, rate=promise.rate)
    return implied_user_epsilon(mechanism, records=largest, steps=promise.steps, delta=promise.delta)


def _of_unit(
    promise: PrivacyGuarantee, findings: Sequence[Finding], membership: Membership, *, confounded: bool
) -> tuple[Finding, ...]:
    """Findings on the promised unit that say something about the training: each unit had a coin of its own."""
    if confounded or membership.unit != promise.unit or promise.covers != EVERYTHING:
        return ()
    return tuple(finding for finding in findings if finding.level == promise.unit)


def _surest(findings: Sequence[Finding], metric: str) -> Finding | None:
    """The finding with the highest lower end. The intervals hold jointly, so it may be chosen after they were seen."""
    candidates = [finding for finding in findings if finding.metric == metric]
    return max(candidates, key=lambda finding: (finding.estimate.lo, finding.estimate.value), default=None)


def _rate(fpr: float, promise: PrivacyGuarantee, findings: Sequence[Finding]) -> GuaranteeRate:
    most = promise.most
    exact = {0.01: most.tpr_at_1pct_fpr, 0.1: most.tpr_at_10pct_fpr}
    best = _surest(findings, _metric(fpr))
    return GuaranteeRate(
        fpr=fpr,
        limit=exact.get(fpr, most.tpr_at(fpr)),
        estimate=None if best is None else best.estimate,
        attack="" if best is None else best.attack,
    )


def _not_covered(promise: PrivacyGuarantee) -> tuple[str, ...]:
    unit = {
        "record": "People: whoever has several records is protected less than one record is.",
        "user": "Groups of users taken together, and what others write about a user.",
    }[promise.unit]
    spans = () if promise.covers == EVERYTHING else (f"Anything but {promise.covers}.",)
    return (*spans, unit, *NOT_COVERED)


def _not_compared(
    rows: Sequence[GuaranteeBound], promise: PrivacyGuarantee, membership: Membership, *, has_auc: bool
) -> tuple[str, ...]:
    lines = [f"{row.units}: {row.why_not}." for row in rows if row.why_not]
    if not any(row.unit == promise.unit for row in rows):
        if membership.unit == "given":
            reason = "membership was given, so no coins are known to have been fair"
        elif membership.probability != 0.5:
            reason = f"coins came up with probability {membership.probability:g}, and bounds need 0.5"
        elif membership.unit != promise.unit:
            coins = f"coins were thrown for {membership.unit}s (--split_unit {promise.unit})"
            reason = f"{coins}, and too few secrets were planted"
        else:
            reason = "too few of them, or no attack that bounds ε ran"
        lines.append(
            f"No bound on ε per {promise.unit}: {reason}. Secrets bound it too: `reticent tune --canaries 200`."
        )
    if not has_auc:
        lines.append(f"No AUC per {promise.unit} that could be held against the promise.")
    return tuple(dict.fromkeys(lines))
