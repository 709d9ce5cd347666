# SPDX-License-Identifier: Apache-2.0
"""From what a person names (a folder, a hub id, a catalogue name) to a local folder that is safe to load."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from reticent.core.errors import BadInput
from reticent.models import catalog
from reticent.models.emulation import is_emulation

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
DOWNLOADED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""Files that are fetched from a hub: no pickles, no code."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")


def locate(source: str) -> Path:
    """The local folder that ``source`` stands for. Only a hub id that is not yet cached needs a network.

    Raises:
        BadInput: it is no folder, no catalogue name and no hub id that can be had, or its weights are pickled.
    """
    resolved = catalog.resolve(source)
    folder = Path(resolved).expanduser()
    if not folder.exists():
        folder = _download(source, resolved)
    if not folder.is_dir():
        raise BadInput(source, "is a file, not a model folder", "Give the folder that holds config.json.")
    _refuse_pickles(source, folder)
    return folder


def is_hub_id(source: str) -> bool:
    """True if ``source`` is neither a folder here nor a catalogue name, so only the hub can know it."""
    return not Path(source).expanduser().exists() and source not in catalog.CATALOGUE


def first_line(error: Exception) -> str:
    """The first line of a library's message, to be quoted in one of ours."""
    return str(error).strip().split("\n")[0]


def _download(source: str, hub_id: str) -> Path:
    if not HUB_ID.fullmatch(hub_id):
        raise BadInput(
            source, "does not exist", "Give an existing model folder, a hub id (owner/name) or a known name."
        )
    try:
        return Path(snapshot_download(hub_id, allow_patterns=DOWNLOADED))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BadInput(
            source, "is neither a folder here nor a model on the hub", f"Known without a hub: {catalog.names()}."
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise BadInput(
            source,
            "is no folder here, and the model hub cannot be reached",
            f"Give a model folder, or a name that needs no hub: {catalog.names()}.",
        ) from error


def _refuse_pickles(source: str, folder: Path) -> None:
    if any(folder.glob("*.safetensors")) or is_emulation(folder):
        return
    pickled = sorted(
        path.name for pattern in PICKLES for path in folder.glob(pattern) if path.name != "training_args.bin"
    )
    if pickled:
        raise BadInput(
            source,
            f"has weights only as {pickled[0]}, a format that can run code when it is loaded",
            "Save them as safetensors where you trust them: "
            "model.save_pretrained(folder, safe_serialization=True), then give that folder.",
        )
    raise BadInput(source, "holds no weights (*.safetensors)", "Give the folder that save_pretrained() wrote.")
