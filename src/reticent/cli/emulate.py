# SPDX-License-Identifier: Apache-2.0
"""`reticent emulate`: a large model steered by what a small one learned."""

from __future__ import annotations

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.models.emulation import EmulationConfig


def command(
    *,
    large: str | None = None,
    small_tuned: str | None = None,
    small_base: str | None = None,
    out: str = "runs/emulated",
    device: str = "auto",
    emulation_config: EmulationConfig,
) -> int:
    """Steer a large model by the difference between a small tuned model and its base.

    Only the small model sees the private text. Writes a folder that names the three models and holds no weights; audit,
    and every verb that takes a model, takes it by that folder: `reticent audit FOLDER --out RUN` where the small model
    is from a run of `reticent tune`. Where the small one was tuned under differential privacy, the ensemble keeps that
    promise, and the folder says it.

    Args:
        large: the model to steer: a folder, a hub id, or a catalogue name. It must not have seen the private text.
        small_tuned: a run folder of `reticent tune`, or a tuned model's folder; its tokenizer must be the large one's.
        small_base: what the small model was tuned from; left out, the base that it names.
        out: the folder to make.
        device: auto, cpu, cuda or cuda:N; where the models are tried.
    """
    from reticent.workflows.emulate import emulate

    if large is None or small_tuned is None:
        missing = "--large" if large is None else "--small_tuned"
        raise BadInput(
            f"reticent emulate without {missing}",
            "an ensemble needs a large model and a small tuned one",
            "Give --large MODEL --small_tuned RUN.",
        )
    info = emulate(large, small_tuned, out=out, small_base=small_base, config=emulation_config, device=device)
    console.print(info.statement, highlight=False, markup=False, soft_wrap=True)
    console.print(f"model: {out}", highlight=False, markup=False, soft_wrap=True)
    if info.run:
        console.print(f"audit: reticent audit {out} --out {out}-audit", highlight=False, markup=False, soft_wrap=True)
    return 0
