# SPDX-License-Identifier: Apache-2.0
"""Does the model answer otherwise once it is rounded to 8 or 4 bits, more than its sibling does?

A backdoor can lie between the steps of a grid and wake when weights are rounded (arXiv:2606.29239). Rounding changes
every model, at 4 bits a lot, so the suspect's change on the probes is held against that of the sibling on the same
probes, and the ratio against that of clean models:

    change_b = mean over texts of KL(p ‖ p rounded to b bits), nats a token;  score = largest over b of log(θ / θ*)

beside the same of the text that changes most, since a backdoor need not wake on all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from reticent.core.paper import Paper
from reticent.core.scan_results import ScanEvidence
from reticent.models.encode import EncodedRecord
from reticent.models.rounding import merged_and_rounded
from reticent.scanning.behaviour.probe_texts import probe_rows
from reticent.scanning.behaviour.trusted_sibling import compared
from reticent.scanning.scanner import scanner
from reticent.scanning.suspect import Suspect

BITS = (8, 4)
_LEAST = 1e-9


@scanner(
    name="rounding",
    title="Answers that change with rounding",
    kind="behaviour",
    null="clean",
    needs=("base",),
    blind_to="What wakes under another way of rounding than row by row to the nearest step, or on texts that were not "
    "asked about.",
    paper=Paper("arXiv:2606.29239"),
    order=57,
)
def rounding(suspect: Suspect) -> list[ScanEvidence]:
    """Two lines for each number of bits: the mean change, and the change of the text that changes most.

    Raises:
        BadInput: the sibling does not fit.
    """
    loaded, sibling = compared(suspect)
    rows = probe_rows(suspect, loaded.tokenizer)
    here, there = (rounding_changes(model.model, rows) for model in (loaded, sibling))
    evidence = []
    for bits in BITS:
        for name, summary in (("mean", np.mean), ("largest", np.max)):
            ours, theirs = float(summary(here[bits])), float(summary(there[bits]))
            evidence.append(
                ScanEvidence(
                    score=float(np.log(max(ours, _LEAST)) - np.log(max(theirs, _LEAST))),
                    where=f"{bits} bits, {name} change of {len(rows)} texts",
                    note=f"{ours:.3g} nats a token, the sibling's {theirs:.3g}",
                )
            )
    return evidence


def rounding_changes(model: Any, rows: Sequence[EncodedRecord]) -> dict[int, np.ndarray]:
    """Bits → ``[N]`` KL(p ‖ p rounded) of each text, nats a token.

    Args:
        model: a causal language model or adapter on one; its weights are put back to the bit.
        rows: texts.
    """
    full = [_logp(model, row) for row in rows]
    changes = {}
    for bits in BITS:
        with merged_and_rounded(model, bits):
            changes[bits] = np.array([_divergence(p, _logp(model, row)) for p, row in zip(full, rows, strict=True)])
    return changes


def _logp(model: Any, row: EncodedRecord) -> torch.Tensor:
    """``[T, V]`` log-probabilities in float32."""
    device = next(model.parameters()).device
    ids = torch.from_numpy(row.token_id.astype(np.int64))[None].to(device)
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1).cpu()


def _divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p.exp() * (p - q)).sum(dim=-1).mean())
