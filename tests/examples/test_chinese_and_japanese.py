# SPDX-License-Identifier: Apache-2.0
"""The made-up letters in Chinese and Japanese, audited from end to end on a tiny model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from reticent import AuditCase, AuditConfig, audit
from reticent.auditing.case import from_run
from reticent.core.record import Record
from reticent.core.results import Results
from reticent.data.split import from_files
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.workflows.tune import CanaryConfig, tune

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

CONFIG = AuditConfig(attacks="loss,ref_diff", dtype="float32")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "chinese_and_japanese.py"
    spec = importlib.util.spec_from_file_location("chinese_and_japanese", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("letters") / "base"))


def written(script: ModuleType, language: str, prefix: str, **how: object) -> list[Record]:
    rows = script.letters(language, **how)
    return [Record(id=f"{prefix}{n}", user=row["user"], text=row["text"]) for n, row in enumerate(rows)]


def trained(records: list[Record], base: str, out: Path) -> str:
    """A model that knows the letters."""
    run = tune(
        records,
        base=base,
        out=out,
        tune_config=TuneConfig(method="full", epochs=1, learning_rate=3e-3, max_tokens=160),
    )
    return str(run.model)


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_lists_of_two_subjects_are_confounded_and_nothing_is_claimed(
    script: ModuleType, language: str, base: str, tmp_path: Path
) -> None:
    """The model learned other letters of the members' subject, none of the members."""
    others = written(script, language, "o", users=20, each=2, subject="shop", seed=9)
    inside = written(script, language, "m", users=40, each=1, subject="shop", seed=1)
    outside = written(script, language, "h", users=40, each=1, subject="clinic", seed=2)
    case = AuditCase(
        title="letters",
        target=trained(others, base, tmp_path / "tuned"),
        reference=base,
        records=[*inside, *outside],
        membership=from_files(inside, outside),
    )
    results = audit(case, CONFIG, out=tmp_path / "audit")
    assert results.verdict.status == "confounded"
    assert results.confound.blind_auc is not None
    assert results.confound.blind_auc.value > 0.9
    assert "scripts without blanks" in results.confound.note


def test_coins_over_one_set_are_not_confounded(script: ModuleType, base: str, tmp_path: Path) -> None:
    """With canary users, whose phrases are of characters."""
    records = written(script, "ja", "r", users=50, each=4)
    run = tune(
        records,
        base=base,
        out=tmp_path / "run",
        canary_config=CanaryConfig(canary_users=6, canary_words=8),
        tune_config=TuneConfig(method="full", epochs=1, learning_rate=3e-3, max_tokens=160),
    )
    results: Results = audit(from_run(run), CONFIG, out=run.root)
    assert results.verdict.status in ("leaks", "not_detected", "underpowered")
    assert not results.confound.no_claim
    assert results.confound.blind_auc is not None
    assert results.confound.blind_auc.lo < 0.5
