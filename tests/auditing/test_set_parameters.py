# SPDX-License-Identifier: Apache-2.0
"""Parameters that were set reach every family, and stand in the results and the report."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from reticent.attacks import ATTACKS
from reticent.auditing.config import AuditConfig
from reticent.core.errors import BadInput
from reticent.core.table import read_table
from reticent.report.results_file import read_results
from reticent.testing.tiny import tiny_model, tiny_tokenizer
from reticent.workflows.audit import audit

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

ATTACKED = "loss,min_k(k=0.5),wbc(windows=[2,3]),discoverable_short(tokens=2),near_verbatim(off_by=1)"


def rows(word: str, count: int = 12) -> list[dict[str, str]]:
    return [
        {"text": f"the {word} {number * 7919 % 997} goes to a{number}@example.org at noon", "user": f"u{number % 12}"}
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("set") / "run"
    config = AuditConfig(attacks=ATTACKED, extraction=True, extraction_samples=1, dtype="float32", device="cpu")
    audit(model=tiny_model(), tokenizer=tiny_tokenizer(), members=rows("parcel"), held_out=rows("letter"),
          config=config, out=out)  # fmt: skip
    return out


def test_they_stand_in_the_results(folder):
    runs = {run.name: run for run in read_results(folder / "results.json").attacks}
    assert {name for name, run in runs.items() if run.ran and run.level == "record"} >= {"loss", "min_k"}
    assert runs["min_k"].params == {"k": 0.5}
    assert runs["min_k_plus"].params == {"k": 0.2}
    assert not runs["min_k_plus"].ran
    assert (runs["near_verbatim"].level, runs["near_verbatim"].params) == ("secret", {"off_by": 1.0})
    assert runs["discoverable_short"].params == {"tokens": 2}
    assert read_results(folder / "results.json").provenance["audit"]["attacks"] == ATTACKED


def test_they_count(folder):
    scores = pq.read_table(folder / "scores.parquet")
    table = read_table(folder / "tables" / "evaluate.target.parquet").trained()
    attack = ATTACKS.get("min_k").with_params(k=0.5)
    np.testing.assert_allclose(scores.column("min_k").to_numpy(), attack.score({"table": table}))
    results = read_results(folder / "results.json")
    assert results.extraction is not None
    by_attack = {row.attack: row for row in results.extraction.rows}
    assert by_attack["near_verbatim"].target.value == 1
    assert "With off_by = 1 in place of 0.1." in by_attack["near_verbatim"].summary
    assert "With tokens = 2 in place of 10." in by_attack["discoverable_short"].summary


def test_the_report_says_so(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "With k = 0.5 in place of 0.2." in page
    assert "With off_by = 1 in place of 0.1." in page


def test_a_primary_attack_scores_membership(tmp_path):
    config = AuditConfig(primary="discoverable")
    with pytest.raises(BadInput, match="gives no score that membership is judged by"):
        audit(model=tiny_model(), tokenizer=tiny_tokenizer(), members=rows("a"), held_out=rows("b"), config=config,
              out=tmp_path / "run")  # fmt: skip
