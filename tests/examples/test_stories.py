# SPDX-License-Identifier: Apache-2.0
"""Each story of examples/ is short and runs from beginning to end, here on a tiny model and few texts."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from reticent.attacks import ATTACKS
from reticent.testing import save_tiny

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

EXAMPLES = Path(__file__).parents[2] / "examples"
STORIES = {
    "audit_your_run": (["--users", "16", "--epochs", "1"], ("auc", "would have been seen", "report:")),
    "audit_your_lists": (["--texts", "30", "--other"], ("confounded", "zlib")),
    "compare_methods": (["--users", "16", "--epochs", "1", "--seeds", "1"], ("lora(r=8), goldfish", "report:")),
    "gate_in_ci": (["--max-auc", "0.99"], ("max_auc", "baseline", "Gate")),
    "private_per_user": (["--users", "24", "--epochs", "1"], ("promised ε", "above the promise")),
    "scan_before_trusting": ([], ("Nothing found by these scanners", "Found: pickles", "the payload ran: False")),
    "scrub_your_data": (["--users", "12"], ("PHONE: +44", "EMAIL: ana", "48 mails", "missed:", "data card:")),
    "take_a_person_out": (
        ["--users", "16", "--epochs", "2", "--retrained", "0"],
        ("max_forget_auc", "Too few to tell", "certificate:"),
    ),
    "watch_a_training": (["--users", "40", "--epochs", "1"], ("most at risk", "monitor.json")),
    "write_an_attack": (["--users", "16", "--epochs", "1"], ("title_case_example: AUC", "loss: AUC")),
}
"""Story → flags that make it small, and words of what it prints."""
ELSEWHERE = {"chinese_and_japanese", "planted_secrets", "scrub_tune_audit"}
"""The first has a test of its own; the others take minutes and are run by the slow tests."""


def run(name: str, *flags: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *flags])
        try:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(autouse=True)
def attacks_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    ATTACKS.names()
    monkeypatch.setattr(ATTACKS, "_things", dict(ATTACKS._things))


def test_every_story_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(STORIES) | ELSEWHERE


@pytest.mark.parametrize("name", sorted({*STORIES, *ELSEWHERE}))
def test_a_story_is_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 80


@pytest.mark.parametrize("name", STORIES)
def test_a_story_runs(name: str, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags, words = STORIES[name]
    out = tmp_path / "out"
    where = ["--model", tiny, "--out", str(out)]
    if name == "gate_in_ci":
        where = [str(tmp_path / "before"), str(tmp_path / "after"), "--demo", tiny]
    elif name == "scrub_your_data":
        where = ["--out", str(tmp_path / "prepared.parquet")]
    assert run(name, *where, *flags) == 0
    printed = "".join(capsys.readouterr())
    for word in words:
        assert word in printed, printed[-2000:]
