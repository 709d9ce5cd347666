# SPDX-License-Identifier: Apache-2.0
"""Whatever Flower and Ray would send or fetch by themselves is switched off before either is imported.

Both read these variables, Flower some of them once at import; processes that they start inherit them.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
from importlib.metadata import PackageNotFoundError, version

from reticent.core.errors import BadInput

MINOR = "1.42"
"""The minor version of Flower whose surfaces this room uses; they move with each."""
INSTALL = 'pip install "reticent[federated]"'

SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TRACING_ENABLED": "0",
    "FLWR_ENABLE_EVENT_LOG": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "GRPC_VERBOSITY": "NONE",
}
"""Telemetry of Flower, its look for updates, its installation of what an app depends on (`uv sync`), its traces and
event log; Ray's usage statistics and its use of `uv`."""

_READ_AT_IMPORT = (
    ("FLWR_TELEMETRY_ENABLED", "flwr.supercore.telemetry"),
    ("RAY_USAGE_STATS_ENABLED", "ray"),
    ("RAY_AUTH_MODE", "ray"),
)


def switch_off() -> None:
    """Set all switches for this process and those that it starts.

    Some ports of Ray listen on all addresses, whatever it is told, so it is made to ask for a secret that this process
    and those that it starts alone have.

    Raises:
        BadInput: Flower or Ray was imported before in another way, and has read that already.
    """
    wanted = SWITCHES | {"RAY_AUTH_MODE": "token"}
    for name, module in _READ_AT_IMPORT:
        if module in sys.modules and os.environ.get(name) != wanted[name]:
            raise BadInput(
                f"{module.partition('.')[0]}, imported before with {name}={os.environ.get(name, 'unset')}",
                "it reads that once, and would send telemetry or let others in",
                f"Set {name}={wanted[name]} before it is imported, or leave the import to this package.",
            )
    os.environ.update(wanted)
    # One for the life of the process: Ray reads it once.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Its log of errors quotes what a client raised, which may be private text.
    os.environ["FLWR_LOG_LEVEL"] = "CRITICAL"


def check_version(installed: str | None) -> None:
    """Refuse a Flower that is not there, or of another minor version.

    Args:
        installed: its version; None where it is not installed.

    Raises:
        BadInput: one of these.

    Examples:
        >>> check_version("1.42.3")
        >>> check_version("1.41.0")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: Flower 1.41.0: is another minor version than 1.42, ...
    """
    if installed is None:
        raise BadInput(
            "an engine of Flower", "is not installed", f'Run: {INSTALL} (it brings "flwr[simulation]=={MINOR}.*").'
        )
    if ".".join(installed.split(".")[:2]) != MINOR:
        raise BadInput(
            f"Flower {installed}",
            f"is another minor version than {MINOR}, and what is used of it moves between those",
            f'Run: pip install "flwr[simulation]=={MINOR}.*"',
        )


def flower_version() -> str | None:
    """The installed version of Flower, without an import of it; None where there is none."""
    try:
        return version("flwr")
    except PackageNotFoundError:
        return None


def ready(*, ray: bool = False) -> None:
    """Check that Flower can be used, and switch off what it sends; call it before any import of it.

    Args:
        ray: its simulation over Ray is wanted.

    Raises:
        BadInput: it, or Ray, is not installed; another minor version; imported before with telemetry on.
    """
    check_version(flower_version())
    if ray and importlib.util.find_spec("ray") is None:
        raise BadInput("engine='ray'", "Ray is not installed", f'Run: pip install "flwr[simulation]=={MINOR}.*"')
    switch_off()
