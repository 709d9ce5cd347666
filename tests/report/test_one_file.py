# SPDX-License-Identifier: Apache-2.0
"""A metric, and a column of the report, are an edit of one file: tried in a copy of the package."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import reticent

SOURCE = Path(reticent.__file__).parent
MADE = {"report/results.schema.json", "report/comparison.schema.json"}
"""Files that a command makes."""

METRIC = """
        Metric(
            name="relearned",
            label="Share relearned",
            chance=0.0,
            severity_steps=(0.5, 0.25, 0.1, 0.0),
            percent=True,
            least=0.0,
            most=1.0,
            headline=("passage",),
            limits=(Limit(flag="max_relearned", needs="needs a relearning attack", about="limit on what comes back."),),
        ),
"""
WITH_METRIC = """
from dataclasses import replace
from reticent.auditing.verdict import severity
from reticent.cli.main import main
from reticent.core.finding import Severity
from reticent.core.metrics import severity_table
from reticent.report.audit_page import render
from reticent.report.console import print_summary
from reticent.report.results_file import write_results
from rich.console import Console

results = sample.extracted()
found = replace(results.findings[0], metric="relearned", attack="relearn", level="passage",
                estimate=replace(results.findings[0].estimate, value=0.3, lo=0.26, hi=0.4))
results = replace(results, findings=(*results.findings, found))
assert severity("relearned", 0.26) is Severity.HIGH
assert "Share relearned" in render(results)
console = Console(record=True, width=200, quiet=False)
print_summary(results, console=console)
assert "passage level, Share relearned: 30 % [26, 40]" in " ".join(console.export_text().split())
write_results(out / "results.json", results)
assert main(["gate", str(out), "--max-relearned", "0.31"]) == 0
assert main(["gate", str(out), "--max_relearned", "0.29"]) == 1
assert main(["gate", str(out), "--max_relearned", "2"]) == 2
assert "| Share relearned above | 0.5 | 0.25 | 0.1 | 0 | 0 |" in severity_table()
"""

COLUMN = """    median: Estimate | None = field(default=None, metadata=column("Median secret", metric="share"))
"""
WITH_COLUMN = """
import json
from dataclasses import replace
from reticent.report.audit_page import render
from reticent.report.csv_files import write_csv
from reticent.report.results_file import read_results, to_json, write_results

results = sample.extracted()
rows = results.extraction.rows
changed = replace(rows[1], median=replace(rows[1].target, value=0.1234, lo=0.12, hi=0.13))
results = replace(results, extraction=replace(results.extraction, rows=(rows[0], changed, *rows[2:])))
page = render(results)
assert page.count('<th scope="col" class="r">Median secret</th>') == 3
assert '<span class="num">12.3</span>' in page
write_results(out / "results.json", results)
assert read_results(out / "results.json") == results
write_csv(out / "csv", results)
assert "median,median_lo,median_hi,median_n" in (out / "csv" / "extraction.csv").read_text()
assert 0.1234 in results.to_frame().value.tolist()
old = to_json(results)
for row in old["extraction"]["rows"]:
    del row["median"]
(out / "old.json").write_text(json.dumps(old))
assert read_results(out / "old.json").extraction.rows[1].median is None
"""


def _run(tree: Path, code: str, out: Path) -> None:
    out.mkdir()
    sample = Path(__file__).with_name("sample.py")
    start = f"import sys; from pathlib import Path; sys.path.insert(0, {str(sample.parent)!r}); import sample\n"
    start += (
        f"out = Path({str(out)!r})\nimport reticent; assert Path(reticent.__file__).is_relative_to({str(tree)!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start + code],
        env=os.environ | {"PYTHONPATH": str(tree)},
        cwd=out,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _changed(one: filecmp.dircmp[str], below: str = "") -> set[str]:
    here = {f"{below}{name}" for name in (*one.diff_files, *one.left_only, *one.right_only) if name != "__pycache__"}
    return here.union(*(_changed(inner, f"{below}{name}/") for name, inner in one.subdirs.items()))


@pytest.mark.parametrize(
    ("file", "before", "added", "code"),
    [
        ("core/metrics.py", '        Metric(name="share"', METRIC, WITH_METRIC),
        ("core/extraction_rows.py", '    control_group: str = ""', COLUMN, WITH_COLUMN),
    ],
    ids=["metric", "column"],
)
def test_it_is_an_edit_of_one_file(tmp_path: Path, file: str, before: str, added: str, code: str) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(SOURCE, tree / "reticent")  # with its bytecode: the package is started twice
    path = tree / "reticent" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    described = text.replace(
        "        control_group: the group", "        median: of one secret.\n        control_group: the group"
    )
    path.write_text(described.replace(before, added + before), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "reticent.report.make_schemas"],
        env=os.environ | {"PYTHONPATH": str(tree)}, check=True,
    )  # fmt: skip
    _run(tree, code, tmp_path / "out")
    assert _changed(filecmp.dircmp(SOURCE, tree / "reticent")) - MADE == {file}
    made = json.loads((tree / "reticent" / "report" / "results.schema.json").read_text(encoding="utf-8"))
    assert ("median" in made["$defs"]["extraction_row"]["properties"]) == ("extraction_rows" in file)
