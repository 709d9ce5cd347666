# SPDX-License-Identifier: Apache-2.0
"""Files of one report in a folder, with a list that tells whose they are: written all or nothing, and nothing of the
user's is replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.atomic import replacing_together
from reticent.core.errors import Unusable
from reticent.core.outputs import OutputKind, file_to_write, hash_of, listed, marked
from reticent.core.results import Results
from reticent.report.heading import model_name
from reticent.report.results_file import digest


@dataclass(frozen=True, kw_only=True)
class FileList:
    """The list beside the files, which holds the model, the results and the hash of every file.

    Args:
        name: of its file.
        format: tells it from other JSON.
        title: of the kind of list, for refusals.
        flag: asks for the files.
    """

    name: str
    format: str
    title: str
    flag: str

    @property
    def kind(self) -> OutputKind:
        """The kind of file that the list is."""
        return marked(self.title, f'"format": "{self.format}"')


def write_listed(
    folder: Path,
    texts: Mapping[str, bytes],
    results: Results,
    *,
    by: FileList,
    about: Mapping[str, Any],
    kinds: Mapping[str, OutputKind] | None = None,
    inputs: Mapping[str, str | Path | None] | None = None,
) -> None:
    """Write the files and their list.

    Args:
        folder: is made if it is not there.
        texts: by file name.
        results: whose they are.
        by: the list.
        about: further entries of the list.
        kinds: by suffix, files that carry a mark of their own; all others are known by the list.
        inputs: files that must not be written over, by what they are.

    Raises:
        BadInput: the folder is a file, or one of these names is there and is not what this wrote.
        Unusable: it cannot be written to.
    """
    card = folder / by.name
    ours = listed(card, "file of numbers")
    file_to_write(card, by.kind, flag=by.flag, inputs=inputs)
    for name in texts:
        file_to_write(folder / name, (kinds or {}).get(Path(name).suffix, ours), inputs=inputs)
    _make_folder(folder)
    there = sorted(path for path in folder.glob("*.csv") if ours.is_ours(path))
    content = {
        "format": by.format,
        "model": model_name(results),
        "results_sha256": digest(results),
        **about,
        "files": {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()},
        "before": {path.name: hash_of(path) for path in there},
    }
    files = {card: encoded(json.dumps(content, indent=1, ensure_ascii=False) + "\n")}
    files |= {folder / name: text for name, text in texts.items()}
    with replacing_together([*files], public=[*files]) as temporary:
        for path, text in files.items():
            temporary[path].write_bytes(text)


def encoded(text: str) -> bytes:
    """UTF-8, whatever the text holds."""
    return text.encode("utf-8", errors="backslashreplace")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(str(folder)[:200], f"cannot be used ({error.strerror})", "Choose another folder.") from error
