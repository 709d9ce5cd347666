# SPDX-License-Identifier: Apache-2.0
"""A `HardenConfig` carried out: tokens left out of the corpus, and the trainer with its loss or its clipping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from reticent.privacy.clip.make import make_clipper
from reticent.train.batches import Corpus
from reticent.train.hardening import HardenConfig
from reticent.train.loop import Diverged, TuneTrainer
from reticent.train.losses.goldfish import goldfish
from reticent.train.losses.hardened import hardened_loss


def hardened_corpus(corpus: Corpus, config: HardenConfig) -> Corpus:
    """What is trained on, without the tokens that the goldfish loss leaves out."""
    if config.goldfish is None:
        return corpus
    fewer = [goldfish(one, k=config.goldfish, context=config.goldfish_context) for one in corpus.encoded]
    kept = [i for i, one in enumerate(fewer) if one.predicted]
    return replace(
        corpus,
        encoded=[fewer[i] for i in kept],
        records=tuple(corpus.records[i] for i in kept),
        empty=corpus.empty + len(fewer) - len(kept),
    )


def hardened_trainer(config: HardenConfig) -> Callable[..., TuneTrainer]:
    """What makes the trainer, called like ``TuneTrainer``."""
    if config.clip_examples is not None:
        return partial(ClippedTuneTrainer, clip_norm=config.clip_examples)
    if config.label_smoothing or config.loss_floor is not None:
        return partial(HardenedTuneTrainer, smoothing=config.label_smoothing, floor=config.loss_floor)
    return TuneTrainer


class HardenedTuneTrainer(TuneTrainer):
    """One fine-tuning with label smoothing or a floor under each record's loss.

    Args:
        smoothing, floor: see `hardened_loss`.
    """

    def __init__(self, *, smoothing: float, floor: float | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.smoothing, self.floor = smoothing, floor

    def batch_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """See `hardened_loss`."""
        labels = inputs.pop("labels")
        return hardened_loss(model(**inputs).logits, labels, smoothing=self.smoothing, floor=self.floor)


class ClippedTuneTrainer(TuneTrainer):
    """One fine-tuning in which each record's gradient is clipped and no noise is added.

    It is no defence and no promise: what is clipped still points where the record points, and without noise nothing
    hides it. Kandpal et al. (EMNLP 2024, section 5) found no effect on user inference. Records count alike here, where
    the ordinary loss counts tokens alike.

    Args:
        clip_norm: bound on the L2 norm of the gradient of a record's mean loss, over all trained parameters.
    """

    def __init__(self, *, clip_norm: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        autocast = torch.bfloat16 if self.autocast else None
        self.clipper = make_clipper(self.model, clip_norm=clip_norm, autocast=autocast)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Set ``.grad`` to the mean of the clipped gradients; returns the mean loss of the records (nats a token)."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        labels = inputs.pop("labels")
        weight = torch.ones(len(labels), device=labels.device)
        with self.clipper.attached():
            seen = self.clipper.accumulate(inputs, labels, weight=weight)
        if not bool(seen.finite.all()):
            raise Diverged(
                f"learning_rate={self.args.learning_rate:g}",
                f"the training diverged: a gradient is not finite at step {self.state.global_step + 1}",
                "Choose a lower learning rate.",
            )
        for parameter, total in self.clipper.take().items():
            parameter.grad = (total / len(labels)).to(parameter.dtype)
        return seen.loss.mean()
