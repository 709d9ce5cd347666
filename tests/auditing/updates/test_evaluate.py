# SPDX-License-Identifier: Apache-2.0
"""Findings about single updates from made-up readings: what is planted is found, nothing is found in nothing, and
numbers that are not finite are nobody's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reticent.auditing.updates.by_round import client_auc, cosine_of, drop_of, scored, sources, text_auc, written
from reticent.auditing.updates.collect import (
    OUTSIDE,
    OWN,
    TRAINED,
    RoundReadings,
    TextReading,
    TokenReading,
    UpdateEvidence,
)
from reticent.auditing.updates.evaluate import evaluate
from reticent.core.finding import Severity
from reticent.federated.federation_spec import FederationSpec


def made_up(leak: float, seed: int = 0, *, rounds: int = 4, clients: int = 8) -> UpdateEvidence:
    """Readings of rounds of other clients each; ``leak`` nats are what training takes off a text's loss."""
    rng = np.random.default_rng(seed)
    listed = []
    for number in range(1, rounds + 1):
        names = tuple(f"{number:02d}{place:014x}" for place in range(clients))
        texts = []
        for place, name in enumerate(names):
            for kind, owner in ((TRAINED, name), (OUTSIDE, f"out {name}"), (OWN, name)):
                for text in range(4):
                    gain = leak * (kind == TRAINED)
                    start = float(rng.normal(4, 0.5))
                    others = rng.normal(start, 0.1, size=clients)
                    others[place] -= gain
                    texts.append(
                        TextReading(
                            client=name,
                            owner=owner,
                            kind=kind,
                            text=text,
                            start=start,
                            after=start - gain - float(rng.normal(0, 0.2)),
                            cosine=float(rng.normal(gain, 0.3)),
                            greedy=float(kind == TRAINED and rng.random() < leak),
                            greedy_start=0.0,
                            sampled=float(kind == TRAINED and rng.random() < leak),
                            sampled_start=0.0,
                            others=tuple(others.tolist()) if kind == TRAINED else (),
                        )
                    )
        values = rng.uniform(0.2, 0.4, size=(clients, 2))
        tokens = tuple(
            TokenReading(
                client=name,
                outsider=f"out {name}",
                auc=0.5 + leak / 2,
                outside_auc=0.5,
                recall=float(min(1, values[place, 0] + leak / 2)),
                outside_recall=float(values[place, 1]),
                exact=float(rng.random() < leak / 2),
                outside_exact=0.0,
            )
            for place, name in enumerate(names)
        )
        listed.append(RoundReadings(number=number, clients=names, texts=tuple(texts), tokens=tokens))
    return UpdateEvidence(
        rounds=tuple(listed), recorded_rounds=9, recorded_updates=100, spec=FederationSpec(), promised=True
    )


def findings(evidence: UpdateEvidence, confidence: float = 0.95):
    sections, _ = evaluate(evidence, confidence=confidence)
    return {finding.attack: finding for section in sections for finding in section.findings}


def test_what_is_planted_is_found_by_every_attack() -> None:
    found = findings(made_up(0.9))
    assert len(found) == 8
    assert all(finding.severity is not Severity.NONE for finding in found.values()), found
    assert found["source_inference"].estimate.lo > 0.5
    assert "by chance it would be 12.5%" in found["source_inference"].statement
    assert all(finding.threat.access == "train_time" and finding.advice for finding in found.values())


def test_nothing_is_found_in_nothing() -> None:
    """The null: 12 audits of updates that tell nothing; none may be wrong more often than was said, together."""
    wrong = [
        any(finding.severity is not Severity.NONE for finding in findings(made_up(0.0, seed, rounds=2)).values())
        for seed in range(12)
    ]
    assert sum(wrong) <= 2


def test_scores_are_means_over_rounds_and_clients_are_clusters() -> None:
    evidence = made_up(0.3)
    (first, *_) = evidence.rounds
    later = replace(first, number=9, texts=tuple(replace(text, after=text.after - 2.0) for text in first.texts))
    both = scored([first, later], drop_of)
    once = scored([first], drop_of)
    np.testing.assert_allclose(both.score, once.score + 1.0)
    naive = np.mean([float(a > b) for a in once.score[once.kind == TRAINED] for b in once.score[once.kind == OUTSIDE]])
    estimate = text_auc(once, OUTSIDE, confidence=0.95)
    assert estimate.value == pytest.approx(naive)
    assert "bootstrap of 16 users" in estimate.method
    assert client_auc(once, confidence=0.95).n == 16


def test_numbers_that_are_not_finite_count_for_nobody() -> None:
    evidence = made_up(0.3)
    (first, *rest) = evidence.rounds
    broken = tuple(
        replace(text, after=float("nan"), cosine=None, others=(float("inf"),) * len(text.others))
        for text in first.texts
    )
    mended = replace(evidence, rounds=(replace(first, texts=broken), *rest))
    assert scored(mended.rounds, drop_of).score.tolist() == scored(rest, drop_of).score.tolist()
    assert scored(mended.rounds, cosine_of).score.tolist() == scored(rest, cosine_of).score.tolist()
    assert sources(mended.rounds, confidence=0.95).right == sources(rest, confidence=0.95).right
    sections, _ = evaluate(mended, confidence=0.95)
    assert sections[0].tables[0].rows[0][3] is None


def test_one_client_is_too_few_and_says_so() -> None:
    sections, not_tested = evaluate(made_up(0.6, rounds=1, clients=1), confidence=0.95)
    graded = [finding for section in sections for finding in section.findings]
    assert all(finding.severity is Severity.NONE for finding in graded)
    assert any(line.startswith("update_loss_drop") for line in not_tested)
    assert any("no round has two clients" in line for line in not_tested)


def test_without_a_round_there_is_no_section_but_the_reason() -> None:
    empty = replace(made_up(0.1), rounds=(), could_not=("single updates: could not look, since they are gone",))
    sections, not_tested = evaluate(empty, confidence=0.95)
    assert sections == []
    assert not_tested[0] == "single updates: could not look, since they are gone"


def test_writing_that_the_global_model_does_too_is_not_the_updates() -> None:
    evidence = made_up(0.6)
    both = [
        replace(r, texts=tuple(replace(t, greedy_start=t.greedy, sampled_start=t.sampled) for t in r.texts))
        for r in evidence.rounds
    ]
    assert written(evidence.rounds, confidence=0.95)[0].value > 0.4
    assert [estimate.value for estimate in written(both, confidence=0.95)] == [0.0, 0.0]
