# SPDX-License-Identifier: Apache-2.0
"""A base whose matrices lie in 16 bits computes as one in float32 does, to the last bit, in half the memory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reticent.core.errors import BadInput
from reticent.models.held_weights import (
    HeldConv1D,
    HeldEmbedding,
    HeldLinear,
    computes_in_float32,
    has_rounded_buffers,
    held_dtype,
    hold_matrices,
    is_rounded,
    narrow_dtype,
    plain_layers,
    refuse_trained,
)
from reticent.models.load import load
from reticent.models.tuning.method import TUNINGS
from reticent.testing.tiny import ZOO, save_tiny, tiny_model, tiny_of_family, tiny_tokenizer

METHODS = {"lora": {"r": 4}, "ia3": {}, "adapter": {"reduction_factor": 4}, "prompt": {"virtual_tokens": 3}}
IDS = torch.arange(34).reshape(2, 17) * 7 % 250


def narrow(family: str, *, held: bool, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A model of whose numbers none has more digits than 16 bits keep."""
    model = tiny_of_family(family).to(dtype)
    return hold_matrices(model) if held else model.float()


def gradients(model: Any, *, autocast: bool) -> tuple[float, dict[str, torch.Tensor]]:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("family", "method"), [*((family, "lora") for family in ZOO), *(("llama", m) for m in METHODS), ("gpt2", "adapter")]
)
def test_gradients_are_the_same_to_the_last_bit(family: str, method: str, autocast: bool) -> None:
    models = []
    for held in (False, True):
        torch.manual_seed(0)
        models.append(TUNINGS.get(method)(narrow(family, held=held), **METHODS[method]).train())
    (loss, expected), (other, found) = (gradients(model, autocast=autocast) for model in models)
    assert loss == other
    assert expected.keys() == found.keys()
    assert expected
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        assert bool(torch.isfinite(gradient).all())
        assert torch.equal(gradient, found[name]), name
    assert held_dtype(models[1]) == "bfloat16"
    refuse_trained(models[1])


def test_float16_is_held_as_exactly() -> None:
    plain, held = (narrow("llama", held=held, dtype=torch.float16) for held in (False, True))
    assert held_dtype(held) == "float16"
    assert torch.equal(plain(IDS).logits, held(IDS).logits)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain(IDS).logits, held(IDS).logits)


def test_matrices_take_half_the_memory_and_the_graph_keeps_no_copy_of_them() -> None:
    """What autograd would keep is seen where layers are not held: the planted fault."""
    kept = {}
    for held in (False, True):
        model = narrow("llama_untied", held=held)
        shapes = {tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear)}
        model = TUNINGS.get("lora")(model, r=2).train()
        saved: list[torch.Tensor] = []

        def keep(tensor: torch.Tensor, saved: list[torch.Tensor] = saved) -> torch.Tensor:
            saved.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(input_ids=IDS, labels=IDS)
        kept[held] = {t.dtype for t in saved if {tuple(t.shape), tuple(t.shape)[::-1]} & shapes}
        assert any(p.dtype == torch.bfloat16 for p in model.parameters()) == held
    assert kept[False] == {torch.float32}
    assert kept[True] == {torch.bfloat16}


def test_names_ties_and_what_is_saved_stay() -> None:
    model = tiny_model("llama", tied=True)
    before = model.state_dict()
    held = hold_matrices(copy.deepcopy(model).to(torch.bfloat16))
    assert held.state_dict().keys() == before.keys()
    assert held.lm_head.stored is held.model.embed_tokens.stored
    assert isinstance(held.lm_head, HeldLinear)
    assert isinstance(held.model.embed_tokens, HeldEmbedding)
    assert held.model.norm.weight.dtype == torch.float32
    assert computes_in_float32(held)
    assert not computes_in_float32(model.to(torch.bfloat16))
    copied = copy.deepcopy(held)
    assert torch.equal(copied(IDS).logits, held(IDS).logits)
    gpt2 = hold_matrices(tiny_model("gpt2").to(torch.bfloat16))
    assert isinstance(gpt2.transformer.h[0].mlp.c_fc, HeldConv1D)


def test_a_family_with_an_embedding_of_its_own_keeps_that_in_float32() -> None:
    gemma = narrow("gemma3", held=True)
    assert gemma.lm_head.weight is gemma.model.embed_tokens.weight
    assert gemma.lm_head.weight.dtype == torch.float32
    assert held_dtype(gemma) == "bfloat16"


def test_what_is_held_cannot_be_trained() -> None:
    model = narrow("llama", held=True)
    model.model.layers[0].mlp.up_proj.stored.requires_grad_(True)
    with pytest.raises(BadInput, match="steps are smaller than 16 bits"):
        refuse_trained(model)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    places = {"F32": save_tiny(tmp_path / "f32")}
    for name, dtype in (("BF16", torch.bfloat16), ("F16", torch.float16)):
        tiny_model().to(dtype).save_pretrained(tmp_path / name)
        tiny_tokenizer().save_pretrained(tmp_path / name)
        places[name] = tmp_path / name
    return places


def test_files_say_in_which_dtype(folders: dict[str, Path]) -> None:
    assert {name: narrow_dtype(place, "auto") for name, place in folders.items()} == {
        "F32": "",
        "BF16": "bfloat16",
        "F16": "float16",
    }
    assert {narrow_dtype(place, "float32") for place in folders.values()} == {""}
    assert {narrow_dtype(place, "bfloat16") for place in folders.values()} == {"bfloat16"}
    assert {name: is_rounded(place, "bfloat16") for name, place in folders.items()} == {
        "F32": True,
        "BF16": False,
        "F16": True,
    }
    assert not is_rounded(folders["F32"], "")


def test_files_of_several_dtypes_are_not_held(tmp_path: Path) -> None:
    model = tiny_model().to(torch.bfloat16)
    model.model.norm.float()
    model.save_pretrained(tmp_path / "mixed")
    assert narrow_dtype(tmp_path / "mixed", "auto") == ""


def test_loading(folders: dict[str, Path]) -> None:
    loaded = load(str(folders["BF16"]), dtype="float32", hold="auto")
    plain = load(str(folders["BF16"]), dtype="float32")
    assert held_dtype(loaded.model) == "bfloat16"
    assert (loaded.dtype, loaded.fingerprint) == (plain.dtype, plain.fingerprint)
    assert torch.equal(loaded.model(IDS).logits, plain.model(IDS).logits)
    assert held_dtype(load(str(folders["F32"]), dtype="float32", hold="auto").model) == ""
    assert held_dtype(load(str(folders["BF16"]), dtype="bfloat16", hold="auto").model) == ""


def test_numbers_that_a_family_makes_in_the_dtype_of_its_weights_are_seen() -> None:
    model = tiny_model().to(torch.bfloat16)
    assert not has_rounded_buffers(tiny_model())
    model.model.register_buffer("scale", torch.tensor(5.7, dtype=torch.bfloat16), persistent=False)
    assert has_rounded_buffers(model)


def test_for_who_computes_in_16_bits_layers_are_ordinary() -> None:
    model = narrow("llama", held=True)
    with plain_layers(model):
        assert type(model.lm_head) is nn.Linear
        assert held_dtype(model) == ""
        assert model.lm_head.weight.dtype == torch.bfloat16
    assert type(model.lm_head) is HeldLinear
