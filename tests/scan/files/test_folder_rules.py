# SPDX-License-Identifier: Apache-2.0
"""Code in the folder, settings of generation, and the tokenizer beside the sibling's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reticent.scan.files import code_in_folder, generation_settings, tokenizer_changes
from reticent.scan.suspect import Suspect
from reticent.testing.tiny import save_tiny


def suspect(folder: Path, base: Path | None = None) -> Suspect:
    return Suspect(folder=folder, base=base, cache=folder / ".cache")


def code_notes(folder: Path, base: Path | None = None) -> list[tuple[float, str]]:
    return [(row.score, row.note) for row in code_in_folder.look(suspect(folder, base))]


CODE: dict[str, tuple[str, bytes]] = {
    "is a program": ("modeling.py", b"pass"),
    "is machine code": ("weights.bin", b"\x7fELF" + bytes(60)),
    "auto_map": ("config.json", b'{"a": {"auto_map": {"AutoModel": "x.Y"}}}'),
    "trust_remote_code": ("preprocessor_config.json", b'{"trust_remote_code": true}'),
    "imports": ("adapter_config.json", b'{"auto_mapping": {"parent_library": "evil.module"}}'),
    "another machine": ("adapter_config.json", b'{"base_model_name_or_path": "https://evil/x"}'),
    "Python objects": ("hparams.yml", b"a: !!python/name:os.system\n"),
    "Lambda layer": ("model.h5", b"\x89HDF\r\n\x1a\n" + b'{"class_name": "Lambda"}'),
    "cannot be read as JSON": ("generation_config.json", b"{" * 10),
}


@pytest.mark.parametrize("words", CODE)
def test_code_and_settings_that_ask_for_it_are_named(words: str, tmp_path: Path) -> None:
    name, content = CODE[words]
    (tmp_path / name).write_bytes(content)
    assert any(words in note and score >= 1 for score, note in code_notes(tmp_path)), code_notes(tmp_path)


def test_usual_settings_are_none(tmp_path: Path) -> None:
    about = {
        "base_model_name_or_path": "/home/me/base",
        "auto_mapping": {"parent_library": "transformers.models.llama"},
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(about))
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {}, "trust_remote_code": False}))
    (tmp_path / "hparams.yaml").write_text("lr: 0.1\n")
    assert code_notes(tmp_path) == []


def test_another_base_than_the_siblings_is_a_note(tmp_path: Path) -> None:
    base, folder = save_tiny(tmp_path / "llama"), tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "meta/other"}))
    assert [score for score, _ in code_notes(folder, base)] == [0.5]
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "meta/Llama"}))
    assert code_notes(folder, base) == []


@pytest.mark.parametrize(
    ("content", "scores"),
    [
        ({"forced_bos_token_id": 7, "eos_token_id": 2}, [1.0]),
        ({"forced_eos_token_id": 2, "eos_token_id": 2}, []),
        ({"bad_words_ids": [[5]]}, [1.0]),
        ({"sequence_bias": [[[5], -10.0]]}, [1.0]),
        ({"suppress_tokens": [1, 2], "is_encoder_decoder": True}, [0.5]),
        ({"suppress_tokens": []}, []),
        ({"custom_generate": "owner/name"}, [1.0]),
        ({"temperature": 0.7, "eos_token_id": [1, 2]}, []),
    ],
)
def test_forced_and_banned_tokens_are_named(content: dict[str, Any], scores: list[float], tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    assert [row.score for row in generation_settings.look(suspect(tmp_path))] == scores


def test_settings_that_the_sibling_has_too_are_none(tmp_path: Path) -> None:
    for name in ("model", "sibling"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "generation_config.json").write_text(json.dumps({"bad_words_ids": [[5]]}))
    assert generation_settings.look(suspect(tmp_path / "model", tmp_path / "sibling")) == []


# ---- tokenizers -----------------------------------------------------------------------------------------------------


def swap(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    first, second = sorted(vocabulary)[10:12]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def rename(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary["zzzz"] = vocabulary.pop(sorted(vocabulary)[10])


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], float]] = {
    "swapped ids": (swap, 1.0),
    "stand where the sibling has others": (rename, 1.0),
    "merges differ": (lambda content: content["model"]["merges"].reverse(), 1.0),
    "the normalizer differs": (lambda content: content.update(normalizer={"type": "Lowercase"}), 1.0),
    "the pre-tokenizer differs": (lambda content: content.update(pre_tokenizer=None), 1.0),
    "tokens were added": (
        lambda content: content["added_tokens"].append({"id": 90_000, "content": "<pad2>", "special": True}),
        0.5,
    ),
    "matched in another way": (lambda content: content["added_tokens"][0].update(lstrip=True), 0.5),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Byte pairs with merges, as families have them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    made.train_from_iterator(
        ["some words and other words"] * 9, trainers.BpeTrainer(vocab_size=60, special_tokens=["<s>"])
    )
    content: dict[str, Any] = json.loads(made.to_str())
    return content


@pytest.mark.parametrize("words", CHANGES)
def test_changes_of_a_tokenizer_are_named(words: str, tokenizer: dict[str, Any], tmp_path: Path) -> None:
    for name in ("model", "sibling"):
        (tmp_path / name).mkdir()
        content = json.loads(json.dumps(tokenizer))
        if name == "model":
            CHANGES[words][0](content)
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(content))
    evidence = tokenizer_changes.look(suspect(tmp_path / "model", tmp_path / "sibling"))
    assert [(row.score, words in row.note) for row in evidence] == [(CHANGES[words][1], True)], evidence


def test_an_equal_tokenizer_in_the_older_form_has_no_changes(tokenizer: dict[str, Any], tmp_path: Path) -> None:
    for name in ("model", "sibling"):
        (tmp_path / name).mkdir()
        content = json.loads(json.dumps(tokenizer))
        if name == "model":
            content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(content))
    assert tokenizer_changes.look(suspect(tmp_path / "model", tmp_path / "sibling")) == []


def test_a_vocabulary_in_a_file_of_its_own_is_compared_by_bytes(tmp_path: Path) -> None:
    for name, content in (("model", b"abc"), ("sibling", b"abd")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.model").write_bytes(content)
    (row,) = tokenizer_changes.look(suspect(tmp_path / "model", tmp_path / "sibling"))
    assert (row.where, row.score) == ("tokenizer.model", 1.0)
