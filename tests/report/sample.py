# SPDX-License-Identifier: Apache-2.0
"""Realistic Results for tests and for looking at the page: numbers are drawn, not made up by hand, and seeded."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.core.results import (
    AttackRun,
    CanaryExposure,
    Confound,
    Curve,
    Distribution,
    ExposedUnit,
    Extraction,
    ExtractionCurve,
    ExtractionRow,
    GuaranteeAudit,
    GuaranteeBound,
    GuaranteeCheck,
    GuaranteeRate,
    Power,
    Results,
    Verdict,
)
from reticent.core.section import Column, Mark, Section, Table, Words
from reticent.privacy.tradeoff import of_gaussian

# name, level, access, paper, needs, separation of members from held-out in standard deviations (leaking model)
ATTACKS = [
    ("ratio", "record", "logprob", "arXiv:2112.03570", ("reference model",), 2.6),
    ("ez_mia", "record", "logprob", "", ("reference model",), 2.4),
    ("difference", "record", "logprob", "arXiv:2012.07805", ("reference model",), 2.2),
    ("rmia", "record", "logprob", "arXiv:2312.03262", ("reference model", "known non-members"), 2.0),
    ("wbc", "record", "logprob", "", ("reference model",), 1.9),
    ("min_k_plus", "record", "logits", "arXiv:2404.02936", (), 1.3),
    ("loss", "record", "logprob", "arXiv:1709.01604", (), 1.2),
    ("min_k", "record", "logprob", "arXiv:2310.16789", (), 1.15),
    ("zlib", "record", "logprob", "arXiv:2012.07805", (), 1.1),
    ("neighbourhood", "record", "logprob", "arXiv:2305.18462", ("proposal model",), 1.0),
    ("lowercase", "record", "logprob", "arXiv:2012.07805", (), 0.8),
    ("recall", "record", "logprob", "arXiv:2406.15968", ("known non-members",), 0.7),
    ("con_recall", "record", "logprob", "arXiv:2409.03363", ("known members", "known non-members"), 0.75),
    ("user_statistic", "user", "logprob", "arXiv:2310.09266", ("reference model", "fresh texts of the user"), 0.8),
    ("user_mean_ratio", "user", "logprob", "arXiv:2310.09266", ("reference model", "fresh texts of the user"), 0.7),
    ("user_max_loss", "user", "logprob", "arXiv:2310.09266", ("fresh texts of the user",), 0.4),
]
SUMMARY = "How much more likely the target finds the text than the reference model does, per token."


def estimate(value: float, half: float, n: int, method: str = "DeLong", **more: Any) -> Estimate:
    return Estimate(
        value=value, lo=value - half, hi=min(value + half, more.pop("top", 1.0)), n=n, method=method, **more
    )


def _auc(member: np.ndarray, held_out: np.ndarray) -> Estimate:
    value = float((member[:, None] > held_out[None, :]).mean())
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    n, m = len(member), len(held_out)
    variance = value * (1 - value) + (n - 1) * (q1 - value**2) + (m - 1) * (q2 - value**2)
    return estimate(value, 1.96 * math.sqrt(max(variance, 0) / n / m) + 1e-6, n + m)


def _curve(name: str, level: str, member: np.ndarray, held_out: np.ndarray) -> Curve:
    thresholds = np.sort(np.concatenate([member, held_out]))[::-1]
    fpr = np.searchsorted(np.sort(-held_out), -thresholds, side="right") / len(held_out)
    tpr = np.searchsorted(np.sort(-member), -thresholds, side="right") / len(member)
    keep = np.unique(np.linspace(0, len(thresholds) - 1, 160).astype(int))
    return Curve(
        attack=name,
        level=level,
        fpr=(0.0, *map(float, fpr[keep])),
        tpr=(0.0, *map(float, tpr[keep])),
        n_member=len(member),
        n_held_out=len(held_out),
    )


def _distribution(name: str, level: str, member: np.ndarray, held_out: np.ndarray) -> Distribution:
    edges = np.histogram_bin_edges(np.concatenate([member, held_out]), bins=36)
    return Distribution(
        attack=name,
        level=level,
        edges=tuple(map(float, edges)),
        member=tuple(map(int, np.histogram(member, edges)[0])),
        held_out=tuple(map(int, np.histogram(held_out, edges)[0])),
    )


def _finding(row: tuple, metric: str, value: Estimate, severity: Severity, statement: str, advice: str = "") -> Finding:
    name, level, access, _, needs, _ = row
    return Finding(
        attack=name,
        level=level,
        metric=metric,
        estimate=value,
        severity=severity,
        threat=ThreatModel(access=access, needs=needs),
        statement=statement,
        advice=advice,
        notes=("Corrected for 16 attacks (Bonferroni).",) if metric == "auc" else (),
    )


def _measured(scale: float, n_member: int, n_held_out: int, seed: int) -> dict[str, Any]:
    """Findings, curves, histograms and ranking of all attacks, members ``scale`` times as far off as in ATTACKS."""
    rng = np.random.default_rng(seed)
    findings, curves, distributions, exposed = [], [], [], []
    for row in ATTACKS:
        name, level, *_, shift = row
        n, m = (n_member, n_held_out) if level == "record" else (max(n_member // 6, 3), max(n_held_out // 6, 3))
        member, held_out = rng.normal(shift * scale, 1.2, n), rng.normal(0, 1, m)
        auc = _auc(member, held_out)
        severity = Severity.CRITICAL if auc.lo > 0.8 else Severity.HIGH if auc.lo > 0.6 else Severity.NONE
        text = f"An attacker who sees log-probabilities tells {level}s that were trained on from others."
        findings.append(_finding(row, "auc", auc, severity, text, "Train with user-level differential privacy."))
        curves.append(_curve(name, level, member, held_out))
        distributions.append(_distribution(name, level, member, held_out))
        if name == "ratio" and m >= 1000:
            tpr = float((member > np.quantile(held_out, 0.99)).mean())
            text = f"At 1 % false alarms the attacker finds {tpr:.0%} of the trained records."
            findings.append(_finding(row, "tpr@0.01", estimate(tpr, 0.03, n, "Clopper-Pearson"), severity, text))
        if name in ("ratio", "user_statistic"):
            order = np.argsort(-member)[:20]
            exposed += [
                ExposedUnit(
                    unit=f"{level[0]}-{rng.integers(16**10):010x}",
                    level=level,
                    rank=rank,
                    attack=name,
                    score=float(member[i]),
                    p_value=float((1 + (held_out >= member[i]).sum()) / (1 + m)),
                )
                for rank, i in enumerate(order, 1)
            ]
    return {
        "findings": tuple(findings),
        "curves": tuple(curves),
        "distributions": tuple(distributions),
        "exposed": tuple(exposed),
    }


def _exposure(scale: float, seed: int) -> tuple[CanaryExposure, ...]:
    rng = np.random.default_rng(seed)
    tiers = []
    for repetitions, mean in ((0, 1.44), (1, 2.5), (4, 6.0), (16, 12.5)):
        each = np.clip(rng.normal(1.44 + (mean - 1.44) * scale, 1.1, 12), 0, 14.6)
        middle = float(np.median(each))
        tiers.append(
            CanaryExposure(
                tier=f"planted {repetitions} times" if repetitions else "control (never planted)",
                kind="record",
                repetitions=repetitions,
                bits=estimate(middle, 0.9, 12, "order statistics", unit="bits", top=math.inf),
                each=tuple(map(float, each)),
                ceiling=14.6,
                fitted=estimate(middle * 1.3, 1.1, 12, "skew-normal", unit="bits", top=math.inf) if scale else None,
            )
        )
    return tuple(tiers)


def _runs() -> tuple[AttackRun, ...]:
    ran = [
        AttackRun(
            name=name,
            level=level,
            access=access,
            paper=paper,
            summary=SUMMARY,
            ran=True,
            params={"k": 0.2} if name.startswith("min_k") else {},
            notes=("3 rows had no error token and got the mean score.",) if name == "ez_mia" else (),
        )
        for name, level, access, paper, _, _ in ATTACKS
    ]
    off = AttackRun(
        name="gradient_norm",
        level="record",
        access="grad",
        paper="",
        summary="Norm of the loss gradient.",
        ran=False,
        why_not="needs white-box gradients. Give --access weights to switch it on.",
    )
    return (*ran, off)


PROVENANCE = {
    "command": "reticent audit --target runs/demo/model --data mail.jsonl.gz --membership runs/demo/membership.parquet",
    "models": {
        "target": {"source": "runs/demo/model", "fingerprint": "9f2c41d07a5be88e13ac", "dtype": "bfloat16"},
        "reference": {"source": "smollm2-135m", "fingerprint": "1e77b0c2d94f6a3305be", "dtype": "bfloat16"},
    },
    "data": {"fingerprint": "c0ffee17d2a94be6", "records": 4212, "users": 182},
    "seeds": {"split": 7, "canaries": 11, "bootstrap": 3},
    "environment": {"python": "3.11.9", "platform": "Linux x86_64", "cores": 2, "packages": {"torch": "2.13.0"}},
}


def leaking() -> Results:
    """A model that leaks by nearly every attack."""
    parts = _measured(1.0, 1104, 1098, seed=1)
    extra = (
        Finding(
            attack="canary_exposure",
            level="canary",
            metric="exposure_bits",
            estimate=estimate(12.4, 0.9, 12, "order statistics", unit="bits", top=math.inf),
            severity=Severity.CRITICAL,
            threat=ThreatModel(access="logprob"),
            statement="A secret that stands 16 times in the training data ranks among the first 3 of 25 000 guesses.",
            advice="Deduplicate, and scrub personal data before training.",
        ),
        Finding(
            attack="one_run",
            level="record",
            metric="epsilon_lower",
            estimate=Estimate(value=3.1, lo=3.1, hi=math.inf, n=2202, method="one-run", unit="ε at δ = 1e-5, record"),
            severity=Severity.HIGH,
            threat=ThreatModel(access="logprob", needs=("reference model",)),
            statement="No differential privacy claim below ε = 3.1 (δ = 1e-5, one record) can be true of this model.",
            advice="Do not claim a smaller ε.",
        ),
    )
    return Results(
        title="Help-desk assistant, SmolLM2-135M, full fine-tune, 3 epochs",
        created="2026-03-02T09:41:07+00:00",
        verdict=Verdict(
            status="leaks",
            headline="This model gives away which records it was trained on.",
            sentences=(
                "The best of 13 record attacks tells trained from untrained mails of the same people at AUC 0.95.",
                "People can be told apart by texts the model never saw: user AUC 0.69.",
                "Planted secrets that stood 16 times in the training data can nearly be read out.",
            ),
        ),
        **(parts | {"findings": extra + parts["findings"]}),
        attacks=_runs(),
        exposure=_exposure(1.0, seed=2),
        confound=Confound(
            blind_auc=estimate(0.512, 0.026, 2202, "cross-validation, DeLong"),
            near_duplicates=7,
            near_duplicate_share=Estimate(value=7 / 1104, lo=0.0026, hi=0.013, n=1104, method="Clopper-Pearson"),
            separable=False,
            note="Bag of words and length, 5 folds.",
        ),
        power=(
            Power(level="record", metric="auc", smallest=0.541, power=0.8, n_member=1104, n_held_out=1098),
            Power(level="user", metric="auc", smallest=0.606, power=0.8, n_member=184, n_held_out=183),
        ),
        not_tested=(
            "Attackers who see gradients, hidden states or weights.",
            "Whether training text can be sampled word for word: no generation attack ran.",
            "Records that were dropped before training (12 empty, 31 exact duplicates).",
        ),
        counts={
            "records_read": 4255,
            "records_dropped_empty": 12,
            "records_dropped_duplicate": 31,
            "records_trained": 1840,
            "records_evaluated": 2202,
            "users": 367,
            "canaries": 48,
        },
        provenance=PROVENANCE,
    )


def not_detected() -> Results:
    """The base model against itself."""
    parts = _measured(0.0, 1104, 1098, seed=4)
    return replace(
        leaking(),
        title="Base model against itself",
        verdict=Verdict(
            status="not_detected",
            headline="No leak was detected by the 16 attacks that ran.",
            sentences=(
                "This is not a proof of safety: a record attack with AUC below 0.541 would have gone unseen.",
                "Attackers with more access than log-probabilities were not tested.",
            ),
        ),
        exposure=_exposure(0.0, seed=5),
        **parts,
    )


def confounded() -> Results:
    """A split that bag of words can tell apart."""
    return replace(
        leaking(),
        title="Mail of 2023 against mail of 2025",
        verdict=Verdict(
            status="confounded",
            headline="Members and held-out texts differ without any model, so nothing can be said about membership.",
            sentences=(
                "A classifier that sees only the texts reaches AUC 0.81 [0.79, 0.83].",
                "Split the data by recorded coins (`reticent split`) and train again, or give held-out texts of the "
                "same time and people.",
            ),
        ),
        confound=Confound(
            blind_auc=estimate(0.81, 0.02, 2202, "cross-validation, DeLong"),
            near_duplicates=0,
            near_duplicate_share=Estimate(value=0.0, lo=0.0, hi=0.0033, n=1104, method="Clopper-Pearson"),
            separable=True,
            note="Words that tell them apart most: 2023, invoice, portal.",
        ),
    )


def underpowered() -> Results:
    """Almost nothing: three members, no user, no canary, no curve."""
    off = "needs a reference model. Give --reference, or a target whose config names its base."
    return Results(
        title="",
        created="2026-03-02T09:41:07+00:00",
        verdict=Verdict(status="underpowered", headline="Too few records to say anything."),
        findings=(),
        attacks=tuple(replace(run, ran=False, why_not=off, notes=()) for run in _runs()[:2]),
        curves=(),
        distributions=(),
        exposure=(),
        exposed=(),
        confound=Confound(blind_auc=None, near_duplicates=0, near_duplicate_share=None, separable=False),
        power=(Power(level="record", metric="auc", smallest=math.inf, power=0.8, n_member=3, n_held_out=2),),
        not_tested=(),
        counts={},
        provenance={},
    )


ASSUMPTIONS = ("no assumption on the training", "assumes Gaussian noise", "assumes that units do not interact")
ALLOWED = of_gaussian(1.55).allowed(1e-5)
CHECKS = (
    GuaranteeCheck(
        name="every parameter has a norm", measured="134 of 134", bound="all trained parameters", passed=True
    ),
    GuaranteeCheck(name="noise", measured="σ·C = 1.0003 of the promise", bound="between 0.998 and 1.002", passed=True),
    GuaranteeCheck(name="batches", measured="mean 15.8 of 16.0 units", bound="within 4 standard errors", passed=True),
    GuaranteeCheck(name="several processes", measured="one process", bound="", passed=None),
)


def _bounds(
    units: str, unit: str, n: int, values: tuple[float, ...], promised: float | None, why_not: str = ""
) -> tuple[GuaranteeBound, ...]:
    return tuple(
        GuaranteeBound(
            units=units,
            unit=unit,
            assumption=assumption,
            estimate=Estimate(
                value=value,
                lo=value,
                hi=math.inf,
                n=n,
                method="one-run",
                unit=f"nats (δ = 1e-05, one {unit} added or removed)",
                joint=0.95,
            ),
            promised=promised,
            why_not=why_not,
        )
        for assumption, value in zip(ASSUMPTIONS, values, strict=True)
    )


def private() -> Results:
    """A model trained with user-level privacy that keeps its promise."""
    promise = GuaranteeAudit(
        sentence="ε = 8.00 per user at δ = 1e-05 (add or remove one user; Poisson-sampled Gaussian, PLD accountant; "
        "σ = 1.31, rate 0.064, 120 steps)",
        unit="user",
        epsilon=7.998,
        delta=1e-5,
        user_epsilon=None,
        user_delta=None,
        bounds=(
            *_bounds("users", "user", 1012, (0.0, 0.31, 0.44), 7.998),
            *_bounds("planted secrets", "user", 400, (1.02, 2.31, 1.77), 7.998),
        ),
        auc=Estimate(value=0.519, lo=0.478, hi=0.56, n=1012, method="DeLong", joint=0.95),
        auc_attack="user_inference",
        auc_limit=ALLOWED.auc,
        auc_slack=(ALLOWED.auc - 0.5) / 506,
        rates=(
            GuaranteeRate(fpr=0.01, limit=ALLOWED.tpr_at_1pct_fpr),
            GuaranteeRate(
                fpr=0.1,
                limit=ALLOWED.tpr_at_10pct_fpr,
                estimate=Estimate(value=0.119, lo=0.061, hi=0.192, n=1012, method="Clopper-Pearson", joint=0.95),
                attack="user_inference",
            ),
        ),
        mu=ALLOWED.mu,
        roc=ALLOWED.roc,
        checks=CHECKS,
        not_covered=(
            "Groups of users taken together, and what others write about a user.",
            "What the base model had learned before this training.",
        ),
        not_compared=(),
        together=(
            "2 private trainings together: ε = 11.32 per user at δ = 1e-05 (add or remove one user; privacy losses "
            "added up, for whoever sees them all; plain sum: ε = 16.00 per user at δ = 2e-05).",
        ),
    )
    return replace(not_detected(), title="Help desk, private per user", promise=promise)


def broken() -> Results:
    """A promise per record that secrets break, with users that are held against what it implies."""
    kept = private().promise
    assert kept is not None
    promise = replace(
        kept,
        sentence="ε = 2.00 per record at δ = 1e-05 (add or remove one record; sampled Gaussian, PLD accountant; "
        "σ = 0.8, rate 0.02, 300 steps)",
        unit="record",
        epsilon=1.999,
        user_epsilon=41.3,
        user_delta=1e-5,
        bounds=(
            *_bounds("records", "record", 2202, (1.31, 1.96, 1.65), 1.999),
            *_bounds("planted secrets", "record", 1000, (3.1, 5.2, 3.8), 1.999),
            *_bounds("users", "user", 367, (0.0, 0.6, 0.2), 41.3),
            *_bounds("canary users", "user", 40, (0.0, 0.0, 0.0), None, "no ε per user is known"),
        ),
        auc=Estimate(value=0.943, lo=0.933, hi=0.953, n=2202, method="DeLong", joint=0.95),
        auc_attack="ez_mia",
        auc_limit=0.6321,
        auc_slack=0.0001,
        rates=(
            GuaranteeRate(
                fpr=0.01,
                limit=0.0309,
                estimate=Estimate(value=0.41, lo=0.36, hi=0.46, n=2202, method="Clopper-Pearson", joint=0.95),
                attack="ez_mia",
            ),
        ),
        not_compared=("canary users: no ε per user is known.",),
        checks=(*CHECKS, GuaranteeCheck(name="ledger", measured="310 steps", bound="300 steps", passed=False)),
    )
    results = leaking()
    first = next(finding for finding in results.findings if finding.metric == "epsilon_lower")
    statement = f"A promise is broken: {promise.sentence}. This audit shows ε ≥ 3.10 per record at that δ."
    found = replace(first, metric="promise_broken", severity=Severity.CRITICAL, statement=statement)
    verdict = Verdict(
        status="leaks",
        headline="The privacy promise is broken: this model gives away more than it allows.",
        sentences=(statement, *results.verdict.sentences),
    )
    return replace(results, verdict=verdict, promise=promise, findings=(found, *results.findings))


ALL = (leaking, not_detected, confounded, underpowered, private, broken)


def _pulled(
    group: str, attack: str, mine: float, base: float | None, above: float | None, **more: Any
) -> ExtractionRow:
    n = more.pop("n", 40)

    def share(value: float) -> Estimate:
        return Estimate(
            value=value, lo=max(value - 0.2, -1), hi=min(value + 0.2, 1), n=n, method="Newcombe", joint=0.95
        )

    settings: dict[str, Any] = {"family": "extraction", "metric": "share", "access": "text", "summary": SUMMARY} | more
    settings.setdefault("randomized", "planted" in group)
    return ExtractionRow(
        attack=attack,
        group=group,
        target=share(mine),
        base=None if base is None else share(base),
        difference=None if base is None else share(mine - base),
        above_control=None if above is None else share(above),
        n=n,
        **settings,
    )


def extracted() -> Results:
    """A model that writes planted secrets and personal data word for word."""
    secrets, control = ("planted once", "planted 16 times"), "not planted (control)"
    rows = (
        _pulled(secrets[0], "discoverable", 0.05, 0.0, 0.05),
        _pulled(secrets[1], "discoverable", 0.7, 0.0, 0.7),
        _pulled(secrets[1], "near_verbatim", 0.85, 0.02, 0.8),
        _pulled(control, "discoverable", 0.0, 0.0, None, control=True),
        _pulled("whole records, trained on", "exact_memorization", 0.6, 0.4, 0.1, metric="mean", units="records"),
        _pulled("e-mail of a person", "association", 0.4, 0.1, None, family="personal data", notes=("made up people",)),
        _pulled("free texts that copy a trained record", "untargeted", 0.1, None, 0.0, access="logprob", units="texts"),
    )
    queries = tuple(10.0**n for n in range(7))
    curves = tuple(
        ExtractionCurve(
            group=name,
            control=name == control,
            p=0.5,
            queries=queries,
            target=tuple(min(rate * n, 1.0) for n in range(7)),
            base=(0.0,) * 6 + (rate / 10,),
            n=40,
        )
        for name, rate in zip((*secrets, control), (0.05, 0.3, 0.01), strict=True)
    )
    notes = ("3 secrets were left out: not in what is trained on.",)
    pulled = Extraction(rows=rows, curves=curves, scheme="temperature 1, top-k 40", notes=notes)
    finding = _finding(
        ("discoverable", "passage", "text", "arXiv:2202.07646", (), 1.0),
        "extracted",
        rows[1].above_control,
        Severity.CRITICAL,
        "70% of 40 secrets (planted 16 times) come out by discoverable.",
        "Do not ship this model.",
    )
    results = leaking()
    return replace(results, extraction=pulled, findings=(finding, *results.findings))


def further() -> Results:
    """Extraction and a kind of evidence that no reader of results knows by name."""
    level, metric = "record", "forgotten_share"
    finding = Finding(
        attack="relearn",
        level=level,
        metric=metric,
        estimate=estimate(0.62, 0.07, 120),
        severity=Severity.HIGH,
        threat=ThreatModel(access="weights"),
        statement="62 of 100 records that were to be forgotten come back after 10 steps.",
        advice="Train again without them.",
    )
    columns = (
        Column(name="method", label="Method", kind="group"),
        Column(name="probe", label="Probe"),
        Column(name="left", label="Still known", kind="estimate", metric="auc", about="AUC against never trained on"),
        Column(name="records", label="Records", kind="count"),
        Column(name="share", label="Share", kind="share"),
        Column(name="ratio", label="Ratio", kind="number"),
        Column(name="paper", label="Paper", kind="paper"),
        Column(name="more", label="More", kind="link"),
        Column(name="verdict", label="Verdict", kind="mark"),
    )
    link = Words(text="the records", address="#exposed")
    known, not_shown = Mark(text="still known"), Mark(text="not shown", raised=False)
    rows = (
        ("Gradient ascent", Words(text="loss_probe", note="of the base", below="ten steps"), estimate(0.62, 0.07, 120),
         1200, 0.625, -3.25, "arXiv:2310.10683", link, known),
        ("Gradient ascent", "relearn", None, 7, 0.0, 1e-9, "ours", None, known),
        (Words(text="Retrained without them", note="n = 9"), "relearn", estimate(0.5, 0.07, 120), 0, 1.0, 0.0, None,
         None, not_shown),
    )  # fmt: skip
    tables = (
        Table(name="forgetting-by-method", title="By method", columns=columns, rows=rows, caption="Lower is better."),
        Table(name="forgetting-each", title="Every record", columns=columns[1:4], rows=(("a", None, 1),), folded=True),
    )
    section = Section(
        name="forgetting",
        title="What was forgotten",
        lede="How much of what was asked to be forgotten is still there.",
        findings=(finding,),
        tables=tables,
        notes=("Two seeds only.",),
    )
    return replace(extracted(), sections=(section,))
