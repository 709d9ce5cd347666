# SPDX-License-Identifier: Apache-2.0
"""`reticent tune`: fine-tune a model on private text, with recorded coins so that it can be audited."""

from __future__ import annotations

from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.data.stability import refuse_prepared, refuse_unstable
from reticent.monitor.config import MonitorConfig
from reticent.privacy.spec import PrivacySpec
from reticent.train.config import TuneConfig
from reticent.train.contextual import ContextualConfig
from reticent.train.hardening import HardenConfig
from reticent.train.objectives.as_text import parse_objectives
from reticent.workflows.inputs import DataConfig
from reticent.workflows.recipe import TuneRecipe
from reticent.workflows.training_rows import promised_unit

USUAL = (
    "model",
    "out",
    "text_field",
    "user_field",
    "method",
    "epochs",
    "learning_rate",
    "epsilon",
    "unit",
    "canaries",
)


def command(
    data: str,
    *,
    model: str = "smollm2-135m",
    out: str = "runs/tune",
    data_config: DataConfig,
    split_config: SplitConfig,
    canary_config: CanaryConfig,
    tune_config: TuneConfig,
    privacy: PrivacySpec,
    monitor: MonitorConfig,
    harden: HardenConfig,
    contextual: ContextualConfig,
    objectives: str | None = None,
    scan: bool = False,
    scan_sibling: str | None = None,
) -> int:
    """Fine-tune a model on private text and keep some of it out by coin, so that `reticent audit` can compare.

    With --epsilon it is trained with differential privacy, for each record or each user (--unit), and the promise is
    saved with the model. The same command again goes on from the last checkpoint.

    Args:
        data: JSONL, CSV, Parquet, mbox or Maildir, a folder or hub id of Hugging Face datasets.
        model: the pre-trained model: a folder, a hub id, or a catalogue name (reticent fetch-model).
        out: the run folder.
        objectives: training objectives by name, with their settings, separated by commas: goldfish(k=4),loss_floor. All
            that there are, those without a flag of their own too.
        scan: scan the model's files first, and stop where something is found (reticent scan).
        scan_sibling: a trusted model of the same kind: the scan then looks too whether the model knows the data
            already.
    """
    from reticent.data.secrets_file import read_secrets, secrets_beside
    from reticent.workflows.inputs import read_data
    from reticent.workflows.tune import tune as run_tune

    inputs = {"the data": data}
    RunFolder(root=Path(out)).refuse_foreign("tune", inputs | {"the base model": model})
    recipe = TuneRecipe(
        split=split_config,
        canaries=canary_config,
        training=tune_config,
        privacy=privacy,
        objectives=(
            *harden.objectives,
            *contextual.objectives,
            *(() if objectives is None else parse_objectives(objectives)),
        ),
        monitor=monitor,
    )
    unit = promised_unit(privacy)
    refuse_unstable(unit, data_config, split_config, canary_config, harden, contextual)
    refuse_prepared(unit, data)
    records, rejects = read_data(
        data, data_config, each_alone=unit is not None, hide_spans=privacy.protect == "spans", model=model
    )
    if scan_sibling is not None and not scan:
        raise BadInput("--scan_sibling", "is for the scan, which was not asked for", "Add --scan true.")
    if scan:
        from reticent.workflows.scan_first import scan_first

        scan_first(model, records, sibling=scan_sibling)
    missed = secrets_beside(data)
    run = run_tune(
        records,
        base=model,
        out=out,
        title=Path(data).name,
        recipe=recipe,
        rejects=rejects,
        targets=read_secrets(missed) if missed.exists() else (),
        inputs=inputs,
    )
    if monitor.watches:
        _show_watch(run)
    console.print(f"model: {run.model}\nnow: reticent audit {run.root}", highlight=False, soft_wrap=True)
    return 0


def _show_watch(run: RunFolder) -> None:
    """The table of what the monitor saw, and how the loss on held-out text changed."""
    from reticent.monitor.log import read_history
    from reticent.monitor.progress_table import table
    from reticent.train.held_out import sentence

    watch = read_history(run.monitor)
    console.print(table(watch))
    first, last = watch.moments[0], watch.moments[-1]
    if first.step == 0 < last.step:
        outcome = sentence(watch.held_out, first.perplexity, last.perplexity)
        console.print(outcome, highlight=False, soft_wrap=True)
