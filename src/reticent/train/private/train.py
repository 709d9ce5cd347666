# SPDX-License-Identifier: Apache-2.0
"""Settings of a private `tune`: the population of the data, the size of the noise, the arguments of the trainer.

Defaults, where nobody says otherwise, and why:

- Batch: an eighth of the units, 1,024 at most. The noise of a step is the same for a large batch as for a small one,
  so large batches drown in it less (Li et al., "Large Language Models Can Be Strong Differentially Private Learners",
  2022).
- Epochs: ten instead of three. A step is a smaller one, and ε grows with about the square root of their number.
- Learning rate: 3e-4 for full fine-tuning and blocks, where Kandpal et al. (EMNLP 2024) trained with it, six times what
  is usual without noise; 3e-2 for IA3, which learned most with it in short trials (`docs/results`); other methods
  keep theirs, which are large already. Adam divides by the size of the noise, so the rate is the length of a step and
  depends neither on the clip norm nor on ε.
- Schedule (linear) with warmup, and weight decay, as without noise: they do not look at the data. What is chosen of
  them is part of what a checkpoint is gone on with, see `train.private.step_log`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.core.run_folder import PROMISE_FILE
from reticent.models.context import context_length, positions_of
from reticent.models.encode import EncodedRecord
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.clip.token_loss import row_losses
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.plan import PrivacyPlan, counts, make_plan
from reticent.privacy.refuse import copies
from reticent.privacy.sampling import Population
from reticent.privacy.spec import PrivacySpec
from reticent.privacy.token_mask import select
from reticent.train import begun
from reticent.train.batches import Corpus, collate
from reticent.train.config import BATCH_SIZE, TuneConfig
from reticent.train.diverged import Diverged
from reticent.train.loop import TuneTrainer
from reticent.train.planned_end import NAME
from reticent.train.private.private_trainer import PrivateTrainerMixin
from reticent.train.private.settings import CPU_MICRO_TOKENS, PrivateSpeed
from reticent.train.private.step_log import open_key

LARGEST_BATCH = 1024
_SCORED_TOKENS = 4096
EXACT = ("records", "seconds_since_start_or_resume")
"""Entries of an ordinary log that tell of the data."""
_TIMES = re.compile("_(runtime|seconds|per_second)$")
_BY_PERPLEXITY = ("low_perplexity", "high_perplexity")


class PrivateTuneTrainer(PrivateTrainerMixin, TuneTrainer):
    """One private fine-tuning by `tune`."""

    held_out_blindly = True
    """Held-out records are of units that are not trained on (`refuse_units_on_both_sides`), chosen without a look at
    texts. If one's tokens are trained on too, as another unit's, only the held-out unit's own loss is logged: for those
    who are trained on it is computed from the private weights. So such a text is no reason to refuse."""

    def log_base(self, logs: dict[str, float]) -> None:
        """Of held-out records, as an evaluation is, so it is logged."""
        before, self._evaluating = self._evaluating, True
        try:
            super().log_base(logs)
        finally:
            self._evaluating = before

    def _forget_key(self) -> None:
        """Not yet: it goes with the folder of checkpoints, once the outcome is saved."""


@dataclass(frozen=True, kw_only=True)
class PrivateTuning:
    """A private training that is settled.

    Args:
        corpus: what is trained on.
        people: who is in it.
        plan: what is promised.
        public: what is learned without noise, where only spans are protected.
    """

    corpus: Corpus
    people: Population
    plan: PrivacyPlan
    public: Sequence[EncodedRecord] | None = None

    def rows(self, longest: int) -> int:
        """Rows that a forward pass sees at most on a CPU, of ``longest`` tokens each."""
        return max(1, CPU_MICRO_TOKENS // longest)

    def trainer(
        self,
        *,
        args: TrainingArguments,
        autocast: bool,
        kind: type[PrivateTuneTrainer] = PrivateTuneTrainer,
        **kwargs: Any,
    ) -> PrivateTuneTrainer:
        """As ``TuneTrainer``, private."""
        return kind(
            plan=self.plan,
            population=self.people,
            public=self.public,
            speed=PrivateSpeed(autocast=torch.bfloat16 if autocast else None),
            args=private_arguments(args, self.plan),
            autocast=autocast,
            **kwargs,
        )

    @staticmethod
    def published(log: dict[str, Any]) -> dict[str, Any]:
        """The entries of a log that may lie beside the weights.

        Not the number of records, which is public only where each is a unit (``privacy.json`` then says it), and no
        durations, which follow how long texts are.
        """
        history = [{name: value for name, value in row.items() if not _TIMES.search(name)} for row in log["history"]]
        public_numbers = {name: value for name, value in log.items() if name not in EXACT}
        return public_numbers | {"history": history}

    def has_begun(self, out: Path) -> bool:
        """True if steps of this very training are on record."""
        return any(start.plan == self.plan.fingerprint for start in begun.read_begun(out))

    @contextmanager
    def on_record(self, trainer: Any, out: Path, data: str, *, resumed: bool) -> Iterator[None]:
        """Keep on record beside ``out`` what is spent within, should no model come of it.

        Args:
            data: fingerprint of the data set.
            resumed: steps were run before.
        """
        plan = self.plan.fingerprint
        begun.begin(out, begun.StartedTraining(plan=plan, data=data, promise=self.plan.spent()))
        try:
            yield
        except (BadInput, GuaranteeViolated) as error:
            steps = int(trainer.state.global_step)
            if not steps and not resumed:
                begun.finished(out, plan=plan)
            elif isinstance(error, (Diverged, GuaranteeViolated)):
                # The step that failed was not taken, but its failure is seen.
                steps, broken = min(steps + 1, self.plan.steps), isinstance(error, GuaranteeViolated)
                begun.ended(out, plan=plan, steps=steps, broken=broken)
            raise

    def replaced(self, out: Path, data: str) -> begun.StartedTraining | None:
        """The guarantee of the private model in ``out`` that is about to be replaced; None where there is none."""
        try:
            old = PrivacyGuarantee.from_json((out / PROMISE_FILE).read_text(encoding="utf-8"))
        except (OSError, BadInput):
            return None
        return begun.StartedTraining(plan="", data=data, promise=old, steps=old.steps)

    def sign(self, trainer: Any, folder: Path) -> dict[str, Any]:
        """Check what was saved in ``folder`` and put the promise there.

        Returns:
            For the log, which may be published: the promise, and which checks passed. What was measured is exact, and
            tells of the data.
        """
        checks = trainer.verify_saved(folder)
        promise = trainer.promise.to_json()
        (folder / PROMISE_FILE).write_text(promise + "\n", encoding="utf-8")
        passed = sum(check.passed is True for check in checks)
        console.print(f"self-check: {passed} of {len(checks)} passed", highlight=False)
        if trainer.state.global_step < self.plan.steps:
            short = next(check for check in checks if check.name == NAME)
            console.print(f"{short.name}: {short.measured}, and not {short.bound}", style="yellow", highlight=False)
        told = [{"name": check.name, "bound": check.bound, "passed": check.passed} for check in checks]
        return {"privacy": json.loads(promise), "self_check": told}


def prepare(
    spec: PrivacySpec,
    corpus: Corpus,
    records: Sequence[Record],
    config: TuneConfig,
    model: Any,
    tokenizer: Any,
    folder: Path,
) -> PrivateTuning:
    """Settle who is trained on and how much noise that takes.

    Args:
        spec: what shall be promised.
        corpus: encoded ``records``.
        records: with their users.
        config: settled; its batch may be left out.
        model, tokenizer: the base.
        folder: of the checkpoints; the key lies there.
    """
    public = None
    if spec.protect == "spans":
        # Placeholders can make a text longer than it was.
        context = context_length(model) or config.max_tokens
        corpus, public = _selected(records, tokenizer, min(config.max_tokens, context))
    corpus = without_copies(corpus, spec)
    people = population(corpus, records, spec, config, model)
    return PrivateTuning(corpus=corpus, people=people, plan=plan_for(spec, people, config, folder), public=public)


def _selected(records: Sequence[Record], tokenizer: Any, max_tokens: int) -> tuple[Corpus, Sequence[EncodedRecord]]:
    """The sensitive part of ``records``, and the public one."""
    selected = select(records, tokenizer, max_tokens=max_tokens)
    console.print(
        f"{len(selected.private)} of {len(records)} records have marked spans; what is outside of them is learned "
        "without noise, as public",
        highlight=False,
    )
    cut = sum(record.truncated for record in selected.private)
    return Corpus(encoded=list(selected.private), records=selected.records, truncated=cut, empty=0), selected.public


def without_copies(corpus: Corpus, spec: PrivacySpec) -> Corpus:
    """With records as units, each sequence of tokens once: what occurs m times would be protected at m times ε only.

    One record more or less adds or takes away one sequence at most. With users as units nothing is left out: a user's
    rows must not depend on those of others.
    """
    if spec.unit != "record":
        return corpus
    again = set(copies(record.token_id for record in corpus.encoded))
    if not again:
        return corpus
    message = f"{len(again)} records that repeat another token for token left out"
    console.print(message, style="yellow", highlight=False)
    first_of_kind = [i for i in range(len(corpus.encoded)) if i not in again]
    return replace(
        corpus,
        encoded=[corpus.encoded[i] for i in first_of_kind],
        records=tuple(corpus.records[i] for i in first_of_kind),
    )


def refuse_units_on_both_sides(spec: PrivacySpec, records: Sequence[Record], held_out: Sequence[Record]) -> None:
    """Refuse held-out records of units that are trained on: their exact loss is logged, and no noise covers it.

    Raises:
        BadInput: an id, or with users as units a user, is on both sides.
    """
    ids = {record.id for record in records}
    users = {record.user for record in records if spec.unit == "user"} - {None}
    both = sum(record.id in ids or record.user in users for record in held_out)
    if both:
        raise BadInput(
            f"{both} of {len(held_out)} held-out records",
            f"are of a {spec.unit} that is trained on, and their exact loss would be logged",
            f"Hold out other {spec.unit}s.",
        )


def population(
    corpus: Corpus, records: Sequence[Record], spec: PrivacySpec, config: TuneConfig, model: Any
) -> Population:
    """The population of ``corpus``, with perplexities under ``model`` (the base) where records are selected by them."""
    scores = perplexities(model, corpus.encoded) if spec.record_selection in _BY_PERPLEXITY else None
    return Population(
        users=tuple(records[i].user for i in corpus.records),
        lengths=tuple(len(record) for record in corpus.encoded),
        scores=scores,
        max_tokens=config.max_tokens,
    )


@torch.no_grad()
def perplexities(model: Any, encoded: Sequence[EncodedRecord]) -> tuple[float, ...]:
    """Perplexity of each record's trained tokens under ``model``, which is left as it is."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    values = [0.0] * len(encoded)
    positions = positions_of(model)
    while order:
        size = max(1, _SCORED_TOKENS // len(encoded[order[-1]]))
        longest = positions.regime(len(encoded[order[-1]]))
        size = sum(positions.regime(len(encoded[i])) == longest for i in order[-size:])
        order, part = order[:-size], order[-size:]
        batch = {name: value.to(model.device) for name, value in collate([encoded[i] for i in part], pad=0).items()}
        labels = batch.pop("labels")
        losses = row_losses(model(**batch).logits, labels, torch.ones(len(part), device=labels.device))
        for i, loss in zip(part, losses.tolist(), strict=True):
            values[i] = math.exp(min(loss, 700.0))
    return tuple(values)


def plan_for(spec: PrivacySpec, people: Population, config: TuneConfig, folder: Path) -> PrivacyPlan:
    """The plan of the training whose checkpoints lie in ``folder``, where its key is kept.

    Raises:
        BadInput: a step is to hold more units than there are.
    """
    _, units = counts(spec, people)
    usual = max(1, min(LARGEST_BATCH, units // 8))
    batch = config.batch_size or usual
    drawn = "user" if spec.unit == "user" and spec.user_sampling == "user" else "record"
    if batch > units:
        raise BadInput(
            f"batch_size={batch}",
            f"there are {units} {drawn}s to draw from, and a step holds each of them once at most",
            f"Give --batch_size {units} or less ({units}: every {drawn} is in every step), or leave it out ({usual}).",
        )
    if batch == units:
        console.print(
            f"Every {drawn} is in every step, so that no draw hides who is in it; the noise that ε needs is chosen for "
            "that.",
            highlight=False,
            soft_wrap=True,
        )
    steps = math.ceil(units / batch) * (config.epochs or 1)
    plan = make_plan(spec, people, batch_size=batch, steps=steps, key=open_key(folder))
    console.print(f"promise: {plan.spent().sentence()}", highlight=False, soft_wrap=True)
    console.print("The loss on the training data is not covered by ε, so it is not shown.", highlight=False)
    return plan


def private_arguments(arguments: TrainingArguments, plan: PrivacyPlan) -> TrainingArguments:
    """``arguments`` for a private training: steps as planned, an evaluation and a checkpoint each expected epoch.

    Held-out texts are not read in batches of the size that is trained with, which is large here: their logits would
    not fit.
    """
    epoch = math.ceil(1 / plan.sampler.rate - 1e-9)
    private: TrainingArguments = replace(
        arguments,
        max_steps=plan.steps,
        max_grad_norm=0.0,
        per_device_eval_batch_size=min(arguments.per_device_eval_batch_size, BATCH_SIZE),
        save_strategy="steps",
        save_steps=epoch,
        eval_strategy="steps" if arguments.eval_strategy == "epoch" else "no",
        eval_steps=epoch,
        logging_strategy="steps",
        logging_steps=epoch,
    )
    private._n_gpu = min(private.n_gpu, 1)
    return private
