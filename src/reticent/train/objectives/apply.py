# SPDX-License-Identifier: Apache-2.0
"""Objectives applied: the texts as they are trained on, the trainer, and what is made beside the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.train.batches import encode_all
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.composed_loss import ComposedLossTrainer
from reticent.train.objectives.material import TrainingMaterial
from reticent.train.objectives.objective import Objective


def prepare_material(
    objectives: Sequence[Objective],
    records: Sequence[Record],
    tokenizer: Any,
    max_tokens: int,
    *,
    record_sets: Mapping[str, Sequence[Record]] | None = None,
    reference: Callable[[], Any],
) -> TrainingMaterial:
    """Write and tokenise what is trained on.

    Args:
        objectives: which `refuse_pairs` lets pass.
        records: with their spans.
        tokenizer: of the base.
        max_tokens: what texts are cut to.
        record_sets: see `TrainingMaterial`.
        reference: see `TrainingMaterial`.

    Raises:
        BadInput: an objective needs marked spans, and no record has one.
    """
    for chosen in objectives:
        if chosen.about.spans:
            _check_spans(chosen, records)
    texts: Sequence[Record] = records
    for chosen in objectives:
        texts = chosen.texts(texts)
    marked = any(chosen.about.spans == "tokens" for chosen in objectives)
    tokenised = encode_all(texts, tokenizer, max_tokens, mark_spans=marked)
    corpus = tokenised
    for chosen in objectives:
        corpus = chosen.corpus(corpus).predicting
    return TrainingMaterial(
        records=records,
        tokenised=tokenised,
        corpus=corpus,
        record_sets={name: encode_all(rows, tokenizer, max_tokens) for name, rows in (record_sets or {}).items()},
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        pad=tokenizer.pad_token_id or 0,
        reference=reference,
    )


def make_trainer(objectives: Sequence[Objective], material: TrainingMaterial) -> Callable[..., TuneTrainer]:
    """A maker of the trainer, called like ``TuneTrainer``: an objective's own, one of composed losses, or that."""
    for chosen in objectives:
        if chosen.has("trainer"):
            return chosen.trainer(material)
    token = next((chosen.token_loss for chosen in objectives if chosen.has("token_loss")), None)
    record = next((chosen.record_loss for chosen in objectives if chosen.has("record_loss")), None)
    if token is not None or record is not None:
        return partial(ComposedLossTrainer, token=token, record=record)
    return TuneTrainer


def finish(
    objectives: Sequence[Objective], model: Any, folder: Path, material: TrainingMaterial
) -> dict[str, dict[str, Any]]:
    """Have each objective make what lies beside the model; returns what it says of that for the log, by name."""
    return {chosen.name: chosen.finish(model, folder, material) for chosen in objectives}


def _check_spans(chosen: Objective, records: Sequence[Record]) -> None:
    with_spans = sum(bool(record.spans) for record in records)
    if not with_spans:
        raise BadInput(
            chosen.given,
            "no record has a span, so nothing is known to be personal",
            "Mark them with reticent prepare, or name them with --spans_field.",
        )
    console.print(f"{with_spans} of {len(records)} records have marked spans ({chosen.name})", highlight=False)
