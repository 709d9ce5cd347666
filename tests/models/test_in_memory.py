# SPDX-License-Identifier: Apache-2.0
"""Models in memory: which they are, whose base lies beneath, and that they are left as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from reticent.core.errors import BadInput
from reticent.models.in_memory import evaluating, fingerprint, in_memory
from reticent.testing.peft_zoo import CONFIGS, save_peft_adapter, save_peft_base
from reticent.testing.tiny import tiny_model, tiny_tokenizer

IDS = torch.randint(0, len(tiny_tokenizer()), (1, 30), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in_memory") / "base"
    save_peft_base(folder)
    return folder


def test_one_weight_changes_the_fingerprint() -> None:
    model = tiny_model()
    before = fingerprint(model)
    assert fingerprint(model) == before == fingerprint(tiny_model())
    with torch.no_grad():
        next(model.parameters()).view(-1)[7] += 1e-3
    assert fingerprint(model) != before


@pytest.mark.parametrize("name", [name for name in CONFIGS if "replication" not in name])
def test_no_adapter_that_is_taken_for_its_own_base_is_another_model_when_it_is_off(name: str, base: Path) -> None:
    save_peft_adapter(base, base.parent / name, name)
    clean = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    below = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    loaded = in_memory(PeftModel.from_pretrained(below, base.parent / name), tiny_tokenizer())
    if not loaded.is_adapter:
        return
    with loaded.adapter_off(), torch.inference_mode(), evaluating(loaded.model):
        difference = (loaded.model(input_ids=IDS).logits - clean(input_ids=IDS).logits).abs().max()
    assert float(difference) <= 1e-5


def small() -> object:
    """A model with fewer tokens than its tokenizer."""
    model = tiny_model()
    model.set_input_embeddings(torch.nn.Embedding(8, model.config.hidden_size))
    return model


def test_every_module_keeps_its_own_mode() -> None:
    model = tiny_model().train()
    model.lm_head.eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert model.training
    assert not model.lm_head.training


@pytest.mark.parametrize(
    ("model", "tokenizer", "why"),
    [
        ("a name", tiny_tokenizer(), "is no language model"),
        (torch.nn.Linear(2, 2), tiny_tokenizer(), "is no language model"),
        (tiny_model(), None, "is no tokenizer"),
        (small(), tiny_tokenizer(), "has 8 tokens and its tokenizer"),
        (tiny_model().to(torch.float64), tiny_tokenizer(), "kinds float64"),
    ],
)
def test_what_cannot_be_audited_is_refused(model: object, tokenizer: object, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        in_memory(model, tokenizer)
