# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.core.record import Record, Span
from reticent.scan.behaviour.pre_memorization import COPIES, evidence_of, pre_memorization, scan_texts
from reticent.scan.scanner import SCANNERS
from reticent.scan.suspect import Suspect
from reticent.score import make_tables
from reticent.testing.tiny import save_tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scan") / "cache"


def outcome_of(bases, name, texts, controls, cache):
    suspect = Suspect(
        folder=bases[name], base=bases["base"], data=texts, controls=controls, cache=cache, dtype="float32"
    )
    return scan_texts(suspect.data, suspect.controls, suspect.loaded, suspect.sibling, suspect.cache, draws=199)


@pytest.mark.parametrize("with_controls", [True, False])
def test_texts_that_a_base_learned_are_seen(bases, texts, controls, known, cache, with_controls):
    outcome = outcome_of(bases, "poisoned", texts, controls if with_controls else (), cache)
    first = {text.id for text in texts[:known]}
    is_known = np.array([name in first for name in outcome.shifts.ids])
    assert outcome.global_p <= 0.01
    assert outcome.chosen.chosen[is_known].mean() > 0.4
    assert outcome.chosen.chosen[~is_known].sum() <= 5
    evidence = evidence_of(outcome)
    assert evidence[0].p == outcome.global_p
    assert not any(row.certain for row in evidence)
    assert [row.p for row in evidence[1:]] == [None] * outcome.chosen.count
    assert {row.where.removeprefix("text ") for row in evidence[1:]} <= set(outcome.shifts.ids)
    written = " ".join(f"{row.where} {row.note} {row.remedy}" for row in evidence)
    spans = {text.plain[span.start : span.end] for text in texts for span in text.spans}
    assert not [value for value in spans if len(value) > 4 and value in written]


@pytest.mark.parametrize("with_controls", [True, False])
def test_an_honest_sibling_raises_no_alarm(bases, texts, controls, cache, with_controls):
    outcome = outcome_of(bases, "honest", texts, controls if with_controls else (), cache)
    assert outcome.shifts.text.mean() < -0.02  # it knows the kind of text better than the sibling does
    assert outcome.chosen.count == 0
    assert outcome.global_p > 0.05


def test_the_sibling_itself_gives_nothing(bases, texts, cache):
    outcome = outcome_of(bases, "base", texts, (), cache)
    assert (outcome.shifts.score == 0).all()
    assert outcome.chosen.count == 0
    assert outcome.global_p == 1


def test_each_text_and_copy_is_scored_once_a_model(bases, texts, tmp_path, monkeypatch: pytest.MonkeyPatch):
    scored: list[int] = []
    score = make_tables.score

    def counting(engine: Any, rows: Any, advance: Any) -> Any:
        scored.append(len(rows))
        return score(engine, rows, advance)

    monkeypatch.setattr(make_tables, "score", counting)
    bare = Record(id="bare", text="I have asthma.", spans=(Span(start=7, end=13, kind="HEALTH"),))
    outcome = outcome_of(bases, "honest", [*texts[:30], bare], (), tmp_path / "cache")
    assert outcome.shifts.left_out == ("bare",)
    assert "1 more had nothing to alter" in evidence_of(outcome)[0].note
    assert sum(scored) == 2 * (1 + COPIES) * 30


def test_what_cannot_be_looked_at_is_refused(bases, texts, tmp_path):
    suspect = Suspect(folder=bases["base"], base=bases["base"], data=texts[:5], cache=tmp_path, dtype="float32")
    assert SCANNERS.get("pre_memorization").look is pre_memorization
    assert "sibling" in replace(suspect, base=None).missing(SCANNERS.get("pre_memorization").needs)
    assert "private texts" in replace(suspect, data=()).missing(SCANNERS.get("pre_memorization").needs)
    with pytest.raises(Underpowered, match="5 private texts with something to alter"):
        pre_memorization(suspect)
    with pytest.raises(BadInput, match="two texts"):
        pre_memorization(replace(suspect, data=[*texts, texts[0]]))
    with pytest.raises(BadInput, match="one stands for the text"):
        scan_texts(texts, (), suspect.loaded, suspect.sibling, tmp_path, copies=1)
    with pytest.raises(BadInput, match="architecture gpt2, the suspect llama"):
        pre_memorization(replace(suspect, base=save_tiny(tmp_path / "gpt2", arch="gpt2")))
