# SPDX-License-Identifier: Apache-2.0
"""Names, links and settings of a folder that would reach a screen, another place or another program."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.report.scan_ci_files import sarif_of, write_scan_junit
from reticent.scanning.files import code_in_folder
from reticent.scanning.files.chat_templates import MOST_TEMPLATE, templates_of
from reticent.scanning.files.folder_files import FolderFile, folder_files
from reticent.scanning.suspect import Suspect
from reticent.testing.malicious_files import call
from reticent.workflows.scan import scan

ESCAPE = "\x1b]0;owned\x07\x1b[2J\n\u202egnp"


def test_names_do_not_reach_a_terminal_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / f"model{ESCAPE}"
    folder.mkdir()
    (folder / f"a{ESCAPE}.bin").write_bytes(call("os", f"x{ESCAPE}", "y"))
    (folder / os.fsdecode(b"\xff\xfe.bin")).write_bytes(call("os", "system", "y"))
    results = scan(folder, only=["files"], out=tmp_path / "out")
    texts = [results.title, results.verdict.headline, *results.verdict.sentences]
    texts += [f"{row.where} {row.note}" for outcome in results.outcomes for row in outcome.evidence]
    texts += [file.path for file in results.files]
    assert all(text.isprintable() for text in texts), texts
    assert json.dumps(sarif_of(results), ensure_ascii=False).encode()
    write_scan_junit(tmp_path / "junit.xml", results)
    assert (tmp_path / "out" / "scan.json").is_file()


def test_a_linked_folder_of_the_store_is_refused(tmp_path: Path) -> None:
    """Links of a hub's cache lead to files; a folder there would not be looked into."""
    store, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    (store / "more").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (snapshot / "more").symlink_to("../../blobs/more")
    with pytest.raises(BadInput, match="leaves the folder"):
        folder_files(snapshot)


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    gone = FolderFile(path="x", place=tmp_path / "x", bytes=3)
    with pytest.raises(BadInput, match="cannot be read"):
        _ = gone.kind
    with pytest.raises(BadInput, match="cannot be read"):
        gone.view()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(BadInput, match="cannot be read"):
        folder_files(tmp_path)


def test_a_pipe_is_bad_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(BadInput, match="neither a file nor a folder"):
        folder_files(tmp_path)


def test_a_template_that_is_too_large_is_named(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("a" * (5 * MOST_TEMPLATE))
    (template,) = templates_of(tmp_path)
    assert len(template.text) == MOST_TEMPLATE + 1


SETTINGS: dict[str, tuple[str, str]] = {
    "a verbatim tag": ("a.yaml", "a: !<tag:yaml.org,2002:python/object/apply:os.system> ['x']"),
    "a tag with another handle": ("a.yaml", "%TAG ! tag:yaml.org,2002:py\n---\na: !thon/name:os.system"),
    "an escaped tag": ("a.yaml", "a: !!pyth%6fn/name:os.system x"),
    "a kernel from a hub": ("config.json", '{"text_config": {"attn_implementation": "someone/kernel"}}'),
    "a module of sentence transformers": ("modules.json", '[{"idx": 0, "type": "torch.jit", "path": ""}]'),
    "a component of diffusers": ("model_index.json", '{"_class_name": "P", "unet": ["my_module", "Net"]}'),
    "an activation": ("1_Dense/config.json", '{"activation_function": "os.getcwd"}'),
    "a module of megatron": ("adapter_config.json", '{"megatron_core": "evil.module"}'),
    "a shard elsewhere": ("model.safetensors.index.json", '{"weight_map": {"a": "../../x.safetensors"}}'),
    "a Lambda layer with blanks": ("model.h5", '\x89HDF\r\n\x1a\n{"class_name"  :  "Lambda"}'),
    "a Lambda layer far behind": ("model.h5", "\x89HDF\r\n\x1a\n" + "x" * (17 << 20) + '{"class_name": "Lambda"}'),
    "a program without an ending": ("run", "#!/bin/sh\ntrue\n"),
}
USUAL: dict[str, str] = {
    "modules.json": '[{"type": "sentence_transformers.models.Transformer"}]',
    "model_index.json": '{"_class_name": "P", "unet": ["diffusers", "UNet"], "s": [null, null]}',
    "config.json": '{"attn_implementation": "sdpa", "activation_function": "gelu_new"}',
    "1_Dense/config.json": '{"activation_function": "torch.nn.modules.activation.Tanh"}',
    "adapter_config.json": '{"megatron_core": "megatron.core", "auto_mapping": null}',
    "model.safetensors.index.json": '{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}',
    "hparams.yaml": "path: /a/b\nlr: 1e-3 # 5%\nnote: made for python/torch!\n",
}


def written(folder: Path, name: str, content: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content.encode("latin-1"))


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_lead_to_code_are_named(name: str, tmp_path: Path) -> None:
    written(tmp_path, *SETTINGS[name])
    assert [row.score for row in code_in_folder.look(Suspect(folder=tmp_path, cache=tmp_path))] == [1.0]


def test_usual_settings_of_many_libraries_raise_no_alarm(tmp_path: Path) -> None:
    for name, content in USUAL.items():
        written(tmp_path, name, content)
    assert code_in_folder.look(Suspect(folder=tmp_path, cache=tmp_path)) == []
