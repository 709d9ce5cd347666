# SPDX-License-Identifier: Apache-2.0
"""Everything that is read of a model is there, of adapters and whole models, and is read once."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.core.record import Record
from reticent.models.encode import EncodedRecord, encode
from reticent.models.load import load
from reticent.score.engine import ScoreOptions
from reticent.score.internals import gradients, hidden
from reticent.score.internals import internals as inside
from reticent.score.internals.internals import base_of, cached_internals, read_internals
from reticent.testing.tiny import save_tiny, tiny_model, tiny_of_family, tiny_tokenizer, tiny_tuned


def text(length, seed=0):
    rng = np.random.default_rng([length, seed])
    return EncodedRecord(token_id=rng.integers(0, 280, length).astype(np.int32), trained=np.ones(length, dtype=bool))


ROWS = [text(9), text(14), text(5)]


@pytest.mark.parametrize(("method", "with_base"), [("lora", False), ("full", True), ("adapter", False)])
def test_all_properties_are_finite_columns(method, with_base):
    model = tiny_tuned("llama", method)
    found = read_internals(model, tiny_of_family("llama") if with_base else None, ROWS)
    assert {"loss", "gain", "margin_min", "hidden_cosine.0", "hidden_moved.1"} <= set(found.forward)
    assert "gradient_norm" in found.backward
    assert any(name.startswith("gradient_cosine.") for name in found.backward)
    for column in (found.forward | found.backward).values():
        assert column.shape == (3,)
        assert np.isfinite(column).all()
    assert (found.forward["hidden_moved.1"] > 0).all()


def test_without_a_base_nothing_compares_with_it():
    assert base_of(tiny_model(), None) is None
    found = read_internals(tiny_model(), None, ROWS)
    assert "gain" not in found.forward
    assert not any(name.startswith("gradient_cosine") for name in found.backward)


def test_whoever_trains_can_say_where_a_started():
    model = tiny_tuned("llama", "lora")
    origin = {name: parameter.detach() * 0 for name, parameter in model.named_parameters() if "lora_A" in name}
    found = read_internals(model, None, ROWS, origin=origin)
    assert "gradient_cosine.0.lora_A" in found.backward


def test_the_same_call_again_reads_what_was_kept(tmp_path, monkeypatch):
    folders = [save_tiny(tmp_path / f"model{seed}", seed=seed) for seed in (1, 0)]
    target, reference = (load(str(folder), dtype="float32") for folder in folders)
    records = [Record(id=str(i), text=f"order number {i} of the house " * (i + 1)) for i in range(3)]
    options = ScoreOptions(max_tokens=40)
    first = cached_internals(target, reference, records, cache=tmp_path / "cache", options=options)
    (path,) = (tmp_path / "cache").glob("inside-*.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(inside, "_made", None)
        again = cached_internals(target, reference, records, cache=tmp_path / "cache", options=options)
    assert set(again.forward) == set(first.forward)
    for name, column in (first.forward | first.backward).items():
        np.testing.assert_array_equal((again.forward | again.backward)[name], column)
    path.write_bytes(path.read_bytes()[:100])
    assert set(cached_internals(target, reference, records, cache=tmp_path / "cache", options=options).forward)
    cached_internals(target, None, records, cache=tmp_path / "cache", options=options)
    assert len(list((tmp_path / "cache").glob("inside-*.parquet"))) == 2


@pytest.mark.parametrize("method", ["full", "lora"])
def test_in_shards_it_is_what_it_is_as_a_whole(tmp_path, monkeypatch, method):
    """To the last bit: lots are those that are read together, whatever is a shard."""
    target = load(str(save_tuned(tmp_path / "model", method)), dtype="float32")
    reference = load(str(save_tiny(tmp_path / "base")), dtype="float32") if method == "full" else None
    records = [Record(id=str(i), text=f"order number {i} of the house " * (1 + i * 5 % 7)) for i in range(17)]
    options = ScoreOptions(max_tokens=60)
    rows = [encode(record, target.tokenizer, max_tokens=60) for record in records]
    monkeypatch.setattr(hidden, "_AT_ONCE", 4)
    monkeypatch.setattr(gradients, "_TOKENS_PER_BATCH", {"cpu": 128, "cuda": 128})
    monkeypatch.setattr(inside, "_LOT_TOKENS", 200)
    whole = read_internals(target.model, None if reference is None else reference.model, rows, options=options)
    made = []
    make = inside.InternalsShards.make
    monkeypatch.setattr(inside.InternalsShards, "make", lambda *given: made.append(1) or make(*given))
    found = cached_internals(target, reference, records, cache=tmp_path / "cache", options=options)
    assert len(made) >= 5 + 3
    for mine, other in ((found.forward, whole.forward), (found.backward, whole.backward)):
        assert list(mine) == list(other)
        for name, column in other.items():
            np.testing.assert_array_equal(mine[name], column)
    assert not list((tmp_path / "cache" / "shards").iterdir())


def test_killed_it_goes_on_after_the_last_shard(tmp_path, monkeypatch):
    target = load(str(save_tiny(tmp_path / "model")), dtype="float32")
    records = [Record(id=str(i), text=f"order number {i} of the house") for i in range(8)]
    ask = {"cache": tmp_path / "cache", "options": ScoreOptions()}
    monkeypatch.setattr(hidden, "_AT_ONCE", 2)
    make, made = inside.InternalsShards.make, []

    def killed(*given):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(1)
        return make(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(inside.InternalsShards, "make", killed)
        cached_internals(target, None, records, **ask)
    monkeypatch.setattr(inside.InternalsShards, "make", lambda *given: made.append(1) or make(*given))
    cached_internals(target, None, records, **ask)
    assert len(made) == 4 + 1


def test_a_disk_that_is_full_at_the_end_costs_no_shard(tmp_path, monkeypatch):
    target = load(str(save_tiny(tmp_path / "model")), dtype="float32")
    records = [Record(id=str(i), text=f"order number {i} of the house") for i in range(4)]
    ask = {"cache": tmp_path / "cache", "options": ScoreOptions()}

    def full(*given):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(inside, "_write", full)
        with pytest.raises(OSError, match="no space"):
            cached_internals(target, None, records, **ask)
    with monkeypatch.context() as patch:
        patch.setattr(inside.InternalsShards, "make", None)
        cached_internals(target, None, records, **ask)
    assert not list((tmp_path / "cache" / "shards").iterdir())


def save_tuned(folder, method):
    model = tiny_tuned("llama", method)
    tuned = model if method == "full" else model.eval()
    save_tiny(folder.with_name("base-of-it"))
    if method == "lora":
        tuned.peft_config["default"].base_model_name_or_path = str(folder.with_name("base-of-it"))
    tuned.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
