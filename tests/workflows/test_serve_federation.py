# SPDX-License-Identifier: Apache-2.0
"""The server's command goes on in its own folder after it was killed, and in no other; Flower is not started here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.run_folder import WRITTEN, RunFolder
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.flower import certificates, flower_switches, superlink_server
from reticent.federated.server_state import FILE
from reticent.workflows import join_federation
from reticent.workflows.federation_recipe import FederationRecipe
from reticent.workflows.serve_federation import ServerPlace, serve_federation

pytest.importorskip("cryptography", reason="certificates need cryptography: pip install 'reticent[federated]'")


class Killed(BaseException):
    """What ends the command, wherever it is."""


class Server:
    """Takes the place of Flower's server; it ends in a round."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.plan, self.state = folder / "plan.json", state

    def register(self, keys: Mapping[str, bytes]) -> dict[str, int]:
        return {name: number for number, name in enumerate(keys)}

    def run(self, _failure: object) -> None:
        self.state.parent.mkdir(exist_ok=True)
        self.state.write_bytes(b"a round was finished")
        raise Killed


def serve(monkeypatch: pytest.MonkeyPatch, folder: Path, *, rounds: int = 2, base: str = "tiny") -> None:
    """Serve until the command is ended."""
    state = RunFolder(root=folder / "out").checkpoints / FILE

    @contextmanager
    def server(*_: object, **__: object) -> Iterator[Server]:
        yield Server(folder, state)

    monkeypatch.setattr(superlink_server, "flower_server", server)
    monkeypatch.setattr(flower_switches, "ready", lambda: None)
    tls = folder / "tls"
    place = ServerPlace(
        certificate=str(tls / "server.crt"),
        certificate_key=str(tls / "server.key"),
        authority=str(tls / "authority.crt"),
    )
    recipe = FederationRecipe(federation=FederationSpec(rounds=rounds, clients_per_round=2))
    with pytest.raises(Killed):
        serve_federation(folder / "keys", base=base, out=folder / "out", recipe=recipe, place=place)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    certificates.make_certificates(tmp_path / "tls", ["127.0.0.1"])
    for name in ("ana", "ben"):
        certificates.make_node_key(tmp_path / "keys", name)
    return tmp_path


def test_the_same_command_goes_on_and_another_does_not(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, place)
    settings = RunFolder(root=place / "out").settings("federate")
    assert settings is not None
    assert settings.keys() >= WRITTEN["federate"]
    assert settings["clients"] == ["ana", "ben"]
    serve(monkeypatch, place)
    with pytest.raises(BadInput, match=r"other settings \(federation\)"):
        serve(monkeypatch, place, rounds=3)
    certificates.make_node_key(place / "keys", "eve")
    with pytest.raises(BadInput, match="other settings"):
        serve(monkeypatch, place)


def test_the_base_is_named_by_no_path_of_this_machine(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by the same name from wherever the command is given again."""
    (place / "bases" / "tiny").mkdir(parents=True)
    serve(monkeypatch, place, base=str(place / "bases" / "tiny"))
    settings = RunFolder(root=place / "out").settings("federate")
    assert settings is not None
    assert settings["base"] == "../bases/tiny"
    monkeypatch.chdir(place / "bases")
    serve(monkeypatch, place, base="tiny")


def test_a_client_is_told_of_rows_that_it_does_not_train_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = []
    monkeypatch.setattr(join_federation, "join_federation", lambda records, place: taken.extend(records))
    data = tmp_path / "mails.jsonl"
    data.write_text('{"text": "a mail to a shop"}\n{"text": ""}\n{"text": "another one"}\n', encoding="utf-8")
    assert main(["join-federation", str(data), "--model", "tiny", "--on_bad_row", "skip"]) == 0
    assert len(taken) == 2
    printed = capsys.readouterr()
    assert f"1 bad rows skipped; the first: {data}:2" in " ".join((printed.out + printed.err).split())
