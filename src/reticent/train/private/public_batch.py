# SPDX-License-Identifier: Apache-2.0
"""The public part of a step of selective training: an ordinary gradient, of text in which spans have placeholders.

One step of selective training goes along

    (Σ clipped + noise) / expected batch · n' / n    +    gradient of the public batch

for n' records with spans and n with public text (`reticent.privacy.token_mask`). With N tokens in the public text:

- a private unit's gradient is that of the *sum* of the losses of its sensitive tokens, over N / n, the tokens of a mean
  record (a user's: the mean of that over the user's rows); clipped at the clip norm;
- the public batch's gradient is that of the sum of the losses of its tokens, over batch · N / n.

So without clipping and noise a step goes, in expectation, along the gradient of (Σ loss of public tokens + Σ loss of
sensitive tokens) / N: every token weighs the same, as in the usual mean over tokens, N being a constant of it. (With
users as units every user weighs the same.) No weight in the public part depends on what spans hold, not on their
length either. As a sensitive share of a record has a shorter gradient than a whole record, a smaller clip norm than
usual is enough, and the noise shrinks with it.

The two batches are drawn independently. The public gradient is exact, so it can tell which records are in its batch:
were they the records of the private batch, privacy amplification by sampling would be lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import nn

from reticent.core.errors import BadInput
from reticent.models.encode import IGNORED
from reticent.privacy.clip.token_loss import row_losses
from reticent.privacy.plan import PrivacyPlan
from reticent.privacy.rows import rows_of
from reticent.privacy.sampling import TokenRange, Unit, words
from reticent.train.dropout import keyed_dropout
from reticent.train.loop import Diverged
from reticent.train.private.micro_batches import MicroBatch, micro_batches, tokens_of


@dataclass(frozen=True, kw_only=True, eq=False)
class PublicBatches:
    """Batches of public text, a pure function of key and step, in shuffled passes over all of it.

    Args:
        dataset: records whose spans have placeholders, trained outside of these; all have something to train.
        private: how many records the private part is drawn from.
        rate: chance of a private unit to be in a step; a public batch is the same share of ``dataset``.
        key: 32 secret bytes.
    """

    dataset: Sequence[Any]
    private: int
    rate: float
    key: bytes = field(repr=False)

    @cached_property
    def batch(self) -> int:
        """Records in a batch."""
        return max(1, round(self.rate * len(self.dataset)))

    @cached_property
    def tokens(self) -> float:
        """Tokens that are predicted in a record, on average: N / n."""
        return sum(int((tokens_of(item).labels[1:] != IGNORED).sum()) for item in self.dataset) / len(self.dataset)

    @property
    def private_share(self) -> float:
        """The weight of the noisy mean of the private part: n' / n."""
        return self.private / len(self.dataset)

    @cached_property
    def fingerprint(self) -> str:
        """Of the public text; SHA-256 in hex, shortened."""
        digest = hashlib.sha256()
        for item in self.dataset:
            ids, labels = tokens_of(item)
            digest.update(len(ids).to_bytes(8, "little") + ids.tobytes() + labels.tobytes())
        return digest.hexdigest()[:16]

    def places(self, step: int) -> list[int]:
        """Numbers of the records in the batch of that step: the next ``batch`` of shuffled passes, laid end to end."""
        at = range(step * self.batch, (step + 1) * self.batch)
        n = len(self.dataset)
        return [int(_pass(self.key, place // n, n)[place % n]) for place in at]

    def weighed(self, batch: MicroBatch) -> MicroBatch:
        """A private micro-batch with a row's weight times its sensitive tokens over ``tokens``: sums, not means."""
        return replace(batch, weight=batch.weight * _trained(batch) / self.tokens)

    def add_gradient(
        self,
        model: nn.Module,
        step: int,
        *,
        micro_tokens: int,
        pad: int,
        autocast: torch.dtype | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        """Turn ``.grad``, the noisy mean of the private part, into the gradient of the whole step.

        Dropout is drawn from the key and the step, so nothing of the private batch shows in it. The caller's random
        state is left as it was.

        Args:
            model: as it is trained; every trained parameter has the same ``.grad`` in all processes, others have none.
            step: number of the step, from 0.
            micro_tokens, pad: as in ``micro_batches``.
            autocast: dtype of the activations.
            process, processes: number of this process and how many there are; gradients are summed over them.

        Raises:
            Diverged: the loss is not finite.
        """
        parameters = [p for p in model.parameters() if p.grad is not None]
        device = parameters[0].device
        for p in parameters:
            assert p.grad is not None
            p.grad.mul_(self.private_share / processes)
        units: list[Unit] = [
            ((TokenRange(place, 0, len(tokens_of(self.dataset[place]).ids)),),)
            for place in self.places(step)[process::processes]
        ]
        total = torch.zeros((), device=device)
        with keyed_dropout(self.key, "public dropout", step, process, device):
            for batch in micro_batches(units, self.dataset, micro_tokens=micro_tokens, pad=pad):
                total += self._backward(model, batch.to(device), autocast)
        if processes > 1:
            for tensor in (total, *(p.grad for p in parameters)):
                dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        if not bool(torch.isfinite(total)):
            raise Diverged("training", "the loss of the public text is no longer finite", "Lower --learning_rate.")

    def _backward(self, model: nn.Module, batch: MicroBatch, autocast: torch.dtype | None) -> torch.Tensor:
        weight = _trained(batch) / (self.batch * self.tokens)
        with torch.enable_grad():
            with torch.autocast(weight.device.type, dtype=autocast, enabled=autocast is not None):
                logits = model(**batch.inputs, use_cache=False).logits
            loss = row_losses(logits, batch.labels, weight).sum()
            del logits
            torch.autograd.backward(loss)
        return loss.detach()


def public_batches(public: Sequence[Any] | None, private: Sequence[Any], plan: PrivacyPlan) -> PublicBatches | None:
    """The public part of a training by ``plan``; None where the plan protects whole texts.

    What is compared are whole texts, token for token. A private text that stands *within* a longer public one, or what
    a span holds in the middle of another text, is not looked for: what is not marked counts as public.

    Args:
        public: ``token_mask.Selected.public``, or a tokenised data set of that kind.
        private: what the plan draws from.

    Raises:
        BadInput: a plan for spans without public text or the other way round, or public text that holds a private one.
    """
    if (plan.spec.protect == "spans") != (public is not None):
        raise BadInput(
            f"protect={plan.spec.protect!r} {'with' if public is not None else 'without'} public text",
            "a promise on spans is about training with public text, in which spans have placeholders, and no other is",
            "Give public=select(records, …).public with protect='spans', or neither.",
        )
    if public is None:
        return None
    useful = [item for item in public if tokens_of(item).is_trained]
    if not useful:
        raise BadInput("the public text", "has no token to train on", "Protect whole texts (--protect all).")
    bare = len(rows_of(map(_ids, private)).shared(rows_of(map(_ids, useful))))
    if bare:
        raise BadInput(
            "the public text",
            f"holds {bare} of {len(private)} private texts as they are, so what is in their spans would be learned "
            "without noise",
            "Put placeholders in place of spans (reticent.privacy.token_mask.select does), and mark every copy of a "
            "text alike.",
        )
    return PublicBatches(dataset=useful, private=len(private), rate=plan.sampler.rate, key=plan.key)


def _ids(item: Any) -> npt.NDArray[np.int64]:
    return tokens_of(item).ids


def _trained(batch: MicroBatch) -> torch.Tensor:
    """``[B]`` float32: how many tokens of each row are predicted."""
    return (batch.labels[:, 1:] != IGNORED).sum(1).float()


@lru_cache(maxsize=4)
def _pass(key: bytes, number: int, count: int) -> npt.NDArray[np.int64]:
    """The order of pass ``number`` over ``count`` records."""
    return np.argsort(words(key, "public", number, count=count), kind="stable")
