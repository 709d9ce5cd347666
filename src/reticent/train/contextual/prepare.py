# SPDX-License-Identifier: Apache-2.0
"""A `ContextualConfig` carried out: what is trained on, by which trainer, and what is made beside the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.models.encode import EncodedRecord, encode
from reticent.train.batches import Corpus, encode_all
from reticent.train.contextual.config import ContextualConfig
from reticent.train.contextual.curation import removal, substitution
from reticent.train.contextual.dpo import DpoTrainer
from reticent.train.contextual.instruction_pairs import instruction_pair
from reticent.train.contextual.token_classifier import fit_classifier
from reticent.train.contextual.unlikelihood import UnlikelihoodTrainer
from reticent.train.loop import TuneTrainer

_REWRITTEN: dict[str, Callable[[Record], Record]] = {
    "removal": removal,
    "substitution": substitution,
    "dpo": substitution,
    "instruct_pn": partial(instruction_pair, order="pn"),
    "instruct_np": partial(instruction_pair, order="np"),
}
"""Methods that train on other texts than those given."""
_MARKED = ("unlikelihood", "classifier")
"""Methods that need to know which tokens lie in spans."""


@dataclass(frozen=True, kw_only=True)
class ContextualTraining:
    """A contextual training that is settled.

    Args:
        config: what was asked for.
        corpus: what is trained on.
        make_trainer: called like ``TuneTrainer``; None where the loss is nothing special.
    """

    config: ContextualConfig
    corpus: Corpus
    make_trainer: Callable[..., TuneTrainer] | None = None

    def finish(self, model: Any, folder: Path, *, pad: int) -> dict[str, Any]:
        """Make what lies beside the model in ``folder``; returns what the log says of the method."""
        said: dict[str, Any] = dict(self.config.changed)
        if self.config.contextual == "classifier":
            fitted = fit_classifier(model, self.corpus.encoded, pad=pad)
            fitted.classifier.save(folder)
            said |= {"left_out_recall": fitted.recall, "left_out_precision": fitted.precision}
        return said


def prepare(config: ContextualConfig, records: Sequence[Record], tokenizer: Any, max_tokens: int) -> ContextualTraining:
    """Settle what is trained on.

    Raises:
        BadInput: no record has a span.
    """
    assert config.contextual is not None
    with_spans = sum(bool(record.spans) for record in records)
    if not with_spans:
        raise BadInput(
            f"contextual={config.contextual!r}",
            "no record has a span, so nothing is known to be personal",
            "Mark them with reticent prepare, or name them with --spans_field.",
        )
    console.print(f"{with_spans} of {len(records)} records have marked spans ({config.contextual})", highlight=False)
    rewrite = _REWRITTEN.get(config.contextual)
    texts = [rewrite(record) for record in records] if rewrite else records
    corpus = encode_all(texts, tokenizer, max_tokens, mark_spans=config.contextual in _MARKED)
    if config.contextual == "unlikelihood":
        make: Any = partial(UnlikelihoodTrainer, weight=config.contextual_weight)
        return ContextualTraining(config=config, corpus=corpus, make_trainer=make)
    if config.contextual == "dpo":
        rejected = [_rejected(records[i], tokenizer, max_tokens) for i in corpus.records]
        make = partial(DpoTrainer, rejected=rejected, weight=config.contextual_weight, beta=config.dpo_beta)
        return ContextualTraining(config=config, corpus=corpus, make_trainer=make)
    return ContextualTraining(config=config, corpus=corpus)


def _rejected(record: Record, tokenizer: Any, max_tokens: int) -> EncodedRecord | None:
    if not record.spans:
        return None
    found = encode(record, tokenizer, max_tokens=max_tokens, add_eos=True)
    return found if found.predicted else None
