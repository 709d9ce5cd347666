# SPDX-License-Identifier: Apache-2.0
"""The example in docs/add_an_attack.md works as it stands."""

import importlib
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "add_an_attack.md"


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, in_a_fork):
    """In a fork, so that the example does not stay in the registry of other tests."""
    blocks = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL))
    assert set(blocks) == {"title_case.py", "test_title_case.py"}
    for name, code in blocks.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def work():
        test = importlib.import_module("test_title_case")
        test.test_golden()
        test.test_conformance()

    assert in_a_fork(work) == 0
