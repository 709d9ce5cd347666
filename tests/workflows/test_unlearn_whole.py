# SPDX-License-Identifier: Apache-2.0
"""Methods that change matrices of the model itself, from a run folder to a run folder, with looks at a panel."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.models.load import load
from reticent.models.tuned import read_tuned
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
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("whole")
    records = [
        Record(id=row.id, prompt=row.prompt, completion=row.completion, user=f"user {place % 10}")
        for place, row in enumerate(number_rows(forget=60, unseen=0, retain=0).forget)
    ]
    return tune(
        records,
        base=str(save_tiny(folder / "base")),
        out=folder / "run",
        split_config=SplitConfig(train_fraction=0.7, known_fraction=0.0),
        canary_config=CanaryConfig(canaries=0),
        tune_config=TuneConfig(method="full", epochs=12, learning_rate=1e-2, max_tokens=32),
    )


@pytest.mark.parametrize(("method", "rate"), [("loku", 2e-3), ("repselect", 1.0)])
def test_a_whole_model_comes_of_it_with_looks_between_epochs(
    run: RunFolder, tmp_path: Path, method: str, rate: float
) -> None:
    users = tuple(sorted({record.user for record in trained_rows(run) if record.user})[:3])
    config = UnlearnConfig(method=method, epochs=2, learning_rate=rate, margin=0.2, retain_budget=50.0)
    out = unlearn(run, out=tmp_path / "out", forget=ForgetRequest(forget_users=users), config=config)
    looks = read_looks(out.looks)
    assert [look.step for look in looks][:2] == [0, 1]
    assert looks[-1].forget_loss > looks[0].forget_loss
    tuned = read_tuned(out.model)
    assert tuned is not None
    assert tuned.parent == load(str(run.model), dtype="float32").fingerprint
    weights, before = load_file(out.model / "model.safetensors"), load_file(run.model / "model.safetensors")
    assert weights.keys() == before.keys()
    again = unlearn(run, out=tmp_path / "out", forget=ForgetRequest(forget_users=users), config=config)
    assert again.root == out.root
