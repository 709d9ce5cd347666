# SPDX-License-Identifier: Apache-2.0
"""Adapters that are switched off are their base, or another copy of the base is the reference."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from reticent.auditing.case import AuditCase
from reticent.auditing.models import open_models
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.split import from_files
from reticent.models.grown_vocabulary import rows_wanted
from reticent.models.load import load
from reticent.testing.peft_zoo import CONFIGS, save_peft_adapter, save_peft_base
from reticent.testing.tiny import tiny_tokenizer

TOKENS = len(tiny_tokenizer())
IDS = torch.randint(0, TOKENS, (1, 40), generator=torch.Generator().manual_seed(3))
NOT_ITS_BASE = {
    "lora_bias_all",
    "lora_bias_lora_only",
    "dora_bias_all",
    "oft_bias",
    "lora_pissa",
    "lora_pissa_fast",
    "lora_olora",
    "lora_replication",
}
"""Found by comparing logits by hand; all others are exact."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("beneath")
    save_peft_base(made / "base")
    save_peft_base(made / "untied", tied=False)
    save_peft_base(made / "padded", rows=TOKENS + 32)
    return made


def logits(model: object) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits[0]  # type: ignore[operator, no-any-return]


def clean(folder: Path, base: str = "base") -> torch.Tensor:
    return logits(AutoModelForCausalLM.from_pretrained(folder / base, dtype=torch.float32).eval())


def case(target: Path, texts: tuple[str, ...] = ("the order is late", "the letter came"), **more: object) -> AuditCase:
    more_texts = [*texts, *(f"letter {number}" for number in range(8))]
    records = [Record(id=f"r{number}", text=text) for number, text in enumerate(more_texts)]
    membership = from_files(records[:5], records[5:])
    return AuditCase(
        title="t", target=str(target), records=records, membership=membership, **({"reference": None} | more)
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_reference_of_an_adapter_is_its_base(name: str, folder: Path) -> None:
    target = save_peft_adapter(folder / "base", folder / name, name)
    models = open_models(case(target), dtype="float32", device="cpu")
    assert (models.reference is not None) == (name in NOT_ITS_BASE)
    assert models.compared_with == models.target.base_source
    if models.reference is not None:
        found = logits(models.reference.model)
        assert models.reference.fingerprint == models.target.base_fingerprint
        assert models.target.apart in models.about["reference_is"]
        with pytest.raises(BadInput, match="is not its base when it is switched off"):
            models.target.adapter_off()
        assert not models.target.is_adapter  # so nothing else takes it for one
    else:
        with models.target.adapter_off():
            found = logits(models.target.model)
        assert models.about["reference_is"] == "the target with its adapter switched off"
    assert float((found - clean(folder)).abs().max()) <= 1e-5
    assert models.about["reference_fingerprint"] == models.target.base_fingerprint


def test_one_changed_row_of_an_embedding_is_seen(folder: Path) -> None:
    """A row that no sentence of a probe reads."""
    name = save_peft_adapter(folder / "base", folder / "row", "lora_some", embeddings=True)
    from safetensors.torch import load_file, save_file

    weights = load_file(name / "adapter_model.safetensors")
    assert not load(str(name), dtype="float32", device="cpu").apart
    for key in weights:
        if key.endswith(("embed_tokens.weight", "lm_head.weight")):
            weights[key][7] += 0.5
    save_file({one: weight.clone() for one, weight in weights.items()}, name / "adapter_model.safetensors")
    assert "weights of the base itself" in load(str(name), dtype="float32", device="cpu").apart


# ---- vocabularies that were grown --------------------------------------------------------------------------------

GROWN = {
    "saved modules": ("lora_saved_modules", {}),
    "tokens one by one": ("lora_tokens", {"trainable_token_indices": [TOKENS, TOKENS + 1]}),
    "lora of the embeddings": ("lora_embeddings", {}),
    "lora of the head": ("lora_head", {}),
    "matrices kept by PEFT": ("lora_some", {}),
    "dora and saved modules": ("lora_dora_head", {"modules_to_save": ["embed_tokens", "lm_head"]}),
}


def saved_tokenizer(folder: Path, more: int) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<|new{number}|>" for number in range(more)])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("base", "rows"), [("base", TOKENS + 4), ("untied", TOKENS + 4), ("base", TOKENS + 64), ("padded", TOKENS)]
)
@pytest.mark.parametrize("name", GROWN)
def test_adapters_with_other_vocabularies_load_and_are_compared(name: str, base: str, rows: int, folder: Path) -> None:
    """Grown by new tokens, padded, or cut down to the tokens that are used."""
    kind, how = GROWN[name]
    if rows == TOKENS and name == "tokens one by one":
        how = {"trainable_token_indices": [5]}
    target = save_peft_adapter(folder / base, folder / f"grown {name} {base} {rows}", kind, rows=rows, **how)
    models = open_models(case(target), dtype="float32", device="cpu")
    assert models.target.model.get_input_embeddings().weight.shape[0] == rows
    assert models.reference is not None
    assert float((logits(models.reference.model) - clean(folder, base)).abs().max()) <= 1e-5
    with models.target.adapter_off():  # still the base, in as many rows
        off = logits(models.target.model)
    assert float((off[:, :TOKENS] - clean(folder, base)[:, :TOKENS]).abs().max()) <= 1e-5


