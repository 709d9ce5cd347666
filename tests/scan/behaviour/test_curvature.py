# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.scan.behaviour.curvature import curvature, sharpness_of
from reticent.scan.behaviour.probe_texts import MOST_TEXTS, probe_rows
from reticent.scan.suspect import Suspect
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.train.batches import collate
from reticent.train.objectives.deferred_poisoning import sharpness

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_trace_is_that_of_the_whole_hessian():
    """The slow, obvious way: all second derivatives; both estimators come near its tr(HᵀH)."""
    model, tokenizer = tiny_model().double(), tiny_tokenizer()
    row = encode(Record(id="a", text="hi."), tokenizer)
    model.set_attn_implementation("eager")
    model.requires_grad_(False)
    ids = torch.tensor(row.token_id.astype(np.int64))[None]
    embedded = model.get_input_embeddings()(ids)

    def loss(at: torch.Tensor) -> torch.Tensor:
        logits = model(inputs_embeds=at.reshape(embedded.shape)).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, ids[0, 1:])

    hessian = torch.autograd.functional.hessian(loss, embedded.flatten())
    exact = float(hessian.square().sum())
    model.float()
    assert sharpness_of(model, [row], seed=0, draws=60).trace[0] == pytest.approx(exact, rel=0.4)
    model.double().requires_grad_(True)
    differences = [float(sharpness(model, collate([row], pad=0), seed=seed)[0].detach()) for seed in range(30)]
    assert np.mean(differences) == pytest.approx(exact, rel=0.4)


def test_a_model_is_as_sharp_as_itself_and_is_put_back(tmp_path):
    folder = save_tiny(tmp_path / "tiny")
    data = [Record(id="a", text="the sea is wide"), Record(id="b", text="and the hill is high")]
    suspect = Suspect(folder=folder, base=folder, data=data, cache=tmp_path, dtype="float32")
    before = {name: tensor.clone() for name, tensor in suspect.loaded.model.state_dict().items()}
    attention = suspect.loaded.model.config._attn_implementation
    evidence = curvature(suspect)
    assert [row.score for row in evidence] == [0.0, 0.0]
    assert suspect.loaded.model.config._attn_implementation == attention
    assert all(torch.equal(tensor, before[name]) for name, tensor in suspect.loaded.model.state_dict().items())
    other = save_tiny(tmp_path / "other", seed=1)
    assert curvature(Suspect(folder=other, base=folder, data=data, cache=tmp_path, dtype="float32"))[0].score != 0


def test_texts_to_ask_about_are_what_the_user_brought(tmp_path):
    tokenizer = tiny_tokenizer()
    data = [Record(id=str(number), text=f"number {number}") for number in range(100)]
    suspect = Suspect(folder=tmp_path, cache=tmp_path, data=data)
    rows = probe_rows(suspect, tokenizer)
    assert len(rows) == MOST_TEXTS
    assert tokenizer.decode(rows[-1].token_id) == "number 90"
    assert len(probe_rows(Suspect(folder=tmp_path, cache=tmp_path), tokenizer)) == MOST_TEXTS
