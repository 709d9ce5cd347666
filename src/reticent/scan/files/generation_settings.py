# SPDX-License-Identifier: Apache-2.0
"""Scanner of generation settings: tokens that are forced or banned change what a model says without a weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reticent.core.scan import ScanEvidence
from reticent.scan.files.folder_files import folder_files, read_json
from reticent.scan.scanner import scanner
from reticent.scan.suspect import Suspect

FILES = ("generation_config.json", "config.json")
FORCED = ("forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids", "force_words_ids", "constraints")
BANNED = ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias")
PROGRAMS = ("custom_generate", "custom_pipelines")
ENDS = ("forced_bos_token_id", "forced_eos_token_id")
"""Settings that name the model's own first and last token where they are harmless."""
_OWN = ("bos_token_id", "eos_token_id", "decoder_start_token_id")
REMOVE = "Remove the setting, or ask its publisher what it is for."


@scanner(
    name="generation_settings",
    title="Settings that force or ban words",
    kind="files",
    null="rule",
    blind_to="Settings that a program or a server passes when it generates, and what the weights prefer by themselves.",
    order=14,
)
def look(suspect: Suspect) -> list[ScanEvidence]:
    """Evidence for settings that force or ban tokens and are not the sibling's too."""
    evidence = []
    sibling = {} if suspect.base is None else _settings(suspect.base)
    for path, content in _contents(suspect.folder):
        for name in (*FORCED, *BANNED, *PROGRAMS):
            value = content.get(name)
            if value in (None, [], {}, "", 0, False):
                continue
            evidence.append(_judged(path, name, value, content, sibling))
    return [row for row in evidence if row is not None]


def _judged(
    path: str, name: str, value: Any, content: Mapping[str, Any], sibling: Mapping[str, Any]
) -> ScanEvidence | None:
    own = [content.get(key) for key in _OWN] + [content.get(key) for key in ENDS if key != name]
    ends = name in ENDS and (value in own or content.get("is_encoder_decoder"))
    if ends or sibling.get(name) == value:
        return None
    what = (
        "forces tokens" if name in FORCED else "bans tokens" if name in BANNED else "names a program to generate with"
    )
    usual = bool(content.get("is_encoder_decoder")) and name in ("suppress_tokens", "begin_suppress_tokens")
    tokens = f": {value!r}"[:80]
    return ScanEvidence(
        score=0.5 if usual else 1.0, where=path, note=f"{name} {what}{tokens}", remedy="" if usual else REMOVE
    )


def _contents(folder: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for file in folder_files(folder):
        if file.path.rpartition("/")[2] in FILES:
            content = read_json(file)
            if isinstance(content, dict):
                yield file.path, content


def _settings(folder: Any) -> dict[str, Any]:
    """All settings of the sibling, whichever of its files they stand in."""
    settings: dict[str, Any] = {}
    for _, content in _contents(folder):
        settings |= {name: value for name, value in content.items() if name in (*FORCED, *BANNED, *PROGRAMS)}
    return settings
