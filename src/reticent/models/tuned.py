# SPDX-License-Identifier: Apache-2.0
"""The file that describes a tuned folder: the method, the base, and how its weights are stored."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from reticent.core.errors import BadInput
from reticent.core.portable import found

FILE = "reticent_tuning.json"
Storage = Literal["weights", "peft", "bottleneck"]
"""``weights``: a whole model; ``peft``: a PEFT adapter; ``bottleneck``: bottleneck adapters of this package."""


@dataclass(frozen=True, kw_only=True)
class TuningInfo:
    """Provenance of a tuned model, saved beside its weights.

    Args:
        method: name in ``TUNINGS``.
        params: hyper-parameters the method was given or took by default.
        base: what the person named as the model to tune: a name, or the absolute path of a folder; in the file a
            relative one, see `core.portable`.
        base_fingerprint: SHA-256 (hex) of its weights.
        storage: how the weights lie in the folder.
        parent: SHA-256 (hex) of the tuned model that training went on from; empty where it began with the base.
        request: fingerprint of the request to forget that it went on for; empty where there was none.
        base_in: ``"4bit"`` or ``"8bit"`` where the base lay so in training; empty where it did not.

    Examples:
        >>> TuningInfo(method="lora", base="smollm2-135m", base_fingerprint="9f2c", params={"r": 8}).storage
        'weights'
    """

    method: str
    base: str
    base_fingerprint: str
    storage: Storage = "weights"
    params: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    request: str = ""
    base_in: str = ""

    def __post_init__(self) -> None:
        # As JSON has them (lists, not tuples), so that what is read equals what was written.
        object.__setattr__(self, "params", json.loads(json.dumps(self.params)))

    def write(self, folder: Path) -> None:
        """Write it into ``folder``."""
        later = ("parent", "request", "base_in")
        about = {name: value for name, value in asdict(self).items() if value or name not in later}
        (folder / FILE).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_tuned(folder: Path) -> TuningInfo | None:
    """The description in the folder, or None where ``reticent tune`` did not make it.

    Raises:
        BadInput: the file is broken.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        tuned = TuningInfo(**json.loads(path.read_text(encoding="utf-8")))
        return replace(tuned, base=found(tuned.base, folder, tuned.base_fingerprint))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(str(path), f"is broken ({error})", "Copy the folder again, or tune again.") from error


def name_base(folder: Path, absolute: str, named: str) -> None:
    """Put ``named`` in place of an absolute path wherever libraries wrote it into the small files of ``folder``."""
    if absolute == named:
        return
    quoted = re.compile(re.escape(json.dumps(absolute)))
    plain = re.compile(re.escape(absolute) + r"(?=\s|$)")
    for name, pattern, other in (
        ("config.json", quoted, json.dumps(named)),
        ("adapter_config.json", quoted, json.dumps(named)),
        ("README.md", plain, named),
    ):
        path = folder / name
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            path.write_text(other.join(pattern.split(text)), encoding="utf-8")
