# SPDX-License-Identifier: Apache-2.0
"""`reticent synthesize`: synthetic text out of private text, with a promise to each record or user."""

from __future__ import annotations

from pathlib import Path

from reticent.core.progress import console
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.stability import refuse_prepared, refuse_unstable
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.train.config import TuneConfig
from reticent.workflows.inputs import DataConfig, read_data

USUAL = (
    "model",
    "out",
    "text_field",
    "user_field",
    "mechanism",
    "epsilon",
    "unit",
    "count",
    "instruction",
    "topics",
)


def command(
    data: str,
    *,
    model: str = "smollm2-135m",
    out: str = "runs/synthetic",
    data_config: DataConfig,
    synthesis: SynthesisSpec,
    canary_config: CanaryConfig,
    tune_config: TuneConfig,
) -> int:
    """Make synthetic text out of private text, so that the model that ships need not have seen the text at all.

    Needs --epsilon: the promise holds for all texts together, for each record or each user (--unit). --mechanism none
    promises nothing, and is there to compare with. The same command again goes on at the step where it was.

    Args:
        data: private text, as for reticent tune.
        model: a public model that has seen none of it: a folder, a hub id, or a catalogue name (reticent fetch-model).
        out: the run folder; synthetic.jsonl in it holds the texts.
    """
    from reticent.synthesis.synthesis_mechanism import MECHANISMS
    from reticent.workflows.synthesize import SynthesisRecipe, synthesize

    RunFolder(root=Path(out)).refuse_foreign("synthesize", {"the data": data, "the model": model})
    mechanism = MECHANISMS.get(synthesis.mechanism)
    mechanism.check(synthesis)
    unit = synthesis.unit if mechanism.promises else None
    refuse_unstable(unit, data_config, canary_config)
    refuse_prepared(unit, data)
    read = read_data(data, data_config, each_alone=mechanism.promises, model=model)
    run = synthesize(
        read.records,
        base=model,
        out=out,
        recipe=SynthesisRecipe(synthesis=synthesis, canaries=canary_config, training=tune_config),
        title=Path(data).name,
        rejects=read.rejects,
        inputs={"the data": data},
    )
    console.print(f"texts: {run.synthetic}\npage: {run.synthesis_page}", highlight=False, soft_wrap=True)
    return 0
