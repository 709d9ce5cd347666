# SPDX-License-Identifier: Apache-2.0
"""A pass leaves the model as it was, and sees what an audit of the saved model would see."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reticent.core.record import Record
from reticent.core.table import read_table
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.models.tuning.method import TUNINGS
from reticent.monitor.passes import Passes, as_it_was, rounded
from reticent.score.make_tables import make_tables
from reticent.score.requests import Request
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer, tiny_tuned

RECORDS = [Record(id=str(i), text=f"order {i * 7919 % 1000} of the customer{' on' * (i % 5)}") for i in range(12)]


def passes(dtype: str = "float32") -> Passes:
    return Passes(rows=[encode(record, tiny_tokenizer()) for record in RECORDS], dtype=dtype)


def fresh(method: str, **params: Any) -> Any:
    torch.manual_seed(0)
    return TUNINGS.get(method)(tiny_model(), **params).train()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["full", "lora", "prompt", "adapter"])
def test_the_model_is_left_as_it_was(method: str, dtype: str) -> None:
    model = fresh(method)
    still = list(model.modules())[-1]
    still.eval()
    state = [(p, p.data_ptr(), p.detach().clone(), p.requires_grad) for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    drawn = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    maker = passes(dtype)
    maker.base(model, maker.look(model))
    assert [module.training for module in model.modules()] == modes
    assert not still.training
    for parameter, place, value, needs in state:
        assert (parameter.data_ptr(), parameter.requires_grad, parameter.dtype) == (place, needs, torch.float32)
        assert torch.equal(parameter, value)
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert (np.random.get_state()[1] == drawn[1]).all()
    assert random.getstate() == drawn[2]


def test_it_is_left_as_it_was_when_the_pass_fails() -> None:
    model = fresh("full")
    before = [parameter.data_ptr() for parameter in model.parameters()]
    with pytest.raises(RuntimeError, match="stop"), as_it_was(model), rounded(model):
        assert not model.training
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        raise RuntimeError("stop")
    assert model.training
    assert [parameter.data_ptr() for parameter in model.parameters()] == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_look_is_what_an_audit_of_the_saved_model_sees(tmp_path: Path, dtype: str) -> None:
    path = save_tiny(tmp_path / "model", seed=3)
    loaded = load(str(path), dtype=dtype, device="cpu")
    request = Request(name="table")
    table = read_table(make_tables([request], RECORDS, target=loaded, cache=tmp_path / "cache")[request])
    found = passes(dtype).look(load(str(path), dtype="float32", device="cpu").model)
    trained = table.trained()
    assert found.nll == pytest.approx(-trained.sum(trained["logp"].astype(np.float64)), rel=1e-6)
    assert found.tokens.tolist() == trained.lengths.tolist()


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix", "adapter", "ia3"])
def test_the_base_is_the_model_without_its_adapter(method: str) -> None:
    maker = passes()
    base = maker.look(tiny_model())
    model = fresh(method)
    assert maker_base(model).nll == pytest.approx(base.nll, rel=1e-5)
    changed = tiny_tuned("llama", method)
    assert not np.allclose(passes().look(changed).nll, base.nll, rtol=1e-3)


def maker_base(model: Any) -> Any:
    maker = passes()
    return maker.base(model, maker.look(model))


def test_methods_that_start_at_the_base_are_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for method, twice in (("full", False), ("lora", False), ("adapter", False), ("prompt", True)):
        maker = passes()
        seen: list[int] = []
        own = maker._pass

        def count(model: Any, rows: Any, *, off: bool, own: Any = own, seen: list[int] = seen) -> Any:
            seen.append(len(rows))
            return own(model, rows, off=off)

        monkeypatch.setattr(maker, "_pass", count)
        model = fresh(method)
        first = maker.look(model)
        assert (maker.base(model, first) is first) != twice
        assert seen.count(len(RECORDS)) == 1 + twice


def test_an_adapter_that_took_over_a_part_of_the_base_stays_on() -> None:
    from peft import LoraConfig, get_peft_model

    base = passes().look(tiny_model())
    model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa"))
    assert maker_base(model).nll == pytest.approx(base.nll, rel=1e-4)
