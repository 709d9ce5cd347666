# SPDX-License-Identifier: Apache-2.0
"""A training that goes on from a tuned model to forget some of its texts: one term for those, one for the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers import TrainingArguments

from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.models.in_memory import evaluating
from reticent.train.batches import collate
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.dpo import sequence_logp
from reticent.train.shifted import shifted
from reticent.train.unlearning.block_output import BlockOutput
from reticent.train.unlearning.fisher_lora import put_on
from reticent.train.unlearning.forget_row import ForgetRow, collate_rows, drawn
from reticent.train.unlearning.method import Unlearner
from reticent.train.unlearning.reference_weights import ReferenceWeights
from reticent.train.unlearning.retain import RETAIN_TERMS
from reticent.train.unlearning.retain_weight import RetainWeight
from reticent.train.unlearning.rows import Rows
from reticent.train.unlearning.token_gain import narrowed

_BATCH = 8
PER_STEP = frozenset({"reference_logits", "reference_hidden"})
"""Needs for which the model before unlearning is asked in each step. A number a row is asked for once."""


class UnlearnTrainer(TuneTrainer):
    """One unlearning.

    Each step takes a batch of texts to be forgotten, and as many others, drawn with replacement; a batch of others is
    never smaller than the batch size, so that one person's few texts do not leave them to chance.

    Args:
        model: tuned, with the weights marked that are trained. Where the method trains an adapter in their place, the
            model is changed, and the adapter merged into it in the end.
        encoded: texts to be forgotten.
        alternatives: gives ``[len(encoded)]`` texts to be said in their place, from the model before unlearning; None
            where the method knows none.
        retain: texts that are to be known as before.
        unseen, base: texts that were never trained on, and a function that loads the model before tuning: by these it
            is found out which tokens were learned.
        token_quantile: forget only tokens that gained more than this share of those of ``unseen``; None for all, or for
            what the method says.
        method: the loss of the texts to be forgotten, and what stands beside it.
        params: its settings.
        forget_weight, retain_weight: γ and α.
    """

    def __init__(
        self,
        *,
        model: Any,
        args: TrainingArguments,
        pad: int,
        autocast: bool,
        encoded: Sequence[EncodedRecord],
        alternatives: Callable[[Any], Sequence[EncodedRecord]] | None = None,
        retain: Sequence[EncodedRecord],
        unseen: Sequence[EncodedRecord] = (),
        base: Callable[[], Any] | None = None,
        token_quantile: float | None = None,
        method: Unlearner,
        params: Mapping[str, Any],
        forget_weight: float,
        retain_weight: float,
        **kwargs: Any,
    ) -> None:
        tail, start = method.part("tail", params), method.part("start", params)
        quantile = token_quantile if tail is None else tail.tail_quantile
        if quantile is not None:
            assert base is not None
            with evaluating(model):
                encoded = narrowed(encoded, unseen, model, base(), quantile=quantile)
        if start is not None:
            model = put_on(model, start, forget=encoded, retain=retain, args=args, pad=pad, autocast=autocast)
        super().__init__(model=model, args=args, pad=pad, autocast=autocast, encoded=encoded, **kwargs)
        self.method, self.params, self.retain = method, dict(params), retain
        self.merges = start is not None
        self.forget_weight = forget_weight
        self.retain_term = RETAIN_TERMS[method.retain] if retain_weight or method.dual else None
        self.retain_weight = RetainWeight(start=retain_weight, dual=method.part("dual", params))
        needs = {*method.needs, *(self.retain_term.needs if self.retain_term is not None else ())}
        self.reference = ReferenceWeights(self.model) if needs & PER_STEP else None
        hidden = method.part("hidden", params)
        self.block = BlockOutput(self.model, hidden.layer) if hidden is not None else None
        if hidden is not None:
            self._refuse_unmoved(encoded[0], hidden.layer)
        with evaluating(self.model):
            others = list(alternatives(self.model)) if alternatives is not None else None
            self.train_dataset: Any = self._rows(encoded, others)
        self.data_collator: Any = partial(collate_rows, pad=self.pad)
        if self.retain_weight.dual is not None:
            self.add_callback(self.retain_weight)

    def batch_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """γ times the loss of the texts to be forgotten plus α times that of the others."""
        count = int(inputs["count"])
        others = inputs.get("alternative")
        alternative = None if others is None else self._with_logp(self._seen(model, others, frozenset()), others)
        forget = self._with_logp(self._seen(model, inputs, self.method.needs), inputs)
        loss = self.forget_weight * self.method(replace(forget, alternative=alternative), **self.params)
        if self.retain_term is None:
            return loss
        kept_rows = drawn(
            self.retain, max(count, self.args.train_batch_size), seed=self.args.seed, step=self.state.global_step
        )
        batch = {name: value.to(self.args.device) for name, value in collate(kept_rows, pad=self.pad).items()}
        kept = self.retain_term(self._seen(model, batch, self.retain_term.needs))
        return loss + self.retain_weight.of(kept) * kept

    def outcome(self) -> Any:
        """The model, with what was trained in place of its weights merged into them."""
        return self.model.merge_and_unload() if self.merges else self.model

    def _refuse_unmoved(self, row: EncodedRecord, layer: int) -> None:
        """Refuse a block whose output no trained weight acts on: any where the output matrix alone is trained."""
        batch = {name: value.to(self.args.device) for name, value in collate([row], pad=self.pad).items()}
        with evaluating(self.model), torch.enable_grad():
            hidden = self._asked(self.model, batch)["hidden"]
        if not hidden.requires_grad:
            raise BadInput(
                f"method={self.method.name!r} with layer={layer}",
                "no weight that this run trains acts on the output of that block, so it cannot be moved",
                "Give the number of a later block (--method_params), or choose npo.",
            )

    def _seen(self, model: Any, batch: Mapping[str, Any], needs: Collection[str]) -> Rows:
        """The rows of a batch as the model answers, and as it did before where that is needed."""
        before: dict[str, torch.Tensor] = {}
        if PER_STEP.intersection(needs):
            assert self.reference is not None
            with self.reference.in_place():
                before = self._asked(model, batch)
        after = self._asked(model, batch)
        rows = shifted(after["logits"], batch["labels"])
        there: dict[str, Any] = {"logits": rows.logits, "gold": rows.gold.clamp(min=0), "trained": rows.trained}
        if "reference_logits" in needs:
            there["reference_logits"] = shifted(before["logits"], batch["labels"]).logits
        if "hidden" in needs:
            there["hidden"] = shifted(after["hidden"], batch["labels"]).logits
        if "reference_hidden" in needs:
            there["reference_hidden"] = shifted(before["hidden"], batch["labels"]).logits
        return Rows(**there)

    def _with_logp(self, rows: Rows, batch: Mapping[str, Any]) -> Rows:
        """The rows with what the model before unlearning held them for, where the method asks for that."""
        return replace(rows, reference_logp=batch["reference_logp"]) if "reference_logp" in self.method.needs else rows

    def _asked(self, model: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Logits, and the output of the block that is read, if one is."""
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return {"logits": logits} | ({"hidden": self.block.last} if self.block is not None else {})

    def _rows(self, encoded: Sequence[EncodedRecord], alternatives: Sequence[EncodedRecord] | None) -> list[ForgetRow]:
        others: Sequence[EncodedRecord | None] = alternatives or [None] * len(encoded)
        if "reference_logp" not in self.method.needs:
            return [ForgetRow(forget=row, alternative=other) for row, other in zip(encoded, others, strict=True)]
        logp = self._logp(encoded)
        other_logp = self._logp(alternatives) if alternatives else [float("nan")] * len(encoded)
        return [
            ForgetRow(forget=row, alternative=other, forget_logp=before, alternative_logp=other_before)
            for row, other, before, other_before in zip(encoded, others, logp, other_logp, strict=True)
        ]

    @torch.no_grad()
    def _logp(self, texts: Sequence[EncodedRecord]) -> list[float]:
        """Summed log-probability (nats) of the trained tokens of each text under the model before unlearning."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        logps = [0.0] * len(texts)
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            batch = collate([texts[place] for place in part], pad=self.pad)
            batch = {name: value.to(self.args.device) for name, value in batch.items()}
            labels = batch.pop("labels")
            with self.computing():
                logits = self.model(**batch).logits
            for place, value in zip(part, sequence_logp(logits, labels).tolist(), strict=True):
                logps[place] = value
        return logps
