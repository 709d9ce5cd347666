# SPDX-License-Identifier: Apache-2.0
"""The folder of a repaired model: the model, the mark of the red team where its source has one, and ``repair.json``.

A repair may fail, and a model that was poisoned on purpose is not honest because somebody repaired it. So the mark goes
on into whatever is made of a marked model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from reticent.core.atomic import replacing_folder, write_text
from reticent.core.errors import BadInput
from reticent.core.outputs import refuse_empty, refuse_input
from reticent.core.redteam_marker import marker_of, read_marker, write_marker
from reticent.models import adapters
from reticent.models.load import LoadedModel, load
from reticent.models.locate import locate

REPORT = "repair.json"
KIND = "repaired model"


def read_repair(folder: Path) -> dict[str, Any] | None:
    """The report of the repair that made a folder; None where none did.

    Raises:
        BadInput: the report is broken.

    Examples:
        >>> read_repair(Path("nowhere")) is None
        True
    """
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(str(path), f"is broken ({error})", "Repair again, into another folder.") from error
    if not isinstance(report, dict):
        raise BadInput(str(path), "is no report of a repair", "Repair again, into another folder.")
    return report


def write_repair(folder: Path, repair: str, *sources: str | Path, changed: Mapping[str, Any], key: str = "") -> None:
    """Put the report into the folder of a repaired model, and the mark of the red team where a source carries one.

    Args:
        folder: of the repaired model.
        repair: name of the repair.
        sources: what it was made of.
        changed: numbers and settings, JSON-able, without triggers, targets or private text.
        key: of `key_of`, by which the same call is known again; empty where a training keeps its own.

    Examples:
        >>> folder = Path("repaired")
        >>> folder.mkdir()
        >>> write_repair(folder, "sibling_merge", changed={"weight": 0.5})
        >>> read_repair(folder)["changed"]
        {'weight': 0.5}
    """
    marker = mark_of(*sources)
    if marker is not None:
        write_marker(folder, kind=str(marker.get("kind", "unknown")), about={repair: dict(changed)})
    report = {"repair": repair, "changed": dict(changed), "key": key}
    write_text(folder / REPORT, json.dumps(report, indent=2, sort_keys=True) + "\n", private=False)


def mark_of(*sources: str | Path) -> dict[str, Any] | None:
    """The first mark of the red team among models and the bases that adapters among them name; None without one.

    Examples:
        >>> from reticent.testing.tiny import save_tiny
        >>> mark_of(save_tiny("honest")) is None
        True
    """
    for source in sources:
        folder = locate(str(source))
        base = adapters.named_base(folder) if adapters.is_peft(folder) else None
        marker = read_marker(folder) or marker_of(base)
        if marker is not None:
            return marker
    return None


def key_of(*parts: Any) -> str:
    """SHA-256 (hex) of all that decides the outcome of a repair, JSON-able.

    Examples:
        >>> key_of("merge", 0.5) == key_of("merge", 0.5), key_of("merge", 0.5) == key_of("merge", 0.4)
        (True, False)
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def refuse_place(out: str | Path, *sources: str | Path) -> Path:
    """The place of a repaired model, which is none that is read.

    Raises:
        BadInput: it is not named, or is or lies within a source.
    """
    refuse_empty("out", out)
    for source in sources:
        refuse_input(out, {"the model": source})
    return Path(out)


def is_repaired(out: Path, key: str) -> bool:
    """True where ``out`` holds the outcome of the repair with that key, to be taken as it is.

    Raises:
        BadInput: something else is there.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    report = read_repair(out) if out.is_dir() else None
    if report is None or report.get("key") != key:
        raise BadInput(str(out), "is there already, and is no outcome of this repair", "Choose another place (out).")
    return True


@contextmanager
def repaired_folder(
    out: Path, repair: str, *sources: str | Path, changed: Mapping[str, Any], key: str
) -> Iterator[Path]:
    """Yield a temporary folder for a whole model; report and mark come in, then all of it is moved to ``out`` at once.

    Args:
        out: where to; `is_repaired` has said that nothing is there.
        repair, sources, changed, key: as in `write_repair`.
    """
    with replacing_folder(out, kind=KIND) as folder:
        yield folder
        write_repair(folder, repair, *sources, changed=changed, key=key)


def load_whole(source: str, *, base: str | None = None, device: str = "auto") -> LoadedModel:
    """A model in float32 as one set of weights: an adapter is merged into its base.

    Args:
        source: a model or adapter.
        base: for an adapter, the model that it belongs on; None for the one that it names.
        device: as in `models.load.load`.

    Raises:
        BadInput: it cannot be loaded, or is an adapter that cannot be merged.
    """
    loaded = load(source, base=base, dtype="float32", device=device)
    if not adapters.can_switch_off(loaded.model):
        return loaded
    if not hasattr(loaded.model, "merge_adapter"):
        raise BadInput(source, "is an adapter that cannot be merged into its base", "Give a LoRA, or a whole model.")
    return replace(loaded, model=loaded.model.merge_and_unload())


def save_whole(loaded: LoadedModel, folder: Path) -> None:
    """Write a whole model and its tokenizer into a folder."""
    adapters.save(loaded.model, folder, "weights")
    loaded.tokenizer.save_pretrained(folder)
