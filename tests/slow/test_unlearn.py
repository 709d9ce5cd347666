# SPDX-License-Identifier: Apache-2.0
"""Unlearning on the real model: what was learned of a few mails becomes unlikely, and the others stay known."""

from __future__ import annotations

import pytest

from reticent.core.unlearning import AFTER, BEFORE
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.example import help_desk
from reticent.data.split_config import SplitConfig
from reticent.train.config import TuneConfig
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.looks import nearest_in_budget
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.run_rows import trained_rows
from reticent.unlearning.stopping import read_looks
from reticent.unlearning.verification.config import VerifyConfig
from reticent.workflows.demo import MODEL
from reticent.workflows.tune import tune
from reticent.workflows.unlearn import unlearn
from reticent.workflows.verify import verify

pytestmark = pytest.mark.slow


def test_a_few_mails_on_the_real_model(tmp_path):
    mails = help_desk(users=16, mails_per_user=2)
    run = tune(
        mails,
        base=MODEL,
        out=tmp_path / "run",
        split_config=SplitConfig(split_unit="record", known_fraction=0.0),
        canary_config=CanaryConfig(canaries=0),
        tune_config=TuneConfig(method="lora", epochs=6, learning_rate=1e-3, max_tokens=32),
    )
    ids = tuple(sorted(record.id for record in trained_rows(run))[:6])
    config = UnlearnConfig(method="npo", epochs=3, learning_rate=5e-4, retain_budget=0.3)
    out = unlearn(run, out=tmp_path / "without", forget=ForgetRequest(forget_ids=ids), config=config)
    looks = read_looks(out.looks)
    assert looks[0].aucs["ref_ratio"].value > 0.7, "there is something to forget"
    kept = next(look for look in looks if look.step == nearest_in_budget(looks))
    assert kept.forget_loss > looks[0].forget_loss + 0.05
    assert kept.retain_loss.value < 1.3 * looks[0].retain_loss.value
    results = verify(out, VerifyConfig(attacks="loss,ref_ratio"), oracles=0)
    places = {point.role: point for point in results.check("collateral").points}
    assert places[AFTER].forget.value < places[BEFORE].forget.value
    assert results.verdict.status in ("too_few", "still_known")  # six rows show no likeness, but may show a departure
    assert "retrained" not in {model.role for model in results.models}
    pages = [path.read_text(encoding="utf-8") for path in (out.report, out.certificate_page)]
    assert not any(record.plain[:40] in page for record in mails for page in pages)
