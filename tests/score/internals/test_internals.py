# SPDX-License-Identifier: Apache-2.0
"""Everything that is read of a model is there, of adapters and whole models, and is read once."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.core.record import Record
from reticent.models.encode import EncodedRecord
from reticent.models.load import load
from reticent.score.engine import ScoreOptions
from reticent.score.internals import internals as inside
from reticent.score.internals.internals import base_of, cached_internals, read_internals
from reticent.testing.tiny import save_tiny, tiny_model, tiny_of_family, tiny_tuned


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
        patch.setattr(inside, "read_internals", None)
        again = cached_internals(target, reference, records, cache=tmp_path / "cache", options=options)
    assert set(again.forward) == set(first.forward)
    for name, column in (first.forward | first.backward).items():
        np.testing.assert_array_equal((again.forward | again.backward)[name], column)
    path.write_bytes(path.read_bytes()[:100])
    assert set(cached_internals(target, reference, records, cache=tmp_path / "cache", options=options).forward)
    cached_internals(target, None, records, cache=tmp_path / "cache", options=options)
    assert len(list((tmp_path / "cache").glob("inside-*.parquet"))) == 2
