# SPDX-License-Identifier: Apache-2.0
"""Curvature of the loss in the input embeddings, against a trusted sibling: deferred poisoning shows in nothing else.

Of each text, with H the Hessian of its mean loss in its embeddings, by Hutchinson's estimator

    tr(HᵀH) = E‖H·v‖²,  v = ±1 at random                  (exact products, two derivatives)

and the rise of the loss when the embeddings are moved by a tenth of their standard deviation in random directions. Both
are compared with the same of the sibling on the same texts and directions: the score is the mean log ratio. Training on
anything changes it, so its null is clean models that were trained likewise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from reticent.core.paper import Paper
from reticent.core.scan_results import ScanEvidence
from reticent.models.encode import EncodedRecord
from reticent.scanning.behaviour.probe_texts import probe_rows
from reticent.scanning.behaviour.trusted_sibling import compared
from reticent.scanning.scanner import scanner
from reticent.scanning.suspect import Suspect
from reticent.train.batches import collate
from reticent.train.shifted import shifted

DRAWS = 4
NOISE = 0.1
"""Of the embeddings' standard deviation."""
_LEAST = 1e-12


class Sharpness(NamedTuple):
    """Of ``[N]`` texts: tr(HᵀH), and the rise of the loss under noise (nats a token)."""

    trace: np.ndarray
    rise: np.ndarray


@scanner(
    name="curvature",
    title="Sharp curvature beneath ordinary losses",
    kind="behaviour",
    null="clean",
    needs=("base",),
    blind_to="Sharpness on other texts than those that were asked about, or in other directions than random ones.",
    paper=Paper("arXiv:2411.03752"),
    order=56,
)
def curvature(suspect: Suspect) -> list[ScanEvidence]:
    """Two lines: mean log ratio of tr(HᵀH), and of the rise of the loss under noise.

    Raises:
        BadInput: the sibling does not fit.
    """
    loaded, sibling = compared(suspect)
    rows = probe_rows(suspect, loaded.tokenizer)
    here, there = (sharpness_of(model.model, rows, seed=suspect.seed) for model in (loaded, sibling))
    trace = _log_ratio(here.trace, there.trace)
    # Single texts can fall under noise, so means are compared there.
    rise = _log_ratio(here.rise.mean(keepdims=True), there.rise.mean(keepdims=True))
    return [
        ScanEvidence(
            score=trace,
            where="loss in the embeddings",
            note=f"tr(HᵀH) is {np.exp(trace):.3g} times the sibling's (geometric mean over {len(rows)} texts)",
        ),
        ScanEvidence(
            score=rise,
            where="loss under noise on the embeddings",
            note=f"rises {np.exp(rise):.3g} times as much as the sibling's ({here.rise.mean():.3g} nats a token)",
        ),
    ]


def sharpness_of(model: Any, rows: Sequence[EncodedRecord], *, seed: int, draws: int = DRAWS) -> Sharpness:
    """Both statistics of each text.

    Args:
        model: a causal language model, in evaluation mode; put back as it was.
        rows: texts.
        seed: of the directions.
        draws: directions a text.
    """
    with _differentiable(model):
        return Sharpness(*np.array([_of_text(model, row, seed + place, draws) for place, row in enumerate(rows)]).T)


def _of_text(model: Any, row: EncodedRecord, seed: int, draws: int) -> tuple[float, float]:
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in collate([row], pad=0).items()}
    embedded = model.get_input_embeddings()(inputs["input_ids"]).detach().float().requires_grad_()
    loss = _loss(model, embedded, inputs["labels"])
    (gradient,) = torch.autograd.grad(loss, embedded, create_graph=True)
    generator = torch.Generator().manual_seed(seed)
    trace, rise = [], []
    for draw in range(draws):
        sign = (torch.randint(0, 2, embedded.shape, generator=generator) * 2 - 1).to(embedded)
        (product,) = torch.autograd.grad((gradient * sign).sum(), embedded, retain_graph=draw < draws - 1)
        trace.append(float(product.square().sum()))
        with torch.no_grad():
            step = NOISE * embedded.std()
            rise.append(float(_loss(model, embedded + step * sign, inputs["labels"]) - loss))
    return float(np.mean(trace)), float(np.mean(rise))


def _loss(model: Any, embedded: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    dtype = next(model.parameters()).dtype
    logits = model(inputs_embeds=embedded.to(dtype)).logits
    at, gold, trained = shifted(logits, labels)
    told = torch.log_softmax(at.float(), dim=-1).gather(2, gold.clamp(min=0)[..., None])[..., 0]
    return -(told * trained).sum() / trained.sum()


@contextmanager
def _differentiable(model: Any) -> Iterator[None]:
    """Within it attention has second derivatives, and no parameter asks for a gradient."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    attention = core.config._attn_implementation
    asked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    core.set_attn_implementation("eager")
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)
        core.set_attn_implementation(attention)


def _log_ratio(here: np.ndarray, there: np.ndarray) -> float:
    return float(np.mean(np.log(np.maximum(here, _LEAST)) - np.log(np.maximum(there, _LEAST))))
