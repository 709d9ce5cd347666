# SPDX-License-Identifier: Apache-2.0
"""Models that cannot be trusted or do not fit, through the command line."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer


@pytest.fixture
def tune(mails, tmp_path, tools):
    return lambda model, *more: ("tune", mails, "--model", model, "--out", tmp_path / "run", *tools.tune, *more)


@pytest.fixture
def audit(mails, tmp_path, tools):
    """The command that audits a target on the mails, every second one labelled as a member."""
    labels = tmp_path / "labels.csv"
    labels.write_text("id,member\n" + "".join(f"{row['id']},{i % 2}\n" for i, row in enumerate(tools.mails())))
    given = ("--data", mails, "--membership", labels, "--id-field", "id", "--out", tmp_path / "run", *tools.audit)
    return lambda target, *more: ("audit", "--model", target, *given, *more)


@pytest.fixture(params=["tune", "audit"])
def either(request):
    """A command that has to open the model: to tune it, or to audit it."""
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def nothing_is_left(request, tmp_path):
    yield
    assert not (tmp_path / "run").exists()


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_pickled_weights_are_refused_and_never_opened(refused, either, base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "it_ran")))
    refused(*either(folder), given=str(folder), why="pytorch_model.bin, a format that can run code", fix="safetensors")
    assert not (tmp_path / "it_ran").exists()


def test_a_pickled_adapter_is_refused_and_never_opened(refused, audit, base, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(f'{{"peft_type": "LORA", "base_model_name_or_path": "{base}"}}')
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "it_ran")))
    refused(*audit(folder), given=str(folder), why="adapter_model.bin, a format that can run code", fix="safetensors")
    assert not (tmp_path / "it_ran").exists()


def test_weights_that_are_cut_short_are_refused(refused, either, base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(*either(folder), given=str(weights), why="no whole safetensors file", fix="again")


def test_a_tokenizer_that_knows_more_than_the_model_is_refused(refused, either, tmp_path):
    folder = save_tiny(tmp_path / "small")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["parcel", "refund"])
    tokenizer.save_pretrained(folder)
    refused(*either(folder), given=str(folder), why="tokens but a model of", fix="Use the tokenizer that the model")


def test_a_reference_with_another_vocabulary_is_refused(refused, audit, tuned, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["parcel", "refund"])
    other = tmp_path / "other"
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(other)
    tokenizer.save_pretrained(other)
    argv = audit(tuned / "model", "--reference", other)
    refused(*argv, given=str(other), why="another vocabulary", fix="fine-tuned from (--reference)")


def test_an_adapter_whose_base_has_other_weights_is_refused(refused, reticent, audit, mails, tmp_path, tools):
    base = save_tiny(tmp_path / "base")
    made = reticent("tune", mails, "--model", base, "--out", tmp_path / "lora", *tools.tune, "--method", "lora")
    assert made.code == 0, made.err
    shutil.rmtree(base)
    save_tiny(base, seed=1)
    before = tools.contents(tmp_path / "lora")
    model = tmp_path / "lora" / "model"
    for argv in (audit(model), ("audit", tmp_path / "lora", *tools.audit)):
        refused(*argv, given=str(model), why="trained on a base with other weights", fix="Name the base")
    assert tools.contents(tmp_path / "lora") == before


def test_an_adapter_of_a_base_with_another_shape_is_refused(refused, reticent, audit, mails, tmp_path, tools):
    base = save_tiny(tmp_path / "base")
    made = reticent("tune", mails, "--model", base, "--out", tmp_path / "lora", *tools.tune, "--method", "lora")
    assert made.code == 0, made.err
    model = tmp_path / "lora" / "model"
    (model / "reticent_tuning.json").unlink()
    shutil.rmtree(base)
    save_tiny(base, arch="gpt2")
    refused(*audit(model), given=str(model), why="does not fit its base", fix="Name the base")


def test_a_catalogue_model_that_was_not_fetched_is_refused_with_the_command_that_does(refused, tune):
    refused(
        *tune("smollm2-135m"),
        given="smollm2-135m",
        why="not been fetched",
        fix="Run: reticent fetch-model smollm2-135m",
    )


def test_a_model_that_is_nowhere_is_refused(refused, either, tmp_path):
    nowhere = tmp_path / "no" / "model"
    refused(*either(nowhere), given=str(nowhere), why="does not exist", fix="existing model folder")


def test_an_unknown_attack_is_refused_with_the_nearest(refused, audit, tuned):
    refused(
        *audit(tuned / "model", "--attacks", "los,zlib"),
        given="--attacks los",
        why="not known",
        fix="Did you mean 'loss'?",
    )


def test_an_unknown_tuning_method_is_refused_with_the_nearest(refused, tune, base):
    refused(*tune(base, "--method", "lorra"), given="'lorra'", why="not known", fix="Did you mean 'lora'?")


def test_an_unknown_kind_of_canary_is_refused_with_the_nearest(refused, tune, base):
    argv = tune(base, "--canaries", "10", "--canary-kind", "secret_numbr")
    refused(*argv, given="'secret_numbr'", why="not known", fix="Did you mean 'secret_number'?")


def test_a_chat_for_a_model_without_a_chat_template_is_refused(refused, tmp_path, tools):
    folder = save_tiny(tmp_path / "plain", chat=False)
    turns = [
        [{"role": "user", "content": f"where is {i}"}, {"role": "assistant", "content": f"at {i * 7}"}]
        for i in range(40)
    ]
    chats = tools.write_rows(tmp_path / "chats.jsonl", [{"messages": messages} for messages in turns])
    argv = ("tune", chats, "--model", folder, "--out", tmp_path / "run", *tools.tune)
    refused(*argv, given="chats.jsonl:1", why="no chat template", fix="instruction-tuned model")


def test_an_unknown_tracker_is_refused(refused, tune, base):
    refused(*tune(base, "--report-to", "nonsense"), given="report_to='nonsense'", why="not supported", fix="Choose one")
