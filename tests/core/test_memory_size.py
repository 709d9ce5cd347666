# SPDX-License-Identifier: Apache-2.0
"""Amounts of memory are read as people write them, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from reticent.core.errors import BadInput
from reticent.core.memory_size import memory_by_device, memory_bytes


@pytest.mark.parametrize(
    ("amount", "expected"), [("5", 5), (" 80gb ", 80 * 10**9), ("1.5GiB", 3 * 2**29), ("2 MiB", 2**21)]
)
def test_an_amount_is_in_bytes(amount: str, expected: int) -> None:
    assert memory_bytes(amount) == expected


@pytest.mark.parametrize("amount", ["", "0", "0GB", "-1GB", "1e9", "GB", "80 gigs", "٣GB", "9" * 400, "0.1"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    if amount == "٣GB":
        assert memory_bytes(amount) == 3 * 10**9  # digits are digits
        return
    with pytest.raises(BadInput, match="is no amount of memory"):
        memory_bytes(amount)


@pytest.mark.parametrize("amounts", ["cpu", "cpu:4GB", "gpu0=4GB", "-1=4GB", "99999=4GB", "cpu=4GB,cpu=5GB", "0=1,=2"])
def test_what_is_no_list_of_devices_is_refused(amounts: str) -> None:
    with pytest.raises(BadInput, match=r"max_memory="):
        memory_by_device(amounts)


def test_nothing_is_no_limit() -> None:
    assert memory_by_device(" , ") == {}
