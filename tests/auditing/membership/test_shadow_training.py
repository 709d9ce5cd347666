# SPDX-License-Identifier: Apache-2.0
"""Shadow models from a run folder to findings: trained once, gone on with after an interruption, refused otherwise."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from reticent.auditing.case import from_run
from reticent.auditing.config import AuditConfig
from reticent.auditing.membership import shadow_training
from reticent.auditing.membership.shadow_training import STATISTICS, refuse_shadows
from reticent.core.errors import BadInput
from reticent.core.membership import read_membership
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.testing.tiny import save_tiny
from reticent.train.checkpoints import MarkWhole
from reticent.train.config import TuneConfig
from reticent.workflows.audit import audit
from reticent.workflows.tune import SplitConfig, tune

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

WORDS = "order late parcel refund card house garden letter doctor money".split()  # noqa: SIM905
SHADOWED = ("lira", "lira_offline", "rmia_shadow", "rmia_shadow_offline")
CONFIG = AuditConfig(attacks=f"loss,{','.join(SHADOWED)}", dtype="float32", shadow=8)


def texts(count, seed=0, users=None):
    rng = random.Random(seed)
    return [
        Record(
            id=f"r{number}",
            text=f"{' '.join(rng.choices(WORDS, k=rng.randrange(3, 9)))} {rng.randrange(10**4)}",
            user=None if users is None else f"u{number % users}",
        )
        for number in range(count)
    ]


def fine_tuned(folder, records, split="record", **training):
    base = save_tiny(folder / "base")
    settings = {"epochs": 7, "learning_rate": 2e-2, "batch_size": 4, "max_tokens": 64, "dtype": "float32"} | training
    return tune(
        records,
        base=str(base),
        out=folder / "run",
        split_config=SplitConfig(split_unit=split),
        tune_config=TuneConfig(**settings),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    tuned = fine_tuned(tmp_path_factory.mktemp("shadows"), texts(70))
    return tuned, audit(tuned, CONFIG)


@pytest.fixture
def copied(run, tmp_path):
    """The same run with the first and the fourth shadow model only, and the base beside it."""
    tuned, _ = run
    shutil.copytree(tuned.root.parent, tmp_path / "copy")
    copy = RunFolder(root=tmp_path / "copy" / "run")
    for number in (1, 2, 4, 5, 6, 7):
        shutil.rmtree(copy.shadows / f"{number:03d}")
    return copy


def aucs(results):
    return {
        finding.attack: finding.estimate.value
        for finding in results.findings
        if (finding.level, finding.metric) == ("record", "auc")
    }


def statistics(tuned):
    return [pq.read_table(path) for path in sorted(tuned.shadows.glob(f"*/{STATISTICS}"))]


def test_a_model_that_memorizes_is_found_at_least_as_well_as_by_its_loss(run):
    auc = aucs(run[1])
    assert set(auc) >= {"loss", *SHADOWED}
    assert auc["lira"] >= auc["loss"] > 0.6
    assert auc["rmia_shadow"] >= auc["loss"]


def test_findings_name_the_attacker_and_what_was_trained(run):
    lira = next(finding for finding in run[1].findings if finding.attack == "lira")
    assert any("pool of records" in need for need in lira.threat.needs)
    assert any(note.startswith("8 shadow models") for note in lira.notes)
    assert lira.p_value is not None
    rows = {row.name: row for row in run[1].attacks}
    assert all(rows[name].ran for name in SHADOWED)


def test_each_record_is_in_half_of_the_models_and_only_statistics_are_left(run):
    tuned, _ = run
    tables = statistics(tuned)
    assert len(tables) == 8
    assert set(sum(np.array(table["inside"]).astype(int) for table in tables).tolist()) == {4}
    coins = read_membership(tuned.membership)
    evaluated = set(coins.record_id[coins.role == "evaluate"])
    assert evaluated <= set(tables[0]["record_id"].to_pylist())
    assert {path.name for path in tuned.shadows.rglob("*") if path.is_file()} == {"shadows.json", STATISTICS}
    for path in (tuned.shadows, *tuned.shadows.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    stored = b"".join(path.read_bytes() for path in tuned.shadows.rglob("*") if path.is_file())
    assert b"parcel" not in stored


def test_the_same_audit_again_trains_nothing_and_says_the_same(run, monkeypatch):
    tuned, results = run
    monkeypatch.setattr(shadow_training, "_train", lambda *_: pytest.fail("trained again"))
    assert audit(tuned, CONFIG).findings == results.findings
    fewer = audit(tuned, replace(CONFIG, shadow=4))
    assert any(note.startswith("4 shadow models") for finding in fewer.findings for note in finding.notes)
    audit(tuned, CONFIG)


class Killed(BaseException):
    """Nothing catches it but what must run at the end of a process."""


def test_interrupted_in_the_middle_it_goes_on_to_identical_numbers(run, copied, monkeypatch):
    """Killed after a checkpoint of the second model, then before the third is scored; the fourth is there; in the end
    all are the first four of eight."""
    tuned, _ = run
    config = replace(CONFIG, shadow=4)
    saved, trained = MarkWhole.on_save, []

    def killed_after_a_checkpoint(self, args, state, control, **kwargs):
        saved(self, args, state, control, **kwargs)
        if "001" in args.output_dir and state.epoch == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MarkWhole, "on_save", killed_after_a_checkpoint)
        with pytest.raises(Killed):
            audit(copied, config)
    assert len(statistics(copied)) == 2
    assert not list((copied.shadows / "001").glob("model"))

    def killed_before_scoring(folder, number, *rest):
        if number == 2:
            raise Killed
        return score(folder, number, *rest)

    score, train = shadow_training._score, shadow_training._train
    with monkeypatch.context() as patch:
        patch.setattr(shadow_training, "_score", killed_before_scoring)
        patch.setattr(
            shadow_training,
            "_train",
            lambda folder, number, *rest: trained.append(number) or train(folder, number, *rest),
        )
        with pytest.raises(Killed):
            audit(copied, config)
    assert trained == [1, 2]
    results = audit(copied, config)
    for table, other in zip(statistics(copied), statistics(tuned), strict=False):
        assert table["mean_logp"].to_pylist() == other["mean_logp"].to_pylist()
        assert table["inside"].to_pylist() == other["inside"].to_pylist()
    assert aucs(results) == aucs(audit(tuned, config))
    audit(tuned, CONFIG)


def test_an_adapter_split_by_user_keeps_its_shadow_weights_where_asked(tmp_path):
    tuned = fine_tuned(
        tmp_path, texts(120, users=30), "user", method="lora", epochs=1, learning_rate=None, batch_size=16
    )
    results = audit(tuned, replace(CONFIG, shadow=4, keep_shadows=True))
    assert set(aucs(results)) >= set(SHADOWED)
    assert {finding.attack for finding in results.findings if finding.level == "user"} >= {
        "lira:mean",
        "rmia_shadow:mean",
    }
    assert all(
        (tuned.shadows / f"{number:03d}" / "model" / "adapter_model.safetensors").exists() for number in range(4)
    )
    assert not list(tuned.shadows.rglob("scoring"))
    inside = sum(np.array(table["inside"]).astype(int) for table in statistics(tuned))
    assert set(inside.tolist()) == {1}


def test_shadow_models_of_other_settings_are_refused(run):
    tuned, _ = run
    with pytest.raises(BadInput, match=r"other settings \(dtype\)"):
        audit(tuned, replace(CONFIG, dtype="bfloat16"))
    number = tuned.shadows / "001" / STATISTICS
    content = number.read_bytes()
    number.write_bytes(b"garbage")
    with pytest.raises(BadInput, match="no longer what was written"):
        audit(tuned, CONFIG)
    number.write_bytes((tuned.shadows / "000" / STATISTICS).read_bytes())
    with pytest.raises(BadInput, match="another shadow model"):
        audit(tuned, CONFIG)
    number.write_bytes(content)
    settings = tuned.shadows / "shadows.json"
    content = settings.read_bytes()
    for broken in (b"{", b"[1]", b"\xff"):
        settings.write_bytes(broken)
        with pytest.raises(BadInput, match="no longer what was written"):
            audit(tuned, CONFIG)
    settings.write_bytes(content)


def test_something_of_yours_in_its_place_is_refused_and_left_alone(copied):
    shutil.rmtree(copied.shadows)
    copied.shadows.mkdir()
    (copied.shadows / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="something else"):
        audit(copied, CONFIG)
    shutil.rmtree(copied.shadows)
    copied.shadows.write_text("mine")
    with pytest.raises(BadInput, match=r"cannot be made|is a file"):
        audit(copied, CONFIG)
    assert copied.shadows.read_text() == "mine"


@pytest.mark.parametrize("count", [1, 2, 3, 7, -2, 5, 10_000])
def test_numbers_that_make_no_halves_are_refused(count):
    with pytest.raises(BadInput, match="even number"):
        AuditConfig(shadow=count)
    with pytest.raises(BadInput, match="no shadow models to keep"):
        AuditConfig(keep_shadows=True)


def test_what_cannot_have_shadow_models_is_refused_with_what_to_do_instead(run, tmp_path):
    subject = from_run(run[0])
    with pytest.raises(BadInput, match="reticent tune"):
        audit(subject, CONFIG, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for about, word in (
        ({"privacy": {"epsilon": 8.0}}, "ledger"),
        ({"monitor": {"stop_at": "memorization"}}, "--epochs"),
    ):
        with pytest.raises(BadInput, match=word):
            refuse_shadows(CONFIG, replace(subject, about=subject.about | about), run[0])
    with pytest.raises(BadInput, match="--attacks standard"):
        audit(run[0], replace(CONFIG, attacks="loss,zlib"))
    given = replace(subject, membership=replace(subject.membership, unit="given"))
    with pytest.raises(BadInput, match="throws coins"):
        refuse_shadows(CONFIG, given, run[0])


def test_a_base_that_changed_is_refused(copied):
    base = save_tiny(copied.root.parent / "other", seed=1)
    shutil.copy(base / "model.safetensors", copied.root.parent / "base" / "model.safetensors")
    with pytest.raises(BadInput, match="other weights"):
        audit(copied, CONFIG)
