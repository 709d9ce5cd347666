# SPDX-License-Identifier: Apache-2.0
"""A training in shards: who goes where, the average as the model, going on after a kill, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.user_shards import shard_of
from reticent.models.load import load
from reticent.privacy.spec import PrivacySpec
from reticent.testing.saved import same
from reticent.testing.tiny import save_tiny, tiny_model
from reticent.train import sharding, trainer
from reticent.train.config import TuneConfig
from reticent.train.identity import training_key
from reticent.train.objectives.token_classifier import Classifier
from reticent.train.sharding import read_shards, shards_of
from reticent.train.trainer import LOG, tune

RECORDS = [Record(id=f"r{n}", text=f"order {n * 7919 % 1000} of {n}", user=f"user {n % 12}") for n in range(24)]
SETTINGS: dict[str, Any] = {
    "method": "lora",
    "method_params": {"r": 4, "alpha": 8.0},
    "epochs": 1,
    "learning_rate": 1e-2,
    "dtype": "float32",
    "max_tokens": 24,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base"))


def merged(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load(str(folder), dtype="float32").model.merge_and_unload().named_parameters())


def test_users_go_whole_to_one_of_the_shards() -> None:
    records = [Record(id=f"r{n}", text="x", user=f"u{n % 300}") for n in range(600)]
    places = {record.user: shard_of(record, 4) for record in records}
    assert all(shard_of(record, 4) == places[record.user] for record in records)
    assert all(50 < list(places.values()).count(number) < 100 for number in range(4))
    alone = [shard_of(Record(id=f"r{n}", text="x"), 4) for n in range(400)]
    assert all(70 < alone.count(number) < 130 for number in range(4))
    assert shard_of(Record(id="a", text="x"), 2**20) != shard_of(Record(id="b", text="x", user="a"), 2**20)


def test_the_model_is_the_average_of_adapters_of_trainings_apart(base: str, tmp_path: Path) -> None:
    out = tune(base, RECORDS, tmp_path / "run" / "model", TuneConfig(**SETTINGS, shards=2), held_out=RECORDS[:4])
    start, parts = dict(tiny_model().named_parameters()), []
    for number in range(2):
        mine = [record for record in RECORDS if shard_of(record, 2) == number]
        apart = tune(base, mine, tmp_path / f"apart{number}", TuneConfig(**SETTINGS))
        assert same(apart, tmp_path / "run" / "shards" / f"{number:03d}")
        parts.append(merged(apart))
    for name, weight in merged(out).items():
        expected = start[name] + sum(part[name] - start[name] for part in parts) / 2
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)
    log = json.loads((out / LOG).read_text())
    assert (log["records"], len(log["shards"])) == (24, 2)
    assert log["held_out"]["tuned"]["loss"] < log["held_out"]["base"]["loss"]
    about = read_shards(shards_of(out))
    assert sum(about.records) == 24
    about.check()
    texts = [path.read_text() for path in (tmp_path / "run").rglob("*.json")]
    private = (str(tmp_path), str(Path(base).parent), "user 3")
    assert not any(word in text for text in texts for word in private)


def test_killed_it_goes_on_with_the_shards_that_are_missing(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TuneConfig(**SETTINGS, shards=2)
    whole = tune(base, RECORDS, tmp_path / "whole" / "model", config)
    train, trained = trainer._train, []

    def dies(task: Any, key: str) -> None:
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(task.out.name)
        train(task, key)

    out = tmp_path / "killed" / "model"
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_train", dies)
        with pytest.raises(KeyboardInterrupt):
            tune(base, RECORDS, out, config)
        assert not out.exists()
        assert sharding.has_begun(shards_of(out))
        trained.clear()
        tune(base, RECORDS, out, config)
        assert trained == ["001"]
    assert same(whole, out)
    monkeypatch.setattr(trainer, "_train", dies)  # finished, it trains nothing
    assert tune(base, RECORDS, out, config) == out
    with pytest.raises(BadInput, match="outcome of another training"):
        tune(base, RECORDS[1:], out, config)
    with pytest.raises(BadInput, match="outcome of another training"):
        tune(base, RECORDS, out, TuneConfig(**SETTINGS, shards=3))


def test_without_shards_a_training_has_the_key_that_it_had(base: str) -> None:
    config = TuneConfig(**SETTINGS)
    assert "shards" not in config.on_record
    assert training_key("base", RECORDS, [], config) != training_key(
        "base", RECORDS, [], TuneConfig(**SETTINGS, shards=2)
    )


def test_what_is_about_one_training_is_refused(base: str, tmp_path: Path) -> None:
    config = TuneConfig(**SETTINGS, shards=2)
    for more in (
        {"goes_on": True},
        {"record_sets": {"forget": RECORDS}},
        {"callbacks": [object()]},
        {"privacy": PrivacySpec(epsilon=1.0)},
    ):
        with pytest.raises(BadInput, match=r"with shards=2: it is about one training"):
            tune(base, RECORDS, tmp_path / "model", config, **more)
    with pytest.raises(BadInput, match=r"shards=40: shard \d+ gets no record: 12 users"):
        tune(base, RECORDS, tmp_path / "model", TuneConfig(**SETTINGS, shards=40))
    with pytest.raises(BadInput, match="it makes something beside the model"):
        tune(base, RECORDS, tmp_path / "model", config, objectives=[Classifier()])
    for count in (0, 1, -3, 65):
        with pytest.raises(BadInput, match="must be a whole number from 2 to 64"):
            TuneConfig(**SETTINGS, shards=count)
    with pytest.raises(BadInput, match=r"shards=2 with method='full'.*Give --method lora"):
        TuneConfig(shards=2)
    assert not list(tmp_path.iterdir())


def test_adapters_that_are_others_are_noticed(base: str, tmp_path: Path) -> None:
    out = tune(base, RECORDS, tmp_path / "model", TuneConfig(**SETTINGS, shards=2))
    about = read_shards(shards_of(out))
    weights = about.adapter(1) / "adapter_model.safetensors"
    weights.write_bytes((about.adapter(0) / "adapter_model.safetensors").read_bytes())
    with pytest.raises(BadInput, match="is not the adapter that was trained for this shard"):
        about.check()
    (about.folder / "shards.json").write_text("{}")
    with pytest.raises(BadInput, match="is broken"):
        read_shards(about.folder)
    with pytest.raises(BadInput, match="holds no shards"):
        read_shards(tmp_path / "nowhere")
