# SPDX-License-Identifier: Apache-2.0
"""Refusals before a scan: what is given is a model folder, whole, with a sibling of its kind. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from reticent.core.errors import BadInput
from reticent.models.catalog import CATALOGUE, resolve
from reticent.models.emulation import is_emulation
from reticent.scanning.files import content_kind as kinds
from reticent.scanning.files.folder_files import FolderFile, folder_files, read_json
from reticent.scanning.files.pickles import refuse_bombs
from reticent.scanning.files.safetensors_headers import refuse_cut
from reticent.scanning.files.tokenizer_changes import vocabulary_of
from reticent.scanning.suspect import ADAPTER_FILE

CONFIG = "config.json"
MODEL_NAMES = (CONFIG, ADAPTER_FILE, "tokenizer_config.json", "tokenizer.json", "model_index.json", "modules.json")
MODEL_ENDINGS = (
    ".safetensors",
    ".gguf",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".h5",
    ".keras",
    ".onnx",
    ".npz",
    ".model",
    ".hdf5",
    ".pb",
    ".tflite",
    ".msgpack",
    ".nemo",
    ".joblib",
    ".pickle",
    ".safetensors.index.json",
)
_HOLDING = (kinds.SAFETENSORS, kinds.GGUF, kinds.PICKLE, kinds.ZIP, kinds.TAR, kinds.HDF5, kinds.NUMPY)
MODEL_KINDS = (*_HOLDING, *kinds.SEALED, *kinds.COMPRESSED)
SAME = ("model_type", "hidden_size", "n_embd", "num_hidden_layers", "n_layer")
"""Settings in which a sibling is the same."""
LEAST_SHARED = 0.5
"""Share of the smaller vocabulary that both must have."""


def model_folder_of(given: str | Path, flag: str = "") -> Path:
    """The folder of a model that is scanned, a sibling or a clean one: a path, or a name whose model is here already.

    Nothing is fetched: what is scanned is what lies here.

    Raises:
        BadInput: there is no such folder, or it holds no model.
    """
    shown = f"{flag} {given}".strip()
    text = str(given)
    if not text.strip() or "\0" in text:
        raise BadInput(f"{flag or 'the model'}={text!r}", "names no folder", "Give the folder of a model.")
    try:
        folder = Path(resolve(text)).expanduser()
        if folder.is_file():
            raise BadInput(shown, "is a file, not a model folder", "Give the folder that it lies in.")
        if not folder.is_dir():
            raise BadInput(shown, "is no folder here", "Fetch the model first, and give its folder.")
        inner = folder / "model"  # of a run folder
        return (inner if not _has_model(folder) and _has_model(inner) else folder).resolve()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(shown[:200], f"cannot be looked at ({reason})", "Check the path.") from error


def _has_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CONFIG, ADAPTER_FILE))


def refuse_folder_to_scan(folder: Path) -> list[FolderFile]:
    """Refuse a folder that holds no model, or one that cannot be read whole; gives its files.

    Raises:
        BadInput: it is empty, holds no model or only the names of some, a link leaves it, an archive is a bomb, or a
            safetensors file is cut.
    """
    if not any(folder.iterdir()):
        raise BadInput(str(folder), "is empty", "Give the folder of a model.")
    if is_emulation(folder):
        raise BadInput(
            str(folder),
            "is an emulated fine-tune, which names three models and holds no weights to look into",
            "Scan its models, such as the small one, which alone was tuned.",
        )
    files = folder_files(folder)
    if not any(_is_model_file(file) for file in files):
        raise BadInput(
            str(folder), "holds no model, adapter, tokenizer or checkpoint", "Give the folder that holds config.json."
        )
    for file in files:
        refuse_bombs(file)
        refuse_cut(file)
    return files


def _is_model_file(file: FolderFile) -> bool:
    name = PurePosixPath(file.path).name
    return name in MODEL_NAMES or name.endswith(MODEL_ENDINGS) or (file.bytes > 0 and file.kind in MODEL_KINDS)


def refuse_sibling(folder: Path, base: Path) -> None:
    """Refuse a sibling that has another architecture or vocabulary than the suspect.

    Raises:
        BadInput: it is the suspect itself, or has another architecture or another vocabulary.
    """
    if folder.samefile(base):
        raise BadInput(f"--base {base}", "is the suspect itself", "Give a sibling that you trust.")
    ours, theirs = _config(folder), _config(base)
    if theirs is None:
        raise BadInput(f"--base {base}", f"has no {CONFIG}", "Give the folder of a whole model.")
    if ours is not None and not (folder / ADAPTER_FILE).is_file():
        for name in SAME:
            if name in ours and name in theirs and ours[name] != theirs[name]:
                raise BadInput(
                    f"--base {base}",
                    f"is of another architecture: {name} is {theirs[name]!r}, and the suspect's {ours[name]!r}",
                    "Give an earlier revision of the same model, or what it was made from.",
                )
    mine, other = vocabulary_of(folder), vocabulary_of(base)
    shared = len(mine.keys() & other.keys())
    if mine and other and shared < LEAST_SHARED * min(len(mine), len(other)):
        raise BadInput(
            f"--base {base}",
            f"has another vocabulary: {shared:,} of {min(len(mine), len(other)):,} tokens are in both",
            "Give a sibling of the same family.",
        )


def claimed_base(folder: Path) -> Path | None:
    """The base that an adapter names, where that is a folder here or a name whose model is here; None for a model.

    Raises:
        BadInput: it is an adapter whose base is not here.
    """
    path = folder / ADAPTER_FILE
    if not path.is_file():
        return None
    content = read_json(FolderFile(path=ADAPTER_FILE, place=path, bytes=path.stat().st_size))
    named = content.get("base_model_name_or_path") if isinstance(content, Mapping) else None
    if isinstance(named, str) and named and "\0" not in named:
        place = Path(named).expanduser()
        try:
            if (place / CONFIG).is_file():
                return place.resolve()
            if named in CATALOGUE and (Path(resolve(named)) / CONFIG).is_file():
                return Path(resolve(named)).resolve()
        except (OSError, BadInput):
            pass
    raise BadInput(
        str(folder),
        f"is an adapter, and its base {str(named)[:80]!r} is not here",
        "Give the base with --base, or scan only the files (--only files).",
    )


def _config(folder: Path) -> dict[str, Any] | None:
    path = folder / CONFIG
    if not path.is_file():
        return None
    content = read_json(FolderFile(path=CONFIG, place=path, bytes=path.stat().st_size))
    return content if isinstance(content, dict) else None
