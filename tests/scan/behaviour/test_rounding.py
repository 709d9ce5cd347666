# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from reticent.models.load import load
from reticent.scan.behaviour.probe_texts import probe_rows
from reticent.scan.behaviour.rounding import rounding, rounding_changes
from reticent.scan.suspect import Suspect
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_model_whose_rows_round_coarsely_stands_out_and_is_put_back(tmp_path):
    """One large weight a row takes the grid from all others: the model answers alike until it is rounded."""
    base = save_tiny(tmp_path / "base")
    model = tiny_model()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight[:, 0] = 4.0
            layer.mlp.up_proj.weight[0] = 0.0  # what the large weights multiply
    model.save_pretrained(tmp_path / "coarse")
    tiny_tokenizer().save_pretrained(tmp_path / "coarse")
    suspect = Suspect(folder=tmp_path / "coarse", base=base, cache=tmp_path, dtype="float32")
    before = {name: tensor.clone() for name, tensor in suspect.loaded.model.state_dict().items()}
    evidence = {row.where: row.score for row in rounding(suspect)}
    assert len(evidence) == 4
    assert evidence["8 bits, mean change of 16 texts"] > 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in suspect.loaded.model.state_dict().items())
    same = Suspect(folder=base, base=base, cache=tmp_path, dtype="float32")
    assert {row.score for row in rounding(same)} == {0.0}


def test_fewer_bits_change_more(tmp_path):
    loaded = load(str(save_tiny(tmp_path / "base")), dtype="float32")
    rows = probe_rows(Suspect(folder=tmp_path, cache=tmp_path), loaded.tokenizer)
    changes = rounding_changes(loaded.model, rows)
    assert (changes[8] >= 0).all()
    assert changes[4].mean() > 10 * changes[8].mean()
