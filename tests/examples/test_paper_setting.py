# SPDX-License-Identifier: Apache-2.0
"""The recipe of the paper's own setting runs as it stands, on a tiny model and a few sentences."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from reticent.report.comparison_file import read_comparison
from reticent.testing.tiny import save_tiny

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

RECIPE = Path(__file__).parents[2] / "examples" / "paper_setting.sh"


def test_the_recipe_runs(tmp_path):
    rng = random.Random(0)
    text = tmp_path / "text.txt"
    text.write_text(" ".join(rng.choice(("the", "red", "cat", "dog", "runs", "sleeps", "here")) for _ in range(900)))
    scale = {"METHODS": "lora", "SEEDS": "0", "EPOCHS": "1", "WORDS": "12", "TOKENS": "64", "CONTROLS": "20"}
    where = {"MODEL": str(save_tiny(tmp_path / "tiny")), "DATA": str(text), "PANEL": "20"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    out = tmp_path / "out"
    done = subprocess.run(
        ["bash", str(RECIPE), str(out)],
        env=os.environ | scale | where | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    comparison = read_comparison(out / "comparison.json")
    assert len(comparison.cells) == 3
    assert all(cell.status == "done" for cell in comparison.cells)
