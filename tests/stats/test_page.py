# SPDX-License-Identifier: Apache-2.0
"""The table of docs/statistics.md names functions that there are."""

import importlib
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


def test_every_function_of_the_table_is_there():
    cells = re.findall(r"^\| [^|]+ \| (`[^|]+) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`(\w+(?:\.\w+)+)`", cell)]
    assert len(names) > 20
    for name in names:
        module, function = name.rsplit(".", 1)
        package = "reticent" if name.startswith("privacy.") else "reticent.stats"
        assert hasattr(importlib.import_module(f"{package}.{module}"), function), name
