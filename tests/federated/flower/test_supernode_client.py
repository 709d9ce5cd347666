# SPDX-License-Identifier: Apache-2.0
"""A client stays with a server that is started again, leaves one that is gone, and says when it is not known."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reticent.core.errors import Unusable
from reticent.federated.flower import superlink_server, supernode_client
from reticent.federated.flower.certificates import ServerCertificate
from reticent.federated.flower.superlink_server import ServerAddress
from reticent.federated.flower.supernode_client import NodePlace


class Node:
    """Ends after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def look(self) -> None:
        self.looks -= 1

    def ended(self) -> object | None:
        return None if self.looks > 0 else self


class Over(Exception):
    """There are no more answers."""


def take_part(
    monkeypatch: pytest.MonkeyPatch, nodes: Sequence[int], answers: Sequence[bool], *, patience: float = 0.0
) -> int:
    """Take part with nodes that live for so many looks, while the server answers so; how many nodes were started."""
    lives, left, started = iter(nodes), list(answers), []

    @contextmanager
    def running(place: NodePlace, folder: Path) -> Iterator[Node]:
        started.append(1)
        yield Node(next(lives))

    def answer(*_: object) -> bool:
        if not left:
            raise Over
        return left.pop(0)

    monkeypatch.setattr(supernode_client, "_running_node", running)
    monkeypatch.setattr(supernode_client, "_PAUSE", 0.0)
    monkeypatch.setattr(supernode_client, "check_server", answer)
    place = NodePlace(host="h", port=1, authority=Path("a"), key=Path("k"), patience=patience)
    with suppress(Over):
        supernode_client._take_part(place, Path())
    return len(started)


def test_a_client_leaves_a_server_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert take_part(monkeypatch, [9], [True, True, False]) == 1


def test_a_client_starts_another_node_for_a_server_that_was_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernode_client, "_LIVED", -1.0)
    assert take_part(monkeypatch, [2, 2, 9], [True, True, True, True, True, False]) == 3


def test_a_node_that_ended_is_replaced_when_the_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert take_part(monkeypatch, [1, 9], [False, False], patience=100.0) == 1
    assert take_part(monkeypatch, [1, 9], [False, False, True], patience=100.0) == 2


def test_a_client_that_the_server_never_knows_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unusable, match="may not know this --key"):
        take_part(monkeypatch, [1] * 9, [True] * 9)


def test_a_port_that_is_taken_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superlink_server, "_RELEASE", 0.0)
    nothing = ServerCertificate(certificate=Path("c"), key=Path("k"), authority=Path("a"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = ServerAddress(host="127.0.0.1", port=port, bind="127.0.0.1", files=nothing)
        with pytest.raises(Unusable, match="cannot be listened on"):
            superlink_server._wait_for_a_free_port(address)
    superlink_server._wait_for_a_free_port(address)
