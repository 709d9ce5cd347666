# SPDX-License-Identifier: Apache-2.0
"""Unlikelihood of personal words and pairs of words (PrivacyMind, section 3.2; Welleck et al., "Neural Text Generation
with Unlikelihood Training", ICLR 2020).

With Γ₁ the distinct tokens in a record's spans and Γ₂ the pairs of neighbouring ones, a record's loss is

    L₀ + w · (L_UP + L_BP)
    L_UP = - Σ_t Σ_{γ ∈ Γ₁} log(1 - p(γ | x_<t))
    L_BP = - Σ_t Σ_{(γ₁, γ₂) ∈ Γ₂} log(1 - p(γ₁ | x_<t) · p(γ₂ | x_<t, γ₁))

over the trained tokens. Three things are fixed here that the formulas leave open:

- L₀, the cross-entropy, is over tokens outside of spans. On a token in a span both terms together would be
  -log p(1 - p), which is least at p = 1/2: it would be told every other time.
- Where a token of Γ₁ is itself the one to be learned (a comma in an address, a comma elsewhere), it is not held
  against the model.
- p(γ₂ | x_<t, γ₁) can be had from the same pass only where the text goes on with γ₁, so L_BP is over the places in
  spans at which the pair stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from reticent.core import validate
from reticent.models.encode import EncodedRecord
from reticent.train.batches import collate
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.material import TrainingMaterial
from reticent.train.objectives.objective import Objective, objective
from reticent.train.shifted import shifted

_CERTAIN = -1e-7
"""Log-probability that stands for 0, so that log(1 - p) is finite."""


@objective("unlikelihood", alters={"loss"}, spans="tokens", flag="contextual='unlikelihood'", paper="arXiv:2310.02469")
@dataclass(frozen=True, kw_only=True)
class Unlikelihood(Objective):
    """The text in marked spans is made unlikely, and the rest is learned.

    Args:
        weight: of the two terms beside the cross-entropy.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        validate.positive(contextual_weight=self.weight)

    def trainer(self, material: TrainingMaterial) -> Callable[..., TuneTrainer]:
        """See `UnlikelihoodTrainer`."""
        return partial(UnlikelihoodTrainer, weight=self.weight)


class UnlikelihoodTrainer(TuneTrainer):
    """One fine-tuning with unlikelihood on marked tokens.

    Args:
        weight: of the two terms.
        encoded: with ``marked``.
    """

    def __init__(self, *, weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = weight
        self.data_collator = self._collate

    def _collate(self, batch: Sequence[EncodedRecord]) -> dict[str, torch.Tensor]:
        return collate(batch, pad=self.pad) | {"marked": marks(batch)}

    def batch_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """See `unlikelihood`."""
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        return unlikelihood(logits, inputs["input_ids"], inputs["labels"], inputs["marked"], weight=self.weight)


def marks(batch: Sequence[EncodedRecord]) -> torch.Tensor:
    """``[B, T]`` bool: which tokens of the padded batch lie in a span."""
    mask = np.zeros((len(batch), max(map(len, batch))), dtype=np.bool_)
    for row, record in enumerate(batch):
        assert record.marked is not None
        mask[row, : len(record)] = record.marked
    return torch.from_numpy(mask)


def unlikelihood(
    logits: torch.Tensor, token_id: torch.Tensor, labels: torch.Tensor, marked: torch.Tensor, *, weight: float
) -> torch.Tensor:
    """``(L₀ + weight · (L_UP + L_BP)) / trained tokens of the batch``, in nats a token.

    Args:
        logits: ``[B, S, V]``.
        token_id: ``[B, T]``.
        labels: ``[B, T]``, ``IGNORED`` where not trained on.
        marked: ``[B, T]`` bool, tokens in spans, those of prompts and the like included.
        weight: w.
    """
    at, gold, trained = shifted(logits, labels)
    logp = torch.log_softmax(at.float(), dim=-1)
    personal = marked[:, 1:] & trained
    told = logp.gather(2, gold.clamp(min=0)[..., None])[..., 0]
    cross_entropy = -(told * (trained & ~personal)).sum()
    single = _single(logp, gold, trained, personal, token_id, marked)
    both = personal[:, :-1] & personal[:, 1:]
    pair = -(_log_of_rest(told[:, :-1] + told[:, 1:]) * both).sum()
    total: torch.Tensor = cross_entropy + weight * (single + pair)
    return total / trained.sum().clamp(min=1)


def _single(
    logp: torch.Tensor,
    gold: torch.Tensor,
    trained: torch.Tensor,
    personal: torch.Tensor,
    token_id: torch.Tensor,
    marked: torch.Tensor,
) -> torch.Tensor:
    sets = [torch.unique(ids[mark]) for ids, mark in zip(token_id, marked, strict=True)]
    width = max(map(len, sets))
    if not width:
        return logp.new_zeros(())
    gamma = token_id.new_full((len(sets), width), -1)
    for row, ids in enumerate(sets):
        gamma[row, : len(ids)] = ids
    places = gamma[:, None, :].expand(-1, logp.shape[1], -1)
    rest = _log_of_rest(logp.gather(2, places.clamp(min=0)))
    to_be_learned = (places == gold[..., None]) & ~personal[..., None]
    counted = (places >= 0) & trained[..., None] & ~to_be_learned
    return -(rest * counted).sum()


def _log_of_rest(logp: torch.Tensor) -> torch.Tensor:
    """``log(1 - exp(logp))``, exact near both ends."""
    logp = logp.clamp(max=_CERTAIN)
    likely = logp > -0.6931
    return torch.where(
        likely,
        torch.log(-torch.expm1(torch.where(likely, logp, -1.0))),
        torch.log1p(-torch.exp(torch.where(likely, -1.0, logp))),
    )
