# SPDX-License-Identifier: Apache-2.0
"""Parts of what the verbs return: of `Results`, `Comparison`, `Difference`, `ScanResults`, `GateOutcome`, and of a
training's history.

Examples:
    >>> from reticent import Estimate
    >>> from reticent.results import *
    >>> auc = Estimate(value=0.71, lo=0.64, hi=0.78, n=400, method="DeLong")

    Of an audit:

    >>> Verdict(status="leaks", headline="Trained records can be told from others.").status
    'leaks'
    >>> AttackRun(
    ...     name="loss", level="record", access="logprob", paper="arXiv:1709.01604", summary="Loss.", ran=True
    ... ).ran
    True
    >>> Curve(attack="loss", level="record", fpr=(0.0, 1.0), tpr=(0.0, 1.0), n_member=200, n_held_out=200).band
    ()
    >>> Distribution(attack="loss", level="record", edges=(0.0, 1.0, 2.0), member=(3, 1), held_out=(1, 3)).member
    (3, 1)
    >>> ExposedUnit(unit="9f2c", level="record", rank=1, attack="loss", score=2.0, p_value=0.01).rank
    1
    >>> Confound(blind_auc=auc, near_duplicates=0, near_duplicate_share=None, separable=True).separable
    True
    >>> Power(level="record", metric="auc", smallest=0.56, power=0.8, n_member=200, n_held_out=200).smallest
    0.56
    >>> KindOfAttack(name="Identifiers", tried=False, line="Identifiers: are they known?; add --identifiers").tried
    False
    >>> LevelTest(
    ...     level="record", primary="loss", rethrown="records", exact=True, statistics=3, draws=999, error=0.01,
    ...     p_value=0.002,
    ... ).p_value
    0.002

    A section of any kind of evidence has tables of typed cells:

    >>> columns = (Column(name="attack", label="attack"), Column(name="auc", label="AUC", kind="estimate"))
    >>> table = Table(name="membership", title="Attacks", columns=columns, rows=((Words(text="loss"), auc),))
    >>> section = Section(name="echo", title="Echoes", tables=(table,))
    >>> len(section.tables[0].rows), Mark(text="critical").raised
    (1, True)

    Of what came out, and of planted secrets:

    >>> bits = Estimate(value=6.0, lo=4.0, hi=8.0, n=12, method="order statistics", unit="bits")
    >>> CanaryExposure(
    ...     tier="planted 4 times", kind="record", repetitions=4, bits=bits, each=(6.0,), ceiling=8.0
    ... ).ceiling
    8.0
    >>> row = ExtractionRow(
    ...     attack="discoverable", family="extraction", group="planted 4 times", metric="share", target=auc, base=None,
    ...     difference=None, n=400, access="text", summary="Greedy continuation.",
    ... )
    >>> curve = ExtractionCurve(
    ...     group=row.group, control=False, p=0.5, queries=(1.0, 10.0), target=(0.1, 0.4), base=(0.0, 0.0), n=12
    ... )
    >>> len(Extraction(rows=(row,), curves=(curve,)).rows)
    1

    Of an audited promise of differential privacy:

    >>> epsilon = Estimate(value=1.2, lo=1.2, hi=float("inf"), n=400, method="one run", unit="nats")
    >>> bound = GuaranteeBound(units="records", unit="record", assumption="", estimate=epsilon, promised=8.0)
    >>> rate = GuaranteeRate(fpr=0.01, limit=0.2)
    >>> check = GuaranteeCheck(name="noise", measured="1.0", bound="1.0", passed=True)
    >>> promise = GuaranteeAudit(
    ...     sentence="ε = 8 per record", unit="record", epsilon=8.0, delta=1e-5, user_epsilon=None, user_delta=None,
    ...     bounds=(bound,), auc=auc, auc_attack="loss", auc_limit=0.99, checks=(check,), not_covered=(),
    ...     not_compared=(), rates=(rate,),
    ... )
    >>> promise.broken
    False
    >>> LimitCheck(name="max_auc", limit=0.6, state="failed", measured=auc, attack="loss", reason="0.71 is above").line
    'FAIL          max_auc 0.6: 0.71 is above'

    Of two audits of the same coins:

    >>> AuditSummary(title="before", created="2026-01-01", status="leaks", headline="It leaks.", about={}).title
    'before'
    >>> lower = Estimate(value=-0.1, lo=-0.2, hi=-0.05, n=400, method="paired")
    >>> Change(attack="loss", level="record", metric="auc", before=auc, after=auc, change=lower).change.hi < 0
    True

    Of the verification of an unlearning:

    >>> after = UnlearningModel(name="unlearned", role="after", fingerprint="9f2c")
    >>> number = Measurement(
    ...     check="membership", model="unlearned", role="after", what="loss", metric="auc", estimate=auc, chance=0.5
    ... )
    >>> point = PlanePoint(name="npo", role="after", forget=auc, retain=auc)
    >>> bar = Bar(treatment="8 bits", model="unlearned", role="after", auc=auc)
    >>> check = UnlearningCheck(
    ...     name="membership", section=section, measured=(number,), points=(point,), bars=(bar,), word="still known"
    ... )
    >>> verdict = UnlearningVerdict(status="still_known", headline="The forget set is still known.")
    >>> look = UnlearningLook(step=10, aucs={"loss": auc})
    >>> promise = UserPromise(epsilon=8.0, delta=1e-5, sentence="ε = 8 per user")
    >>> from reticent import UnlearningResults
    >>> UnlearningResults(
    ...     title="without", created="2026-01-01", verdict=verdict, margin=0.1, confidence=0.95, models=(after,),
    ...     checks=(check,), looks=(look,), promise=promise,
    ... ).forget_aucs[0].value
    0.71

    Of a scan:

    >>> evidence = ScanEvidence(score=2.0, where="model.bin", note="loading it calls os.system", certain=True)
    >>> outcome = ScanOutcome(
    ...     name="pickles", title="Pickles that run code", kind="files", null="rule", word="found",
    ...     sentence="model.bin: loading it calls os.system.", blind_to="The weights.", evidence=(evidence,),
    ... )
    >>> bill = ScannedFile(path="model.bin", bytes=40, sha256="", content="pickle")
    >>> from reticent import ScanResults
    >>> ScanResults(
    ...     title="model", created="2026-01-01", verdict=ScanVerdict(word="found", headline="Found: pickles"),
    ...     level=0.05, outcomes=(outcome,), files=(bill,),
    ... ).outcome("pickles").evidence[0].where
    'model.bin'

    Of a comparison of ways to tune:

    >>> loss = Estimate(value=3.1, lo=3.0, hi=3.2, n=400, method="bootstrap", unit="nats")
    >>> matched = MatchedUtility(setting=0, loss=3.1, auc=auc, tpr_at_10pct_fpr=None, between=((1e-4, 10), (1e-4, 20)))
    >>> fairness = Fairness(setting=0, learning_rate=1e-4, kl=None, records=auc, users=None, losses=(loss,))
    >>> setting = Setting(
    ...     name="lora", method="lora", params={}, defence="none", about="no defence", matched=matched,
    ...     fairness=fairness,
    ... )
    >>> setting.matched.auc.value
    0.71
    >>> Point(
    ...     setting=0, learning_rate=1e-4, step=10, epoch=1.0, seeds=1, loss=loss, auc=auc, tpr_at_10pct_fpr=None,
    ...     user_auc=None, user_gap=None, gap=loss,
    ... ).phase
    'start'
    >>> SettingPair(a=0, b=1, kind="method", loss=3.1, auc=lower, tpr_at_10pct_fpr=None, less=0).less
    0
    >>> TrialRow(name="lora_0.0001_none_seed0", setting=0, learning_rate=1e-4, seed=0, status="done").status
    'done'
    >>> Association(what="gap", rho=auc, points=12).points
    12
    >>> ComposedEpsilon(
    ...     unit="record", epsilon=9.0, check=10.0, delta=1e-5, relation="add_or_remove", trainings=2, of_one_unit=2,
    ...     sum_epsilon=12.0, sum_delta=2e-5,
    ... ).trainings
    2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reticent.core.lazy import lazy_names

if TYPE_CHECKING:
    from reticent.core.comparison import Association as Association
    from reticent.core.comparison import AuditedSetting as AuditedSetting
    from reticent.core.comparison import Fairness as Fairness
    from reticent.core.comparison import MatchedUtility as MatchedUtility
    from reticent.core.comparison import Point as Point
    from reticent.core.comparison import Setting as Setting
    from reticent.core.comparison import SettingPair as SettingPair
    from reticent.core.comparison import TrialRow as TrialRow
    from reticent.core.composed_epsilon import ComposedEpsilon as ComposedEpsilon
    from reticent.core.difference import AuditSummary as AuditSummary
    from reticent.core.difference import Change as Change
    from reticent.core.results import AttackRun as AttackRun
    from reticent.core.results import CanaryExposure as CanaryExposure
    from reticent.core.results import Confound as Confound
    from reticent.core.results import Curve as Curve
    from reticent.core.results import Distribution as Distribution
    from reticent.core.results import ExposedUnit as ExposedUnit
    from reticent.core.results import Extraction as Extraction
    from reticent.core.results import ExtractionCurve as ExtractionCurve
    from reticent.core.results import ExtractionRow as ExtractionRow
    from reticent.core.results import GuaranteeAudit as GuaranteeAudit
    from reticent.core.results import GuaranteeBound as GuaranteeBound
    from reticent.core.results import GuaranteeCheck as GuaranteeCheck
    from reticent.core.results import GuaranteeRate as GuaranteeRate
    from reticent.core.results import KindOfAttack as KindOfAttack
    from reticent.core.results import LevelTest as LevelTest
    from reticent.core.results import Power as Power
    from reticent.core.results import Verdict as Verdict
    from reticent.core.scan_results import ScanEvidence as ScanEvidence
    from reticent.core.scan_results import ScannedFile as ScannedFile
    from reticent.core.scan_results import ScanOutcome as ScanOutcome
    from reticent.core.scan_results import ScanVerdict as ScanVerdict
    from reticent.core.section import Column as Column
    from reticent.core.section import Mark as Mark
    from reticent.core.section import Section as Section
    from reticent.core.section import Table as Table
    from reticent.core.section import Words as Words
    from reticent.core.stated_epsilon import StatedEpsilon as StatedEpsilon
    from reticent.core.text_utility import AuditedText as AuditedText
    from reticent.core.text_utility import TextUtility as TextUtility
    from reticent.core.unlearning import Bar as Bar
    from reticent.core.unlearning import Measurement as Measurement
    from reticent.core.unlearning import PlanePoint as PlanePoint
    from reticent.core.unlearning import UnlearningCheck as UnlearningCheck
    from reticent.core.unlearning import UnlearningLook as UnlearningLook
    from reticent.core.unlearning import UnlearningModel as UnlearningModel
    from reticent.core.unlearning import UnlearningVerdict as UnlearningVerdict
    from reticent.core.unlearning import UserPromise as UserPromise
    from reticent.workflows.gate import LimitCheck as LimitCheck

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
