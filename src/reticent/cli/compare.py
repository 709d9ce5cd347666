# SPDX-License-Identifier: Apache-2.0
"""`reticent compare`: which tuning method or defence memorizes how much, at the same utility."""

from __future__ import annotations

from pathlib import Path

from reticent.comparison.config import CompareConfig
from reticent.core.progress import console
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.data.stability import refuse_prepared
from reticent.workflows.inputs import DataConfig

USUAL = (
    "model",
    "out",
    "preset",
    "methods",
    "learning_rates",
    "defences",
    "seeds",
    "epochs",
    "text_field",
    "user_field",
)


def command(
    data: str,
    *,
    model: str = "smollm2-135m",
    out: str = "runs/compare",
    compare_config: CompareConfig,
    data_config: DataConfig,
    split_config: SplitConfig,
    canary_config: CanaryConfig,
) -> int:
    """Train a grid of {tuning method x learning rate x defence x seed} on one split and compare what each memorizes.

    Every training looks at the same panel of members and held-out records while it runs. Methods are compared at their
    best held-out loss and at one that all reach, with intervals over records and seeds, and ranked only where those
    allow it. The same command again goes on with the trainings that are missing. Writes comparison.json and
    report.html. A whole study by name: --preset memorization-study, user-inference, privacy-utility or stand-ins.

    Args:
        data: text (with --block_words), JSONL, CSV, Parquet, mbox or Maildir, a folder or hub id of Hugging Face
            datasets.
        model: the pre-trained model: a folder, a hub id, or a catalogue name (reticent fetch-model).
        out: folder of the comparison.
    """
    from reticent.comparison.resolve import resolve
    from reticent.comparison.run import compare as run_compare
    from reticent.comparison.run import refuse_unstable_cells, units_of
    from reticent.report.comparison_console import print_comparison
    from reticent.workflows.inputs import read_data

    inputs = {"the data": data}
    RunFolder(root=Path(out)).refuse_foreign("compare", inputs | {"the base model": model})
    grid, shared = resolve(compare_config, model=model, split=split_config, canaries=canary_config)
    refuse_unstable_cells(grid, shared, data_config)
    for unit in units_of(grid):
        refuse_prepared(unit, data)
    records, _ = read_data(data, data_config, each_alone=bool(units_of(grid)), model=model)
    comparison = run_compare(
        records, grid=grid, shared=shared, out=out, title=Path(data).name, jobs=compare_config.jobs, inputs=inputs
    )
    print_comparison(comparison)
    console.print(f"report: {Path(out) / 'report.html'}", highlight=False, soft_wrap=True)
    return 0