def test_a_text_with_a_token_that_the_base_lacks_is_refused(folder: Path) -> None:
    target = save_peft_adapter(folder / "base", folder / "marks", "lora_saved_modules", rows=TOKENS + 2)
    saved_tokenizer(target, 2)
    texts = ("the order", "the <|new1|> order")
    with pytest.raises(BadInput, match="another vocabulary"):
        open_models(case(target, texts), dtype="float32", device="cpu")
    assert open_models(case(target), dtype="float32", device="cpu").reference is not None


def test_tokens_whose_weights_are_in_no_file_are_refused_where_a_text_has_them(folder: Path) -> None:
    target = save_peft_adapter(folder / "base", folder / "lost", "lora_some", embeddings=False)
    saved_tokenizer(target, 3)
    loaded = load(str(target), dtype="float32", device="cpu")
    assert loaded.unknown == {TOKENS, TOKENS + 1, TOKENS + 2}
    alone = case(target, ("the order", "a <|new2|>"))
    with pytest.raises(BadInput):
        open_models(alone, dtype="float32", device="cpu")


def test_rows_that_only_the_input_has_are_not_known(folder: Path) -> None:
    """With an output matrix of its own, a new token that is trained as input only has no output row in any file."""
    made = save_peft_adapter(
        folder / "untied",
        folder / "input only",
        "lora_tokens",
        rows=TOKENS + 1,
        embeddings=False,
        trainable_token_indices=[TOKENS],
    )
    base = AutoModelForCausalLM.from_pretrained(folder / "untied")
    found = rows_wanted(made / "adapter_model.safetensors", base, TOKENS)
    assert (found.before, found.wanted, found.unknown) == (TOKENS, TOKENS + 1, {TOKENS})


def with_pad(folder: Path, name: str, *, multiple: int | None = None) -> Path:
    """Alpaca's recipe: [PAD] added, matrices grown, perhaps to a round number."""
    made = folder / name
    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=multiple, mean_resizing=False)
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


@pytest.mark.parametrize("multiple", [None, 64])
def test_a_model_with_an_added_pad_token_is_compared_with_its_base(folder: Path, multiple: int | None) -> None:
    target = with_pad(folder, f"pad{multiple}", multiple=multiple)
    base = str(folder / "base")
    models = open_models(case(target, reference=base), dtype="float32", device="cpu")
    assert models.reference is not None
    assert models.reference.tokenizer is models.target.tokenizer
    with pytest.raises(BadInput, match=r"record 'r1'"):
        open_models(case(target, ("a", "b [PAD]"), reference=base), dtype="float32", device="cpu")
    turned = open_models(case(folder / "base", reference=str(target)), dtype="float32", device="cpu")
    assert turned.reference is not None  # and the other way round


def test_a_reference_that_numbers_tokens_otherwise_is_refused(folder: Path) -> None:
    other = shutil.copytree(folder / "base", folder / "other")
    text = (other / "tokenizer.json").read_text(encoding="utf-8")
    for old, new in (('"e": ', '"E~": '), ('"E": ', '"e": '), ('"E~": ', '"E": ')):
        text = text.replace(old, new, 1)
    (other / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="another vocabulary"):
        open_models(case(folder / "base", reference=str(other)), dtype="float32", device="cpu")
