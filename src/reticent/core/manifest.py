# SPDX-License-Identifier: Apache-2.0
"""Manifest: what a run was made of, so that it can be made again."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput

PACKAGES = ("reticent", "torch", "transformers", "peft", "accelerate", "numpy", "scipy", "pyarrow", "scikit-learn")


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Versions and hardware of this machine; no host name, no user name, no path."""
    return {
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def write_manifest(path: str | Path, **parts: Any) -> None:
    """Add ``parts`` to the manifest at ``path`` (made when missing), atomically. Later parts replace earlier ones."""
    path = Path(path)
    manifest = read_manifest(path) if path.exists() else {"created": now()}
    manifest |= parts
    write_text(path, json.dumps(manifest, indent=2, sort_keys=True, default=str) + "\n")


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        BadInput: there is none or it is broken.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(str(path), "is missing", "Give a run folder that `reticent tune` or `audit` made.") from error
    except ValueError as error:
        raise BadInput(str(path), f"is not valid JSON ({error})", "Run the command that made it again.") from error


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
