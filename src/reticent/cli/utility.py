# SPDX-License-Identifier: Apache-2.0
"""`reticent utility`: what synthetic text is worth, judged on real text that nobody learned from."""

from __future__ import annotations

from reticent.core.progress import console
from reticent.synthesis.usefulness.utility_spec import RealFiles, UtilitySpec
from reticent.train.config import TuneConfig
from reticent.workflows.inputs import DataConfig

USUAL = ("model", "out", "texts", "judged_on", "epochs", "max_tokens", "members", "held_out", "text_field")


def command(
    runs: str,
    *,
    model: str = "smollm2-135m",
    out: str = "runs/utility",
    data_config: DataConfig,
    utility_spec: UtilitySpec,
    real_files: RealFiles,
    tune_config: TuneConfig,
) -> int:
    """Say how useful synthetic texts are: a small model learns from real text, from each, from half of each.

    All are judged on real text that none was made from: loss, accuracy where records have labels, how alike the texts
    are. One picture shows usefulness against the promise against what reticent audit --synthetic found. Measured on
    private text, so no promise covers it. The same command again trains nothing twice.

    Args:
        runs: run folders of reticent synthesize (--hold_out true), separated by commas; or files of synthetic texts.
        model: the small model that learns: a folder, a hub id, or a catalogue name (reticent fetch-model).
        out: folder for utility.html and utility.json.
    """
    from reticent.auditing.case import AuditCase
    from reticent.report.utility_page import print_utility
    from reticent.workflows.inputs import given_data
    from reticent.workflows.synthesis_utility import text_utility

    places = [word.strip() for word in runs.split(",")]
    case = None
    if real_files.given:
        sides = given_data(
            data_config,
            members=real_files.members,
            held_out=real_files.held_out,
            data=None,
            membership=None,
            model=model,
        )
        case = AuditCase(title="", target="", reference=None, records=sides.records, membership=sides.membership)
    results = text_utility(places, base=model, out=out, spec=utility_spec, training=tune_config, case=case)
    print_utility(results)
    console.print(f"page: {out}/utility.html", highlight=False, markup=False, soft_wrap=True)
    return 0
