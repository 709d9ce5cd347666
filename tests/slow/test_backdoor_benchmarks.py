# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of backdoors run through at their tiny sizes, and go on from what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "flags", "part"),
    [
        ("privacy_backdoor", ["--seeds", "0", "--methods", "lora", "--fpr", "0.3"], "attacks"),
        ("pre_memorization", ["--sets", "2"], "found"),
        ("deferred_poisoning", ["--seeds", "0", "--texts", "24"], "rows"),
    ],
)
def test_a_tiny_run_is_whole_and_is_resumed(name, flags, part, tmp_path):
    outcome = tmp_path / "outcome.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--tiny", "--work", str(tmp_path / "work")]
    command += ["--json", str(outcome), *flags]
    first = None
    for _ in range(2):
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
        again = json.loads(outcome.read_text(encoding="utf-8"))[part]
        assert again
        assert first in (None, again)
        first = again
