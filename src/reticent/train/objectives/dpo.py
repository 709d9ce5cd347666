# SPDX-License-Identifier: Apache-2.0
"""Direct preference for the text without personal data (Rafailov et al., "Direct Preference Optimization", NeurIPS
2023, equation 7; as a privacy method PrivacyMind, section 3.5).

Chosen is the record with its spans replaced by their kinds, rejected the record as it is. The preference alone teaches
nothing of the subject, so the cross-entropy of the chosen text is added to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from reticent.core import validate
from reticent.core.record import Record
from reticent.models import adapters
from reticent.models.encode import EncodedRecord, encode
from reticent.train.batches import collate
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.material import TrainingMaterial
from reticent.train.objectives.objective import Objective, objective
from reticent.train.objectives.substitution import substitution
from reticent.train.shifted import shifted

_BATCH = 8


@objective(
    "dpo",
    alters={"loss", "corpus.texts", "corpus.tokens"},
    spans="records",
    flag="contextual='dpo'",
    paper="arXiv:2305.18290",
)
@dataclass(frozen=True, kw_only=True)
class Dpo(Objective):
    """The text without its marked spans is preferred to the text as it is. The monitor goes on looking at the latter,
    which is trained on too, as what is to be unlearned.

    Args:
        weight: of the preference beside the cross-entropy.
        beta: how far it may lead away from the base; smaller is further.
    """

    weight: float = 1.0
    beta: float = 0.1

    def __post_init__(self) -> None:
        validate.positive(contextual_weight=self.weight, dpo_beta=self.beta)

    def texts(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those that are preferred."""
        return [substitution(record) for record in records]

    def trainer(self, material: TrainingMaterial) -> Callable[..., TuneTrainer]:
        """See `DpoTrainer`."""
        rejected = [_rejected(material.records[i], material) for i in material.corpus.records]
        return partial(DpoTrainer, rejected=rejected, weight=self.weight, beta=self.beta)


def _rejected(record: Record, material: TrainingMaterial) -> EncodedRecord | None:
    if not record.spans:
        return None
    encoded = encode(record, material.tokenizer, max_tokens=material.max_tokens, add_eos=True)
    return encoded if encoded.predicted else None


@dataclass(frozen=True, kw_only=True, eq=False)
class PreferencePair:
    """A record in two versions.

    Args:
        chosen: to be learned.
        rejected: to be unlearned; None where both are the same.
        base_chosen, base_rejected: log-probability (nats) of all trained tokens under the base.
    """

    chosen: EncodedRecord
    rejected: EncodedRecord | None
    base_chosen: float = 0.0
    base_rejected: float = 0.0

    def __len__(self) -> int:
        return max(len(self.chosen), len(self.rejected) if self.rejected is not None else 0)

    @property
    def token_id(self) -> npt.NDArray[np.int32]:
        """Of the record as it is."""
        return (self.chosen if self.rejected is None else self.rejected).token_id


class DpoTrainer(TuneTrainer):
    """One fine-tuning by preference.

    The base is the model as it is given, with its adapter switched off where it has one; it is asked once.

    Args:
        encoded: the chosen texts.
        rejected: ``[len(encoded)]``, None where the record has no span.
        weight: of the preference.
        beta: β.
    """

    def __init__(
        self,
        *,
        encoded: Sequence[EncodedRecord],
        rejected: Sequence[EncodedRecord | None],
        weight: float,
        beta: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoded=encoded, **kwargs)
        self.weight, self.beta = weight, beta
        self.train_dataset = self._pairs(encoded, rejected)
        self.data_collator = self._collate

    def batch_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Cross-entropy of the chosen (nats a token) plus the mean preference loss over the records of the batch."""
        rejected, base = inputs["rejected"], inputs["base"]
        records = len(inputs["labels"]) - len(rejected)
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        logp = sequence_logp(logits, inputs["labels"])
        tokens = (inputs["labels"][:records, 1:] >= 0).sum().clamp(min=1)
        loss: torch.Tensor = -logp[:records].sum() / tokens
        if not len(rejected):
            return loss
        preferred = dpo(logp[:records][rejected], logp[records:], base[:, 0], base[:, 1], beta=self.beta)
        return loss + self.weight * preferred.sum() / records

    def _pairs(
        self, encoded: Sequence[EncodedRecord], rejected: Sequence[EncodedRecord | None]
    ) -> list[PreferencePair]:
        with_other = [i for i, text in enumerate(rejected) if text is not None]
        texts = [encoded[i] for i in with_other] + [text for text in rejected if text is not None]
        with adapters.switched_off(self.model) if adapters.can_switch_off(self.model) else nullcontext():
            logp = self._of_base(texts)
        half = len(with_other)
        base = {i: (logp[place], logp[half + place]) for place, i in enumerate(with_other)}
        return [
            PreferencePair(chosen=text, rejected=other, base_chosen=base[i][0], base_rejected=base[i][1])
            if other is not None
            else PreferencePair(chosen=text, rejected=None)
            for i, (text, other) in enumerate(zip(encoded, rejected, strict=True))
        ]

    @torch.no_grad()
    def _of_base(self, texts: Sequence[EncodedRecord]) -> list[float]:
        was_training = self.model.training
        self.model.eval()
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        logps = [0.0] * len(texts)
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            batch = collate([texts[i] for i in part], pad=self.pad)
            batch = {name: value.to(self.args.device) for name, value in batch.items()}
            labels = batch.pop("labels")
            with self.computing():
                logits = self.model(**batch).logits
            for i, value in zip(part, sequence_logp(logits, labels).tolist(), strict=True):
                logps[i] = value
        self.model.train(was_training)
        return logps

    def _collate(self, batch: Sequence[PreferencePair]) -> dict[str, torch.Tensor]:
        """Rows of the chosen, then those of the rejected; ``rejected`` says whose they are."""
        both = [(row, pair.rejected) for row, pair in enumerate(batch) if pair.rejected is not None]
        rows = collate([*(pair.chosen for pair in batch), *(text for _, text in both)], pad=self.pad)
        base = [(batch[row].base_chosen, batch[row].base_rejected) for row, _ in both]
        rejected = torch.tensor([row for row, _ in both], dtype=torch.int64)
        return rows | {"rejected": rejected, "base": torch.tensor(base, dtype=torch.float32).view(-1, 2)}


def sequence_logp(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """``[B]`` float32: log-probability (nats) of each row's trained tokens.

    Args:
        logits: ``[B, S, V]``.
        labels: ``[B, T]``.
    """
    at, gold, trained = shifted(logits, labels)
    row = torch.arange(len(labels), device=labels.device)[:, None].expand_as(gold)[trained]
    token_logp = -F.cross_entropy(at[trained].float(), gold[trained], reduction="none")
    return token_logp.new_zeros(len(labels)).index_add(0, row, token_logp)


def dpo(
    chosen: torch.Tensor, rejected: torch.Tensor, base_chosen: torch.Tensor, base_rejected: torch.Tensor, *, beta: float
) -> torch.Tensor:
    """``-log σ(β · [(chosen - base_chosen) - (rejected - base_rejected)])``, each ``[n]`` in nats of a whole text.

    It is log 2 at the base, and lower the more the chosen text has gained on the rejected one.
    """
    return -F.logsigmoid(beta * ((chosen - base_chosen) - (rejected - base_rejected)))
