# SPDX-License-Identifier: Apache-2.0
"""The file of an emulated fine-tune: three models by name and fingerprint, and how their predictions are put together.

The folder holds no weights. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from reticent.core import validate
from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.portable import found, portable

FILE = "reticent_emulation.json"
FORMAT = 1
NO_PROMISE = "The small model was not tuned under differential privacy, so nothing is promised."
MOST_BETA = 1000
"""Far beyond any use; much larger numbers leave what 32 bits can hold."""
ROLES = ("large", "small_tuned", "small_base")


@dataclass(frozen=True, kw_only=True)
class EmulationConfig:
    """How the predictions of three models become one.

    Args:
        beta: times that the difference is added; 0 gives the large model, 1 the emulated fine-tune.
        cap: most nats, up or down, by which one token's difference counts before it is multiplied by ``beta``; None
            for no limit. The log-probability of a token is then at most ``2·beta·cap`` away from the large model's.
        top_p: add the large model's knowledge for the tokens alone that the small tuned model finds likely: the most
            likely ones that have this probability together. For all others the small base stands in for the large
            model (the paper's conservative decoding); None for no filter.

    Raises:
        BadInput: a number out of range, or a filter with ``beta=0``.

    Examples:
        >>> EmulationConfig(beta=0.3).cap is None
        True
    """

    beta: float = 1.0
    cap: float | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        validate.non_negative(beta=self.beta)
        validate.at_most(MOST_BETA, beta=self.beta)
        if self.cap is not None:
            validate.positive(cap=self.cap)
        if self.top_p is not None:
            validate.in_range(0, 1, top_p=self.top_p)
            if not self.beta or not self.top_p:
                raise BadInput(
                    f"top_p={self.top_p:g} with beta={self.beta:g}",
                    "filters out what the large model knows, and adds nothing of the small one",
                    "Leave out top_p, or give a beta and a top_p above 0.",
                )

    @property
    def plain(self) -> bool:
        """True where differences of logits do, because no step needs log-probabilities."""
        return self.cap is None and self.top_p is None


@dataclass(frozen=True, kw_only=True)
class EmulationPart:
    """One of the three models.

    Args:
        source: a hub id, a catalogue name, or a folder; in the file a relative path, see `core.portable`.
        fingerprint: SHA-256 (hex) of the weights that answer.

    Examples:
        >>> EmulationPart(source="smollm2-135m", fingerprint="9f2c").source
        'smollm2-135m'
    """

    source: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class EmulationInfo:
    """An emulated fine-tune as its file has it: log π = log π_large + beta · (log π_tuned − log π_base).

    Args:
        large: the model that is steered; it never saw the private text.
        small_tuned: the small model that was tuned on it.
        small_base: what that one was tuned from.
        settings: how they are put together.
        run: the run folder of `reticent tune` that the small tuned model lies in; empty where there is none.
        statement: what is promised about the private text, and what is not.

    Examples:
        >>> part = EmulationPart(source="smollm2-135m", fingerprint="9f2c")
        >>> info = EmulationInfo(large=part, small_tuned=part, small_base=part, settings=EmulationConfig(beta=0.3))
        >>> len(info.fingerprint), info.settings.beta
        (64, 0.3)
    """

    large: EmulationPart
    small_tuned: EmulationPart
    small_base: EmulationPart
    settings: EmulationConfig
    run: str = ""
    statement: str = NO_PROMISE

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the three models and the settings."""
        about = [getattr(self, role).fingerprint for role in ROLES] + [asdict(self.settings)]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path, *, place: Path) -> None:
        """Write it into ``folder``, which is to be moved to ``place``: paths are relative to that."""
        about = asdict(self)
        for role in ROLES:
            about[role]["source"] = portable(about[role]["source"], place)
        about["run"] = portable(self.run, place)
        about = {"format": FORMAT, **about}
        write_text(folder / FILE, json.dumps(about, indent=2, ensure_ascii=False) + "\n", private=False)


def is_emulation(source: str | Path) -> bool:
    """True if ``source`` is a folder here with the file of an emulated fine-tune.

    Examples:
        >>> is_emulation("nowhere")
        False
    """
    try:
        return (Path(source).expanduser() / FILE).is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def read_emulation(folder: str | Path) -> EmulationInfo | None:
    """The emulated fine-tune in the folder; None where there is none.

    Raises:
        BadInput: the file is broken, or of another format.
    """
    path = Path(folder).expanduser() / FILE
    if not is_emulation(folder):
        return None
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = about.pop("format")
        if version != FORMAT:
            raise BadInput(str(path), f"has format {version!r}", "Read it with the version that wrote it.")
        parts: dict[str, Any] = {role: EmulationPart(**about.pop(role)) for role in ROLES}
        info = EmulationInfo(settings=_settings(about.pop("settings")), **parts, **about)
        _refuse_odd(info)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            str(path), f"is broken ({type(error).__name__})", "Copy the folder again, or run `reticent emulate` again."
        ) from error
    opened: dict[str, Any] = {
        role: replace(part, source=found(part.source, path.parent, part.fingerprint)) for role, part in parts.items()
    }
    return replace(info, **opened, run=found(info.run, path.parent) if info.run else "")


def _settings(values: dict[str, Any]) -> EmulationConfig:
    numbers = all(value is None or (type(value) in (int, float) and math.isfinite(value)) for value in values.values())
    if values.keys() != {field.name for field in fields(EmulationConfig)} or not numbers:
        raise ValueError("settings")
    return EmulationConfig(**values)


def _refuse_odd(info: EmulationInfo) -> None:
    words = [info.run, info.statement, *(word for role in ROLES for word in asdict(getattr(info, role)).values())]
    if not all(isinstance(word, str) for word in words):
        raise TypeError("a name that is no text")
