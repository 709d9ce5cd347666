# SPDX-License-Identifier: Apache-2.0
"""A run made in shards: those that hold a forgotten row are left out, and the rest is what it would have been."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from reticent.core.errors import BadInput
from reticent.core.manifest import read_manifest
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.canaries import Canary
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.data.user_shards import shard_of
from reticent.models.load import load
from reticent.models.tuned import read_tuned
from reticent.monitor.config import MonitorConfig
from reticent.privacy.spec import PrivacySpec
from reticent.testing.saved import same, weights
from reticent.testing.tiny import save_tiny
from reticent.train import trainer
from reticent.train.config import TuneConfig
from reticent.train.sharding import read_shards
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.retraining import retrain
from reticent.unlearning.run_rows import run_rows, trained_rows
from reticent.workflows.tune import tune
from reticent.workflows.unlearn import describe, unlearn

SHARDS = UnlearnConfig(method="shards")
TRAINING: dict[str, Any] = {
    "method": "lora",
    "method_params": {"r": 4, "alpha": 8.0},
    "epochs": 1,
    "learning_rate": 1e-2,
    "max_tokens": 48,
    "dtype": "float32",
}


def records(users: int = 24) -> list[Record]:
    return [
        Record(id=f"u{user}m{mail}", text=f"Mail {mail} of {user}: {user * 7919 % 977}", user=f"user {user}")
        for user in range(users)
        for mail in range(2)
    ]


def tuned(folder: Path, base: Path, **settings: Any) -> RunFolder:
    return tune(
        records(),
        base=str(base),
        out=folder,
        split_config=SplitConfig(split_unit="user", train_fraction=0.7, known_fraction=0.0),
        canary_config=CanaryConfig(canaries=0),
        tune_config=TuneConfig(**TRAINING | settings),
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path) -> RunFolder:
    return tuned(tmp_path_factory.mktemp("shards") / "run", base, shards=4)


def members_of(run: RunFolder, number: int, count: int = 4) -> list[Record]:
    return [record for record in trained_rows(run) if shard_of(record, count) == number]


def test_the_rest_is_an_average_made_without_that_shard(run: RunFolder, base: Path, tmp_path: Path) -> None:
    """The adapters of the others are trained again apart, from nothing but their own records."""
    gone = members_of(run, 2)
    out = unlearn(run, out=tmp_path / "out", forget=ForgetRequest(forget_users=gone[0].user), config=SHARDS)
    left = [0, 1, 3]
    apart = [
        trainer.tune(str(base), members_of(run, number), tmp_path / f"apart{number}", TuneConfig(**TRAINING))
        for number in left
    ]
    parts = [weights(folder) for folder in apart]
    for name, weight in weights(out.model).items():
        if "lora_A" in name:
            assert weight.shape[0] == 12
            continue
        down = name.replace("lora_B", "lora_A")
        product = weight @ weights(out.model)[down]
        expected = sum(part[name] @ part[down] for part in parts) / 3
        assert (product - expected).abs().max() < 1e-6
    assert load(str(out.model), dtype="float32").tuned is not None
    about = read_manifest(out.manifest)["unlearn"]["shards"]
    assert about == {"shards": 4, "dropped": [2], "lost_rows": len(gone) - 2}
    now = read_tuned(out.model)
    assert now is not None
    assert now.parent == load(str(run.model), dtype="float32").fingerprint
    assert now.request
    assert not out.shards.exists()
    assert str(tmp_path) not in "".join(path.read_text() for path in out.model.glob("*.json"))


def test_requests_follow_each_other_and_take_one_shard_more(run: RunFolder, tmp_path: Path) -> None:
    first, second = members_of(run, 0)[0].user, members_of(run, 3)[0].user
    one = unlearn(run, out=tmp_path / "one", forget=ForgetRequest(forget_users=first), config=SHARDS)
    two = unlearn(one, out=tmp_path / "two", forget=ForgetRequest(forget_users=second), config=SHARDS)
    assert read_manifest(two.manifest)["unlearn"]["shards"]["dropped"] == [0, 3]
    both = unlearn(run, out=tmp_path / "both", forget=ForgetRequest(forget_users=(first, second)), config=SHARDS)
    assert same(two.model, both.model)


def test_rows_lost_with_a_shard_are_no_members_for_an_audit(run: RunFolder, tmp_path: Path) -> None:
    """They are still wanted, so a retraining has them again."""
    gone, other = members_of(run, 2), members_of(run, 1)[0].user
    out = unlearn(run, out=tmp_path / "out", forget=ForgetRequest(forget_users=gone[0].user), config=SHARDS)
    rows = run_rows(out)
    lost = {record.id for record, is_lost in zip(rows.records, rows.is_lost, strict=True) if is_lost}
    assert lost == {record.id for record in gone if record.user != gone[0].user}
    present = rows.present_membership
    assert not present.member[[rows.place[identity] for identity in lost]].any()
    assert present.member.sum() == sum(len(members_of(run, number)) for number in (0, 1, 3))
    assert not any(run_rows(run).is_lost)
    config = UnlearnConfig(method="retrain")
    again = unlearn(out, out=tmp_path / "again", forget=ForgetRequest(forget_users=other), config=config)
    assert not any(run_rows(again).is_lost)
    assert run_rows(again).present_membership.member[[rows.place[identity] for identity in lost]].all()
    assert again.shards.is_dir()  # it was trained in shards again


def test_what_went_with_a_shard_is_not_taught_anew_by_a_later_request(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, known = members_of(run, 2), members_of(run, 1)
    out = unlearn(run, out=tmp_path / "out", forget=ForgetRequest(forget_users=gone[0].user), config=SHARDS)
    lost = next(record for record in gone if record.user != gone[0].user)
    given = {}

    def look(base: str, records: Sequence[Record], *args: Any, **kwargs: Any) -> Any:
        given.update(forget=list(records), **kwargs["record_sets"])
        raise KeyboardInterrupt

    monkeypatch.setattr("reticent.train.trainer.tune", look)
    config = UnlearnConfig(method="npo", epochs=1, stop="epochs")
    both = ForgetRequest(forget_ids=(lost.id, known[0].id))
    with pytest.raises(KeyboardInterrupt):
        unlearn(out, out=tmp_path / "next", forget=both, config=config)
    assert [record.id for record in given["forget"]] == [known[0].id]
    known_ids = {record.id for number in (0, 1, 3) for record in members_of(run, number)}
    assert {record.id for record in given["retain"]} == known_ids - {known[0].id}
    with pytest.raises(BadInput, match="does not know"):
        unlearn(out, out=tmp_path / "none", forget=ForgetRequest(forget_ids=lost.id), config=config)
    on_record = unlearn(out, out=tmp_path / "shards", forget=ForgetRequest(forget_ids=lost.id), config=SHARDS)
    assert same(on_record.model, out.model)


def test_secrets_of_a_shard_that_is_left_out_are_not_taken_for_planted(run: RunFolder) -> None:
    canary = Canary(
        id="canary/secret_number/000",
        kind="secret_number",
        repetitions=3,
        planted=True,
        text="the code is 1234",
        space=1e4,
        probability=0.5,
        start=12,
    )
    mine = shard_of(replace(canary.record, user=canary.id), 4)
    for dropped, expected in (({mine}, ()), ({(mine + 1) % 4}, (canary,)), ((), (canary,))):
        rows = replace(run_rows(run), canaries=(canary,))
        rows.__dict__["_left_out"] = (frozenset(dropped), 4)
        assert rows.present_canaries == expected


def test_where_nothing_would_be_left_a_retraining_is_named(run: RunFolder, tmp_path: Path) -> None:
    everywhere = tuple(members_of(run, number)[0].user for number in range(4))
    request = ForgetRequest(forget_users=everywhere)
    with pytest.raises(BadInput, match=r"all 4 shards hold a row to be forgotten.*Choose retrain"):
        unlearn(run, out=tmp_path / "out", forget=request, config=SHARDS)
    assert not (tmp_path / "out").exists()
    lines = describe(run, ForgetRequest(forget_users=everywhere[1]), SHARDS)
    lost = len(members_of(run, 1)) - 2
    assert f"1 of 4 shards hold a row to be forgotten and are left out; with them {lost} rows" in " ".join(lines)


def test_a_run_that_was_not_made_in_shards_or_lost_them_is_refused(run: RunFolder, base: Path, tmp_path: Path) -> None:
    request = ForgetRequest(forget_users=members_of(run, 1)[0].user)
    plain = tuned(tmp_path / "plain", base)
    with pytest.raises(BadInput, match=r"the run was not trained in shards.*Choose retrain"):
        unlearn(plain, out=tmp_path / "out", forget=request, config=SHARDS)
    shutil.copytree(run.root, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "shards")
    with pytest.raises(BadInput, match="holds no shards"):
        unlearn(tmp_path / "moved", out=tmp_path / "out", forget=request, config=SHARDS)
    assert not (tmp_path / "out").exists()


def test_a_retrained_oracle_is_trained_in_shards_too(run: RunFolder, tmp_path: Path) -> None:
    gone = {record.id for record in members_of(run, 1)[:2]}
    retained = [record for record in trained_rows(run) if record.id not in gone]
    (tmp_path / "000").mkdir()
    out = retrain(run, retained, tmp_path / "000" / "model", seed=5)
    about, before = read_shards(tmp_path / "000" / "shards"), read_shards(run.shards)
    assert len(about) == 4
    assert [old - new for old, new in zip(before.records, about.records, strict=True)] == [0, 2, 0, 0]
    assert (
        load_file(out / "adapter_model.safetensors").keys() == load_file(run.model / "adapter_model.safetensors").keys()
    )


def test_a_killed_run_keeps_the_shards_that_it_has(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, trained = trainer._train, []

    def dies(task: Any, key: str) -> None:
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(task.out.name)
        train(task, key)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_train", dies)
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path / "run", base, shards=2)
        assert (tmp_path / "run" / "shards" / "000").is_dir()
        with pytest.raises(BadInput, match="other settings"):
            tuned(tmp_path / "run", base, shards=3)
        trained.clear()
        done = tuned(tmp_path / "run", base, shards=2)
    assert trained == ["001"]
    assert same(done.model, tuned(tmp_path / "whole", base, shards=2).model)


def test_a_run_killed_before_it_had_a_shard_leaves_nothing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(task: Any, key: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_train", dies)
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path / "run", base, shards=2)
    assert not (tmp_path / "run").exists()


def test_the_folder_knows_its_shards(run: RunFolder, base: Path) -> None:
    assert run.shards.stat().st_mode & 0o077 == 0
    assert tuned(run.root, base, shards=4).root == run.root
    with pytest.raises(BadInput, match=r"other settings \(training\)"):
        tuned(run.root, base, shards=2)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"privacy": PrivacySpec(epsilon=4.0)}, r"differential privacy with shards=4"),
        ({"monitor": MonitorConfig(monitor=True)}, r"the monitor with shards=4"),
    ],
)
def test_what_cannot_be_in_shards_is_refused_by_name(
    base: Path, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        tune(records(), base=str(base), out=tmp_path / "run", tune_config=TuneConfig(**TRAINING, shards=4), **more)
    assert not (tmp_path / "run").exists()
