# SPDX-License-Identifier: Apache-2.0
"""A verb is one file in the folder of verbs: listed, with help and flags of its own, refused where it is mistyped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import reticent

VERB = '''
# SPDX-License-Identifier: Apache-2.0
"""`reticent greet`: says hello."""

from __future__ import annotations

from reticent.core.errors import BadInput


def command(name: str, *, times: int = 1) -> int:
    """Say hello to somebody.

    Args:
        name: whom to greet.
        times: how often.
    """
    if times < 1:
        raise BadInput(f"times={times}", "greets nobody", "Give 1 or more.")
    print(" ".join(["hello", name] * times))
    return 0
'''


def test_a_verb_is_one_file(tmp_path: Path) -> None:
    package = tmp_path / "reticent"
    shutil.copytree(Path(reticent.__file__).parent, package)  # with its bytecode: the package is started five times
    (package / "cli" / "greet.py").write_text(VERB.lstrip(), encoding="utf-8")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
        command = [sys.executable, "-m", "reticent", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert "greet" in run("--help").stdout
    shown = run("greet", "--help").stdout
    assert "Say hello to somebody." in shown
    assert "how often" in shown
    done = run("greet", "ana", "--times", "2")
    assert (done.returncode, done.stdout.strip()) == (0, "hello ana hello ana")
    assert run("greet", "ana", "--times", "0").returncode == 2
    mistyped = run("gret", "ana")
    assert mistyped.returncode == 2
    assert "greet" in mistyped.stderr + mistyped.stdout
