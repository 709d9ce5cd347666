# SPDX-License-Identifier: Apache-2.0
"""A client's own record: one session a round, also where a server asks for the round again."""

from __future__ import annotations

import pytest

from reticent.federated.secure.client_memory import ClientMemory
from reticent.privacy.check import GuaranteeViolated


def test_a_memory_that_is_read_again_knows_the_sessions(tmp_path):
    path = tmp_path / "memory.jsonl"
    ClientMemory(path, about={}).keep("ana", 1, b"one", "vector", b"sent")
    memory = ClientMemory(path, about={})
    memory.keep("ana", 1, b"one", "vector", b"sent")
    assert (memory.others("ana", 1), memory.others("ana", 2), memory.others("bo", 2)) == (0, 1, 0)
    with pytest.raises(GuaranteeViolated, match="in one session only"):
        memory.keep("ana", 1, b"two", "vector", b"sent")
