# SPDX-License-Identifier: Apache-2.0
"""Bill of materials: each file of a folder with its size, its format by content and its SHA-256, and what the folder
claims to be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reticent.core.printable import printable
from reticent.core.scan_results import ScannedFile
from reticent.scanning.files import content_kind as kinds
from reticent.scanning.files.folder_files import FolderFile, folder_files, read_json
from reticent.scanning.files.zip_members import BadZip, list_members

SMALL = 1 << 20
"""Bytes up to which a file is hashed in any case. Weights take a second a gigabyte, so they are hashed on request."""
BLOCK = 1 << 22
MOST_CLAIM = 200
_CARD_FIELDS = ("license", "base_model", "license_name")


def bill_of_materials(folder: Path, *, hashes: bool = False) -> tuple[ScannedFile, ...]:
    """All files of a folder by path.

    Args:
        folder: of the model.
        hashes: whether large files are hashed too.
    """
    return tuple(
        ScannedFile(
            path=printable(file.path),
            bytes=file.bytes,
            sha256=_sha256(file) if hashes or file.bytes <= SMALL else "",
            content=_content(file),
        )
        for file in folder_files(folder)
    )


def claims(folder: Path) -> dict[str, Any]:
    """Claims of a folder about its origin: base, date, licence, versions. Nothing of it is checked."""
    files = {file.path: file for file in folder_files(folder)}
    claimed: dict[str, Any] = {}
    for path, fields in (
        ("config.json", ("_name_or_path", "architectures", "model_type", "transformers_version", "dtype")),
        ("adapter_config.json", ("base_model_name_or_path", "revision", "peft_type", "peft_version", "r")),
    ):
        content = read_json(files[path]) if path in files else None
        if isinstance(content, Mapping):
            claimed |= {name: _short(content[name]) for name in fields if content.get(name) not in (None, "")}
    if "README.md" in files:
        claimed |= _card(files["README.md"])
    return claimed


def _card(file: FolderFile) -> dict[str, str]:
    """Fields at the head of a model card, read line by line: nothing of it is parsed as YAML."""
    with file.place.open(encoding="utf-8", errors="replace") as opened:
        head = opened.read(1 << 16)
    match = re.match(r"---\r?\n(.*?)\r?\n---", head, flags=re.DOTALL)
    lines = (match[1] if match else "").splitlines()
    pairs = [line.partition(":") for line in lines if not line.startswith((" ", "-", "#"))]
    return {
        f"card: {name}": _short(value.strip()) for name, _, value in pairs if name in _CARD_FIELDS and value.strip()
    }


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return printable(text[:MOST_CLAIM])


def _content(file: FolderFile) -> str:
    kind = file.kind
    if kind != kinds.ZIP:
        return kind
    try:
        members = list_members(file.view()).members
    except BadZip:
        return "zip that cannot be read"
    pickled = any(member.name.endswith(".pkl") for member in members)
    return "pickle in zip" if pickled else kind


def _sha256(file: FolderFile) -> str:
    digest = hashlib.sha256()
    with file.place.open("rb", buffering=0) as opened:
        while block := opened.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
