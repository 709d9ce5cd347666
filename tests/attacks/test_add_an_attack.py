# SPDX-License-Identifier: Apache-2.0
"""The example in docs/add_an_attack.md works as it stands."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "add_an_attack.md"


def test_the_example_of_the_page_runs(tmp_path):
    """In a process of its own, so that the example does not stay in the registry of other tests."""
    blocks = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL))
    assert set(blocks) == {"title_case.py", "test_title_case.py"}
    for name, code in blocks.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    run = "import test_title_case as test; test.test_golden(); test.test_conformance()"
    done = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
