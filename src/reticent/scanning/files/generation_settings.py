# SPDX-License-Identifier: Apache-2.0
"""Scanner of generation settings: tokens that are forced or banned, and words that are put before each prompt, change
what a model says without a weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reticent.core.scan_results import ScanEvidence
from reticent.scanning.files.folder_files import FolderFile, folder_files, read_json
from reticent.scanning.scanner import scanner
from reticent.scanning.suspect import Suspect

FILES = ("generation_config.json", "config.json")
FORCED = ("forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids", "force_words_ids", "constraints")
BANNED = ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias")
PROGRAMS = ("custom_generate", "custom_pipelines")
PREFIX = "prefix"
ENDS = ("forced_bos_token_id", "forced_eos_token_id")
"""Settings that name the model's own first and last token where they are harmless."""
_OWN = ("bos_token_id", "eos_token_id")
_NEVER_SAID = ("pad_token_id", "bos_token_id", "unk_token_id", "decoder_start_token_id")
"""Tokens that no answer holds: a ban of them bans no word."""
_OF_SPEECH = ("whisper",)
"""Kinds of models whose settings ban signs that are no speech, and force a language and a task."""
_MOST_FORCED, _MOST_DEPTH = 4, 8
REMOVE = "Remove the setting, or ask its publisher what it is for."
_WHAT = {
    **dict.fromkeys(FORCED, "forces tokens"),
    **dict.fromkeys(BANNED, "bans tokens"),
    **dict.fromkeys(PROGRAMS, "names a program to generate with"),
    PREFIX: "puts words before each prompt",
}


@dataclass(kw_only=True)
class _Home:
    """The model of one folder, by its settings.

    Args:
        is_encoder_decoder: whether a part of it is one.
        model_types: of all its parts.
        own: tokens by the setting that names them.
    """

    is_encoder_decoder: bool = False
    model_types: set[str] = field(default_factory=set)
    own: dict[str, list[Any]] = field(default_factory=dict)

    def tokens(self, *names: str) -> list[Any]:
        return [value for name in names for value in self.own.get(name, ())]


@scanner(
    name="generation_settings",
    title="Settings that force or ban words",
    kind="files",
    null="rule",
    blind_to="Settings that a program or a server passes when it generates, and what the weights prefer by themselves.",
    order=14,
)
def look(suspect: Suspect) -> list[ScanEvidence]:
    """Evidence for settings that force or ban tokens, or put words before prompts, and are not the sibling's too."""
    evidence: dict[tuple[str, str], ScanEvidence] = {}
    sibling = {} if suspect.base is None else _settings(suspect.base)
    homes = _homes(suspect.folder)
    for file, path, content in _parts(suspect.folder):
        for name in _WHAT:
            value = content.get(name)
            if value is None or value is False or value in ([], {}, "") or (name == PREFIX and not _puts(path, value)):
                continue
            row = _judged(file, name, value, homes[_folder(file)])
            if row is not None and value not in sibling.get(name, []):
                evidence.setdefault((file.path, row.note), row)
    return list(evidence.values())


def _judged(file: FolderFile, name: str, value: Any, home: _Home) -> ScanEvidence | None:
    """Evidence for one setting; None for one that names what the model begins or ends with in any case."""
    if name in ENDS and value in home.tokens(*_OWN, *(("decoder_start_token_id",) if home.is_encoder_decoder else ())):
        return None
    if name == "bad_words_ids" and _bans_no_word(value, home):
        return None
    usual = home.is_encoder_decoder and name in ("suppress_tokens", "begin_suppress_tokens", PREFIX, *ENDS)
    usual = usual or (bool(home.model_types & set(_OF_SPEECH)) and _of_speech(name, value))
    tokens = f": {value!r}"[:80]
    return ScanEvidence(
        score=0.5 if usual else 1.0,
        where=file.path,
        note=f"{name} {_WHAT[name]}{tokens}",
        remedy="" if usual else REMOVE,
    )


def _puts(path: tuple[str, ...], value: Any) -> bool:
    """True for words that a pipeline puts before prompts: of the whole model, or of one of its tasks."""
    return isinstance(value, str) and bool(value.strip()) and (not path or "task_specific_params" in path)


def _bans_no_word(value: Any, home: _Home) -> bool:
    never = home.tokens(*_NEVER_SAID)
    return isinstance(value, list) and all(isinstance(row, list) and len(row) == 1 and row[0] in never for row in value)


def _of_speech(name: str, value: Any) -> bool:
    if name in ("suppress_tokens", "begin_suppress_tokens"):
        return True
    return name == "forced_decoder_ids" and isinstance(value, list) and len(value) <= _MOST_FORCED


def _homes(folder: Path) -> dict[str, _Home]:
    """By folder within the model's, what its settings say."""
    homes: dict[str, _Home] = {}
    for file, _, content in _parts(folder):
        home = homes.setdefault(_folder(file), _Home())
        home.is_encoder_decoder |= bool(content.get("is_encoder_decoder"))
        if isinstance(content.get("model_type"), str):
            home.model_types.add(content["model_type"])
        for name in {*_OWN, *_NEVER_SAID}:
            value = content.get(name)
            home.own.setdefault(name, []).extend(value if isinstance(value, list) else [] if value is None else [value])
    return homes


def _folder(file: FolderFile) -> str:
    return file.path.rpartition("/")[0]


def _parts(folder: Path) -> Iterator[tuple[FolderFile, tuple[str, ...], Mapping[str, Any]]]:
    """All settings of generation by file and place: those of parts of a model count for it too."""
    for file in folder_files(folder):
        if file.path.rpartition("/")[2] not in FILES:
            continue
        left: list[tuple[tuple[str, ...], Any]] = [((), read_json(file))]
        while left:
            path, content = left.pop()
            if isinstance(content, dict):
                yield file, path, content
                if len(path) < _MOST_DEPTH:
                    left += [((*path, str(name)), value) for name, value in content.items() if isinstance(value, dict)]


def _settings(folder: Path) -> dict[str, list[Any]]:
    """All settings of the sibling, whichever of its files they stand in."""
    settings: dict[str, list[Any]] = {}
    for _, _, content in _parts(folder):
        for name in _WHAT:
            if name in content:
                settings.setdefault(name, []).append(content[name])
    return settings
