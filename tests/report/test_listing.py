# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.manifest import write_manifest
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.report.listing import ListedGuarantee, lines, runs
from reticent.report.results_file import write_results

PROMISE = PrivacyGuarantee(
    epsilon=3.0,
    delta=1e-5,
    unit="user",
    neighbouring="add or remove one user",
    mechanism="Poisson-sampled Gaussian mechanism",
    accountant="PLD accountant",
    noise_multiplier=1.3,
    rate=0.06,
    steps=120,
    units=2000,
    check=3.4,
)


def test_runs_are_listed_newest_first_whatever_their_state(sample: ModuleType, tmp_path: Path) -> None:
    write_results(tmp_path / "old" / "results.json", replace(sample.leaking(), created="2026-01-01T00:00:00+00:00"))
    write_results(tmp_path / "new" / "results.json", replace(sample.confounded(), created="2026-02-01T00:00:00+00:00"))
    write_manifest(tmp_path / "going" / "manifest.json", created="2026-03-01T00:00:00+00:00")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "results.json").write_text('{"half', encoding="utf-8")
    (tmp_path / "broken" / "manifest.json").write_text("[", encoding="utf-8")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "tune.yaml").write_text("", encoding="utf-8")
    (tmp_path / "no_run").mkdir()
    (tmp_path / "file.txt").write_text("", encoding="utf-8")
    rows = runs(tmp_path)
    assert [(row.id, row.status) for row in rows] == [
        ("going", "unfinished"),
        ("new", "confounded"),
        ("old", "leaks"),
        ("begun", "unfinished"),
        ("broken", "unreadable"),
    ]
    by_id = {row.id: row for row in rows}
    assert by_id["old"].best_auc is not None
    assert by_id["old"].best_auc.value == max(
        f.estimate.value for f in sample.leaking().findings if (f.level, f.metric) == ("record", "auc")
    )
    assert by_id["new"].best_auc is None
    assert "not valid JSON" in by_id["broken"].headline


def test_an_empty_folder_has_no_runs_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    assert runs(tmp_path) == []
    with pytest.raises(BadInput, match="cannot be listed"):
        runs(tmp_path / "missing")


def private_run(place: Path, sample: ModuleType) -> None:
    """A run with a long name, a model folder and a promise."""
    write_results(place / "results.json", replace(sample.private(), created="2026-04-01T00:00:00+00:00"))
    write_manifest(place / "manifest.json", tune={"base": "../../smollm2-135m", "training": {"method": "lora"}})
    (place / "model" / "deeper").mkdir(parents=True)
    (place / "model" / "model.safetensors").write_bytes(b"x" * 1_234_567)
    (place / "model" / "deeper" / "more").write_bytes(b"x" * 1000)


def test_each_run_has_one_line_with_all_of_its_numbers(sample: ModuleType, tmp_path: Path) -> None:
    long = "help-desk-2026-with-a-name-that-is-far-too-long-for-any-terminal"
    private_run(tmp_path / long, sample)
    write_results(tmp_path / "small" / "results.json", sample.underpowered())
    write_results(tmp_path / "leaky" / "results.json", sample.leaking())
    found = runs(tmp_path)
    assert (found[0].model, found[0].model_bytes) == ("smollm2-135m lora", 1_235_567)
    assert len(lines(found)) == len(lines(found, 100)) == 4
    assert " ".join(lines(found)[1].split()).startswith(f"{long} 2026-04-01 smollm2-135m lora 1.2 MB 8.00/user")
    header, private, *_ = lines(found, 100)
    assert "files" in header
    assert len(private) <= 100
    best = "0.50 [" if "0.50 [" in private else "0.51"
    for shown in ("2026-04-01", "1.2 MB", "8.00/user δ=1e-05", "No leak detected", best, "…"):
        assert shown in private
    (leaky,) = [line for line in lines(found, 100) if line.startswith("leaky")]
    assert "0.943 [0.933, 0.953]" in leaky
    assert "runs/demo/model" in next(line for line in lines(found) if line.startswith("leaky"))
    assert all(len(line) <= 100 for line in lines(found, 100))


def test_an_epsilon_never_stands_alone_and_comes_from_the_model_before_an_audit(
    sample: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    write_manifest(tmp_path / "run" / "manifest.json", created="2026-03-01T00:00:00+00:00")
    (tmp_path / "run" / "model" / "privacy.json").write_text("{", encoding="utf-8")
    assert runs(tmp_path)[0].promise is None
    (tmp_path / "run" / "model" / "privacy.json").write_text(PROMISE.to_json(), encoding="utf-8")
    (run,) = runs(tmp_path)
    assert run.promise == ListedGuarantee(epsilon=3.0, delta=1e-5, unit="user")
    assert "3.00/user δ=1e-05" in lines([run])[1]
    assert "ε promised" in lines([run])[0]


def test_the_command_prints_lines_or_json(
    sample: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "leaky" / "results.json", sample.leaking())
    assert main(["ls", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("leaky  2026-03-02  runs/demo/model  Leak detected")
    assert main(["ls", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["id"], row["status"], row["verdict"], row["promise"]) == ("leaky", "leaks", "Leak detected", None)
    assert row["best_auc"]["n"] == 2202
    assert row["best_auc"]["lo"] < row["best_auc"]["value"] < row["best_auc"]["hi"]
    assert main(["ls", str(tmp_path), "--json", "--ledger"]) == 2
    (tmp_path / "none").mkdir()
    assert main(["ls", str(tmp_path / "none"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_hostile_names_do_not_reach_the_terminal(
    sample: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "a\x1b[31m\nb" / "results.json", sample.leaking())
    assert main(["ls", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2
