# SPDX-License-Identifier: Apache-2.0
"""Workflows call commands that are there, and what is released is looked at before."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


def steps(path: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def called(script: str) -> list[str]:
    """Targets that the lines of a script give to make, without variables."""
    lines = re.sub(r"#.*", "", script)
    words = [word for line in re.findall(r"\bmake ([^\n;&|]+)", lines) for word in line.split()]
    return [word for word in words if "=" not in word and not word.startswith("-")]


def unheard(script: str) -> str:
    """What bash says of a script that it cannot read."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def check_wheel() -> Any:
    spec = importlib.util.spec_from_file_location("check_wheel", ROOT / ".ci" / "check_wheel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_workflows_are_there() -> None:
    assert {path.stem for path in WORKFLOWS} >= {"ci", "docs", "release"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_is_there(path: Path) -> None:
    scripts = [step["run"] for step in steps(path) if "run" in step]
    targets = [target for script in scripts for target in called(script)]
    assert targets
    assert set(targets) <= TARGETS
    assert not [text for script in scripts if (text := unheard(re.sub(r"\$\{\{.*?\}\}", "x", script)))]
    assert all(re.search(r"@[\w./-]+$", step["uses"]) for step in steps(path) if "uses" in step)
    assert all(("run" in step) != ("uses" in step) for step in steps(path))


def test_the_script_of_ci_runs_what_is_there() -> None:
    assert called(SCRIPT)
    assert set(called(SCRIPT)) <= TARGETS
    assert unheard(SCRIPT) == ""


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_target_can_be_made(target: str) -> None:
    """All its prerequisites are known to make; no command of it is run."""
    done = subprocess.run(
        ["make", "--dry-run", "--directory", str(ROOT), target], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_script_that_cannot_be_run_is_seen() -> None:
    assert called("set -e\nmake tset PYTHON=python && make -k slow docs  # make it\n") == ["tset", "slow", "docs"]
    assert "tset" not in TARGETS
    assert unheard("if true; then\n")


def test_an_archive_without_a_file_of_the_package_is_refused(tmp_path: Path) -> None:
    module = check_wheel()
    names = [str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "reticent").rglob("*") if path.is_file()]
    assert {"reticent/py.typed", "reticent/report/templates/report.html"} <= set(names)

    def write(without: str) -> None:
        with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel, tarfile.open(tmp_path / "a.tar.gz", "w:gz") as source:
            for name in sorted(set(names) - {without}):
                wheel.writestr(name, "")
                source.addfile(tarfile.TarInfo(f"a/src/{name}"))

    write("")
    assert module.missing(tmp_path) == []
    write("reticent/py.typed")
    assert module.missing(tmp_path) == ["a.whl: reticent/py.typed", "a.tar.gz: reticent/py.typed"]
