# SPDX-License-Identifier: Apache-2.0
"""An audit of models that do not fit on one device is that of models that do, or is refused before it writes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reticent.auditing.config import AuditConfig
from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.models import turns
from reticent.score import make_tables as plan
from reticent.score.requests import PLAIN, Request, Variant
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.workflows.audit import audit
from reticent.workflows.audit_workers import wanted_workers

TEXT = "Mail {} of the customer, who asks for the order "
COMMAND = ["audit", "--model", "model", "--reference", "base", "--members", "members.jsonl", "--held_out"]
COMMAND = [*COMMAND, "held_out.jsonl", "--attacks", "loss,ref_diff,lowercase", "--dtype", "float32"]
DISK = ["--device_map", "map.json", "--offload_folder", "offloaded"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_tiny(tmp_path / "model", seed=1)
    save_tiny(tmp_path / "base", seed=2)
    for name, step in (("members", 7919), ("held_out", 104729)):
        rows = [{"text": TEXT.format(number * step % 997) * (1 + number % 3)} for number in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "map.json").write_text('{"model.layers.0": "disk", "": "cpu"}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(out, "results.json").read_text())
    for name in ("created", "provenance"):
        found.pop(name)
    for row in found["exposed"]:
        row.pop("unit")  # by a secret of the folder
    return found


def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sides that are scored, in order, as they are."""
    sides: list[str] = []
    make = plan.TableShards.make
    monkeypatch.setattr(
        plan.TableShards,
        "make",
        lambda kind, part, of, *more: (sides.append(of[0].name), make(kind, part, of, *more))[1],
    )
    return sides


def test_a_map_and_turns_give_the_results_of_one_device(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {"plain": ["--device", "cpu"], "disk": DISK, "turns": ["--one_at_a_time", "true", "--device", "cpu"]}
    sides, filled = passes(monkeypatch), []
    fill = turns._fill
    monkeypatch.setattr(turns, "_fill", lambda loaded, read: (filled.append(loaded.source), fill(loaded, read))[1])
    for name, flags in ways.items():
        monkeypatch.setenv("RETICENT_CACHE", str(here / f"cache-{name}"))
        assert main([*COMMAND, "--out", name, *flags]) == 0
    assert results("disk") == results("plain") == results("turns")
    assert sorted(sides) == ["base"] * 3 + ["model"] * 6
    assert 2 <= len(filled) <= 3
    assert set(filled) == {"model", "base"}
    about = json.loads(Path("disk", "results.json").read_text())["provenance"]
    assert about["models"]["modules_on"] == {"cpu": 4, "disk": 1}
    assert (about["audit"]["device_map"], about["audit"]["offload_folder"]) == ("map.json", "offloaded")


def test_tables_of_one_way_are_those_of_the_others(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETICENT_CACHE", str(here / "cache"))
    sides = passes(monkeypatch)
    assert main([*COMMAND, "--out", "plain", "--device", "cpu"]) == 0
    assert len(sides) == 3
    for name, flags in {"disk": DISK, "turns": ["--one_at_a_time", "true"]}.items():
        assert main([*COMMAND, "--out", name, *flags]) == 0
    assert len(sides) == 3


def test_the_model_in_memory_is_asked_first() -> None:
    other = Variant(name="other", render=lambda record, context: [record])
    wanted = [
        Request(name=f"{variant.name}/{model}", model=model, variant=variant)  # type: ignore[arg-type]
        for variant in (PLAIN, other)
        for model in ("target", "reference")
    ]
    assert plan._in_order(wanted, PLAIN, []) == ["target", "reference"]
    done = [("target", PLAIN), ("reference", PLAIN)]
    assert plan._in_order(wanted, other, done) == ["reference", "target"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--device_map", "missing.json"], "neither auto nor balanced nor a file"),
        (["--device_map", "model/config.json"], "neither auto nor balanced nor a file"),
        (["--device_map", "nowhere.json"], "nowhere"),
        (["--device_map", "unknown.json"], "no such module"),
        (["--device_map", "map.json"], "no folder was named"),
        (["--device_map", "auto", "--max_memory", "cpu=lots"], "is no amount of memory"),
        (["--device_map", "auto", "--max_memory", "4GB"], "does not say how much memory of which device"),
        (["--max_memory", "cpu=4GB"], "there is no device map"),
        (["--offload_folder", "offloaded"], "there is no device map"),
        (["--device_map", "auto", "--device", "cpu"], "both say where"),
        (["--device_map", "auto", "--one_at_a_time", "true"], "Give one of them"),
        (["--device_map", "auto", "--whitebox", "true"], "goes back through"),
        (["--one_at_a_time", "true", "--shadow", "4"], "trains models"),
        (["--device_map", "auto", "--workers", "2"], "spans all devices"),
        (["--one_at_a_time", "true", "--workers", "join"], "is for one process"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    flags: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "nowhere.json").write_text('{"model.layers.0": "cpu"}')
    (here / "unknown.json").write_text('{"": "cpu", "model.layer.0": "cpu"}')
    before = sorted(path for path in here.rglob("*"))
    assert main([*COMMAND, "--out", "run", *flags]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert said in message
    assert "Traceback" not in message
    assert sorted(path for path in here.rglob("*")) == before


def test_several_ranks_do_not_share_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    case: Any = SimpleNamespace(target="model", reference=None)
    for config in (AuditConfig(device_map="auto"), AuditConfig(one_at_a_time=True)):
        with pytest.raises(BadInput, match="with WORLD_SIZE=2: "):
            wanted_workers("1", case, config)


@pytest.mark.slow
def test_texts_that_models_write_and_candidates_that_they_rank(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else asks the models gives the same too."""
    for name, step in (("members", 7919), ("held_out", 104729)):
        texts = [TEXT.format(i) + f"0171 {4_000_000 + i * step % 999_999} or ann{i}@example.com" for i in range(12)]
        (here / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    more = ["--extraction", "true", "--identifiers", "true", "--extraction_samples", "2"]
    for name, flags in {"plain": [], "disk": DISK, "turns": ["--one_at_a_time", "true"]}.items():
        monkeypatch.setenv("RETICENT_CACHE", str(here / f"cache-{name}"))
        assert main([*COMMAND, *more, "--out", name, *flags]) == 0
    assert without_units(results("disk")) == without_units(results("plain")) == without_units(results("turns"))


def without_units(value: Any) -> Any:
    """Without what a secret of the folder stands for."""
    if isinstance(value, dict):
        return {name: without_units(item) for name, item in value.items() if name != "unit"}
    return [without_units(item) for item in value] if isinstance(value, list) else value


def test_a_model_in_memory_lies_where_it_lies(here: Path) -> None:
    texts = [{"text": TEXT.format(number)} for number in range(20)]
    given = {"model": tiny_model(), "tokenizer": tiny_tokenizer(), "members": texts[:10], "held_out": texts[10:]}
    with pytest.raises(BadInput, match="is in memory already"):
        audit(None, AuditConfig(device_map="auto"), out="run", **given)
