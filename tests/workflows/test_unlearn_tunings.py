# SPDX-License-Identifier: Apache-2.0
"""Runs of other tunings than LoRA are gone on from: what their own method trains forgets, request after request."""

from __future__ import annotations

from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.models.tuned import read_tuned
from reticent.testing.saved import weights
from reticent.testing.tiny import save_tiny
from reticent.testing.unlearned import number_rows
from reticent.train.config import TuneConfig
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.run_rows import trained_rows
from reticent.unlearning.stopping import read_looks
from reticent.workflows.tune import tune
from reticent.workflows.unlearn import unlearn


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base") / "base"))


def tuned(base: str, out: Path, method: str) -> RunFolder:
    records = [
        Record(id=row.id, prompt=row.prompt, completion=row.completion, user=f"user {place % 8}")
        for place, row in enumerate(number_rows(forget=40, unseen=0, retain=0).forget)
    ]
    return tune(
        records,
        base=base,
        out=out,
        split_config=SplitConfig(split_unit="record", known_fraction=0.0),
        canary_config=CanaryConfig(canaries=0),
        tune_config=TuneConfig(method=method, epochs=1, max_tokens=32, dtype="float32"),
    )


@pytest.mark.parametrize("method", ["prompt", "prefix", "adapter", "ia3", "head"])
def test_what_a_tuning_trained_forgets_request_after_request(base: str, tmp_path: Path, method: str) -> None:
    run = tuned(base, tmp_path / "run", method)
    first, second = sorted(record.id for record in trained_rows(run))[:2]
    config = UnlearnConfig(method="gradient_ascent", epochs=3, learning_rate=3e-2, retain_budget=50.0, dtype="float32")
    out = unlearn(run, out=tmp_path / "first", forget=ForgetRequest(forget_ids=first), config=config)
    looks = read_looks(out.looks)
    assert looks[-1].forget_loss > looks[0].forget_loss
    about, before = read_tuned(out.model), read_tuned(run.model)
    assert about is not None
    assert before is not None
    assert (about.method, about.params, about.storage) == (before.method, before.params, before.storage)
    changed, start = weights(out.model), weights(run.model)
    assert changed.keys() == start.keys()
    assert any((changed[name] != start[name]).any() for name in start)
    further = unlearn(out, out=tmp_path / "second", forget=ForgetRequest(forget_ids=second), config=config)
    assert read_looks(further.looks)[0].step == 0


def test_a_block_that_no_trained_weight_acts_on_is_refused_by_name(base: str, tmp_path: Path) -> None:
    run = tuned(base, tmp_path / "run", "head")
    request = ForgetRequest(forget_ids=trained_rows(run)[0].id)
    config = UnlearnConfig(method="rmu", method_params={"layer": 0}, epochs=1, dtype="float32")
    with pytest.raises(BadInput, match=r"'rmu' with layer=0: no weight that this run trains acts on"):
        unlearn(run, out=tmp_path / "out", forget=request, config=config)
    assert not (tmp_path / "out").exists()
