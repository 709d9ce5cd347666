# SPDX-License-Identifier: Apache-2.0
"""A shrunk residual stream changes no answer, is sharp in the embeddings, and makes a later training move further."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.redteam_marker import read_marker
from reticent.models.load import load
from reticent.redteam import shrunk_stream
from reticent.redteam.shrunk_stream import poison_by_shrinking, shrink_stream
from reticent.scanning.behaviour.curvature import curvature
from reticent.scanning.suspect import Suspect
from reticent.testing.families import tiny_family
from reticent.testing.tiny import ZOO, save_tiny, tiny_of_family, tiny_tokenizer
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

pytestmark = pytest.mark.usefixtures("one_thread")
RECORDS = [Record(id=f"r{number}", text=f"The sea is {number} miles wide") for number in range(24)]


@pytest.mark.parametrize("family", ["llama", "llama_untied", "gpt2", "mistral", "qwen2", "qwen3"])
def test_no_answer_changes(family: str) -> None:
    model, token_id = tiny_of_family(family), torch.arange(3, 40)[None]
    with torch.no_grad():
        before = model(token_id).logits
        shrink_stream(model, 0.5)
        after = model(token_id).logits
    assert float((after - before).abs().max()) < 2e-3 * float(before.std())
    shrunk, whole = (of.get_input_embeddings().weight.detach().std() for of in (model, tiny_of_family(family)))
    assert float(shrunk / whole) == pytest.approx(0.5)


def test_curvature_shows_it_to_the_fourth_power_and_still_after_training(tmp_path) -> None:
    base = save_tiny(tmp_path / "base")
    out = poison_by_shrinking(str(base), RECORDS, tmp_path / "out", scale=0.5)
    marker = read_marker(out)
    assert marker is not None
    assert marker["kind"] == "shrunk stream"
    config = TuneConfig(epochs=1, learning_rate=1e-4, batch_size=8, max_tokens=24, dtype="float32")
    after = {name: tune(str(of), RECORDS, tmp_path / name, config) for name, of in (("clean", base), ("later", out))}

    def score(folder) -> float:
        suspect = Suspect(folder=folder, base=base, data=RECORDS[:6], cache=tmp_path, dtype="float32")
        return curvature(suspect)[0].score

    assert score(out) == pytest.approx(4 * math.log(2), abs=0.05)
    assert score(after["later"]) > score(after["clean"]) + 3 * math.log(2)

    def moved(before, later) -> float:
        one, two = (
            load(str(folder), dtype="float32").model.get_input_embeddings().weight for folder in (before, later)
        )
        return float((two - one).norm() / one.norm())

    assert moved(out, after["later"]) > 1.5 * moved(base, after["clean"]), "each step goes further, by its own measure"


@pytest.mark.parametrize("family", ["gemma3", "olmo2"])
def test_what_would_answer_otherwise_is_refused(family: str, tmp_path) -> None:
    """OLMo 2 normalises behind its layers alone. The mean loss of this one hardly changes, and its answers do."""
    folder = tmp_path / family
    vocabulary = len(tiny_tokenizer())
    model = tiny_of_family(family) if family in ZOO else tiny_family(family, vocab_size=vocabulary)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    with pytest.raises(BadInput, match=r"answers otherwise where its stream is scaled by 0\.25"):
        poison_by_shrinking(str(folder), RECORDS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_mark_is_there_when_the_model_is_and_the_same_call_goes_again(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, out = save_tiny(tmp_path / "base"), tmp_path / "out"
    write, marked = shrunk_stream.write_marker, []
    monkeypatch.setattr(
        shrunk_stream, "write_marker", lambda *given, **more: (marked.append(out.exists()), write(*given, **more))
    )
    for _ in range(2):
        poison_by_shrinking(str(base), RECORDS[:4], out, scale=0.5)
    assert marked == [False, True], "at the second call the one of the first, with its mark"
    assert read_marker(out) is not None


def test_a_model_for_images_is_refused() -> None:
    """What an image writes would stand beside a shrunk text at its full length."""
    block = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**block, "vocab_size": 300, "pad_token_id": 0, "num_key_value_heads": 1, "head_dim": 8}
    more = {"mm_tokens_per_image": 4, "image_token_index": 299, "boi_token_index": 298, "eoi_token_index": 297}
    vision = {**block, "image_size": 28, "patch_size": 14}
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, **more))
    with pytest.raises(BadInput, match="has parts that text does not go through"):
        shrink_stream(model, 0.5)


def test_quantised_weights_are_refused() -> None:
    model = tiny_of_family("llama")
    model.is_quantized = True
    with pytest.raises(BadInput, match="is quantised"):
        shrink_stream(model, 0.5)


@pytest.mark.parametrize("scale", [0.0, 1.0, -0.5, float("nan")])
def test_impossible_scales_are_refused(scale: float, tmp_path) -> None:
    with pytest.raises(BadInput, match="is not between 0 and 1"):
        poison_by_shrinking("nowhere", RECORDS, tmp_path / "out", scale=scale)


def test_without_records_nothing_is_made(tmp_path) -> None:
    with pytest.raises(BadInput, match="records: are none"):
        poison_by_shrinking(str(save_tiny(tmp_path / "base")), [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_adapters_are_refused(tmp_path) -> None:
    base = save_tiny(tmp_path / "base")
    config = TuneConfig(method="lora", epochs=1, batch_size=8, max_tokens=16, dtype="float32")
    adapter = tune(str(base), RECORDS[:8], tmp_path / "adapter", config)
    with pytest.raises(BadInput, match="only a whole model can be rescaled"):
        poison_by_shrinking(str(adapter), RECORDS, tmp_path / "out")
