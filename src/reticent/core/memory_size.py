# SPDX-License-Identifier: Apache-2.0
"""Amounts of memory as people write them: ``80GB``, ``24GiB``, and how much of it on which device."""

from __future__ import annotations

import re
from collections.abc import Mapping

from reticent.core.errors import BadInput

UNITS: Mapping[str, int] = {
    "": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30
}  # fmt: skip
_MOST_DEVICES = 1024


def memory_bytes(amount: str, name: str = "memory") -> int:
    """Bytes of an amount of memory.

    Args:
        amount: a number with a unit of 1000s (``KB``, ``MB``, ``GB``) or 1024s (``KiB``, ``MiB``, ``GiB``), or bytes.
        name: of the setting, for the message.

    Raises:
        BadInput: it is none, or nothing.

    Examples:
        >>> memory_bytes("80GB"), memory_bytes("1.5 KiB")
        (80000000000, 1536)
    """
    given = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([A-Za-z]*)", amount.strip())
    unit = None if given is None else UNITS.get(given[2].upper())
    if given is None or unit is None or int(float(given[1]) * unit) < 1:
        raise BadInput(f"{name}={amount[:40]!r}", "is no amount of memory", "Give one such as 80GB or 24GiB.")
    return int(float(given[1]) * unit)


def memory_by_device(amounts: str, name: str = "max_memory") -> dict[int | str, int]:
    """Bytes on each device: GPUs by number, the host's memory as ``"cpu"``.

    Args:
        amounts: such as ``0=20GiB,1=20GiB,cpu=60GiB``; empty for none.
        name: of the setting, for the message.

    Raises:
        BadInput: it is no such list, or names a device twice.

    Examples:
        >>> memory_by_device("0=20KiB, cpu=1GB")
        {0: 20480, 'cpu': 1000000000}
    """
    found: dict[int | str, int] = {}
    for part in filter(None, (part.strip() for part in amounts.split(","))):
        device, equals, amount = (word.strip() for word in part.partition("="))
        number = device.isdecimal() and device.isascii() and int(device[:9]) < _MOST_DEVICES
        if not equals or not (number or device == "cpu"):
            raise BadInput(
                f"{name}={part[:40]!r}",
                "does not say how much memory of which device may be taken",
                "Give GPUs by number and the host as cpu: 0=20GiB,cpu=60GiB.",
            )
        place = int(device) if number else device
        if place in found:
            raise BadInput(f"{name}={amounts[:40]!r}", f"names {device} twice", "Name each device once.")
        found[place] = memory_bytes(amount, name)
    return found
