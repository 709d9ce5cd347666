# SPDX-License-Identifier: Apache-2.0
"""What is switched off before Flower is imported, which version of it is taken, and that nothing else imports it."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.engine_config import LOCAL, EngineConfig
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.flower import flower_programs, flower_switches
from reticent.workflows import federation_results
from reticent.workflows.federation_recipe import FederationRecipe

SOURCE = Path(flower_switches.__file__).parents[2]
FOREIGN = {"flwr", "ray"}


def imported_at_import(tree: ast.Module) -> set[str]:
    """Packages that a module imports when it is imported itself."""
    found: set[str] = set()
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        nodes += list(ast.iter_child_nodes(node))
    return found


def test_only_functions_of_its_own_room_import_flower() -> None:
    room = SOURCE / "federated" / "flower"
    importing = re.compile(rf"^\s*(import|from) ({'|'.join(FOREIGN)})\b", flags=re.MULTILINE)
    found = []
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if importing.search(text):
            found.append(path)
            assert not imported_at_import(ast.parse(text)) & FOREIGN, path
    assert found
    assert all(path.parent == room for path in found if path != SOURCE / "core" / "ray_cluster.py")


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*flower_switches.SWITCHES, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "FLWR_LOG_LEVEL"):
        monkeypatch.setenv(name, "before")
        monkeypatch.delenv(name)
    for module in ("flwr.supercore.telemetry", "ray"):
        monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.mark.usefixtures("plain_environment")
def test_all_switches_are_set_and_a_secret_is_made_once() -> None:
    flower_switches.switch_off()
    assert {name: os.environ[name] for name in flower_switches.SWITCHES} == flower_switches.SWITCHES
    assert os.environ["RAY_AUTH_MODE"] == "token"
    secret = os.environ["RAY_AUTH_TOKEN"]
    assert len(secret) == 64
    flower_switches.switch_off()
    assert os.environ["RAY_AUTH_TOKEN"] == secret


@pytest.mark.usefixtures("plain_environment")
@pytest.mark.parametrize("module", ["flwr.supercore.telemetry", "ray"])
def test_what_was_imported_with_telemetry_on_is_refused(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    with pytest.raises(BadInput, match="reads that once"):
        flower_switches.switch_off()
    assert "FLWR_TELEMETRY_ENABLED" not in os.environ


@pytest.mark.parametrize(
    ("installed", "words"),
    [(None, 'pip install "reticent[federated]"'), ("1.41.0", "flwr[simulation]==1.42"), ("2.42.0", "minor version")],
)
def test_another_flower_is_refused_with_the_command_that_helps(
    installed: str | None,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(flower_switches, "flower_version", lambda: installed)
    with pytest.raises(BadInput, match=r"1\.42|reticent\[federated\]"):
        EngineConfig(engine="ray").check(FederationSpec())
    mails = tmp_path / "mails.jsonl"
    mails.write_text("".join(f'{{"id": "{k}", "user": "u{k % 8}", "text": "mail {k} of many"}}\n' for k in range(32)))
    out = tmp_path / "run"
    code = main(["federate", str(mails), "--engine", "ray", "--out", str(out), "--model", str(tmp_path / "none")])
    said = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert words in said
    assert not out.exists()


def test_engines_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadInput, match="engine"):
        EngineConfig(engine="spark")
    with pytest.raises(BadInput, match="one process"):
        EngineConfig(workers=3)
    with pytest.raises(BadInput, match="keeps its own"):
        EngineConfig(engine="ray").check(FederationSpec(exchange="stacked"))


def test_an_engine_is_no_part_of_the_settings_of_a_run() -> None:
    one = FederationRecipe(federation=FederationSpec(rounds=1))
    other = FederationRecipe(federation=FederationSpec(rounds=1), engine=EngineConfig(engine="ray"))
    assert one.on_record == other.on_record
    assert one.engine.in_words == LOCAL


def test_the_page_names_the_engine_and_the_loading_unless_a_promise_is_given() -> None:
    outcome = SimpleNamespace(
        rows=(),
        clients=3,
        promise="",
        record_promise="",
        base_loss=None,
        held_out=0,
        message_bytes=1,
        checks=(),
        stated=None,
    )
    engine = federation_results.EngineReport(name="deployment", apart=True, loading_share=0.75)
    plain = FederationRecipe(federation=FederationSpec(clients_per_round=2))
    told = federation_results.results_of(outcome, plain, title="t", engine=engine)  # type: ignore[arg-type]
    assert (told.engine, told.loading_share) == ("deployment", 0.75)
    assert any("75 %" in sentence for sentence in told.sentences)
    assert "own machine" in told.sentences[-1]
    assert told.who_sees[0].who == "a client's machine"
    outcome.promise = "promised"
    private = FederationRecipe(federation=FederationSpec(), privacy=ClientPrivacy(noise_multiplier=1.0))
    silent = federation_results.results_of(outcome, private, title="t", engine=engine)  # type: ignore[arg-type]
    assert silent.loading_share is None
    assert not any("75 %" in sentence for sentence in silent.sentences)


def test_programs_of_a_deployment_are_ours_or_refuse(tmp_path: Path) -> None:
    programs = flower_programs.write_programs(tmp_path / "programs", "flwr-clientapp", "print('ours')")
    for path in programs.iterdir():
        assert path.stat().st_mode & 0o777 == 0o700
        assert ("ours" in path.read_text()) == (path.name == "flwr-clientapp")
    variables = flower_programs.environment(tmp_path / "home", programs)
    assert variables["PATH"].split(os.pathsep)[0] == str(programs)
    assert flower_switches.SWITCHES.items() <= variables.items()
    assert str(Path(sys.executable).parent) not in variables["PATH"].split(os.pathsep) or sys.prefix == "/usr"
