# SPDX-License-Identifier: Apache-2.0
"""Models, tasks and trainers that private training is not for. Each is refused by name, before the first step.

The private loss is each record's mean cross-entropy of the next token: the logits at one place predict the label at the
next. On a model for another task it would train something else, silently. So the task is told by the class, and beyond
that by what the model does on a few made-up tokens: it can be run, tokens to come change nothing, and its own loss is
that cross-entropy.

Rules are given a `reticent.privacy.training_setup.TrainingSetup` and yield what stands against it, as those in
`reticent.privacy.refuse` do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from reticent.privacy.training_setup import TrainingSetup, Violation

TASKS = {
    "ForMaskedLM": "a masked language model",
    "ForPreTraining": "a model with the heads of its pre-training",
    "ForTokenClassification": "a token classifier",
    "ForSequenceClassification": "a sequence classifier",
    "ForQuestionAnswering": "a question answering model",
    "ForMultipleChoice": "a multiple choice model",
    "ForNextSentencePrediction": "a next sentence classifier",
    "ForImageClassification": "an image classifier",
}
"""Ends of class names and what such models are."""

PEFT_TASKS = {
    "SEQ_CLS": "a sequence classifier",
    "TOKEN_CLS": "a token classifier",
    "QUESTION_ANS": "a question answering model",
    "SEQ_2_SEQ_LM": "an encoder-decoder",
}
"""Task types of adapters."""

_USE = "Use a causal language model (AutoModelForCausalLM)."
_OTHER = "Use another model, or another way to tune it."
_LOSS = "private training takes the next token's cross-entropy, which would train this model for something else"
_TOKENS = 8
_LATE = 2
"""Made-up tokens, and how many at the end are changed."""
_EXACT, _ROUNDED = 1e-4, 2e-2
"""How far logits may move with tokens to come, relatively to the largest, where weights are float32 and where not."""
_OWN_LOSS = 0.02

_OWN_LOSSES = ("transformers.", "trl.trainer.sft_trainer", "reticent.")
"""Modules whose trainers have the cross-entropy of the next token in ``compute_loss``."""


def compiled(training: TrainingSetup) -> Iterator[Violation]:
    """``torch.compile`` hides the layers at which gradients are measured."""
    for name, module in training.model.named_modules():
        if type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
            yield Violation(
                f"a model compiled by torch.compile{f' (at {name})' if name else ''}",
                "a compiled step may fuse or skip the layers at which each unit's gradient is measured",
                "Give the model itself, not compiled.",
            )
            return


def task(training: TrainingSetup) -> Iterator[Violation]:
    """Models whose logits do not predict the next token."""
    base = _base(training.model)
    named = _named_task(training.model, base)
    if named is not None:
        yield Violation(f"{type(base).__name__}, {named}", _LOSS, _USE)
    elif isinstance(base, PreTrainedModel) and not list(compiled(training)):
        yield from _tried_out(training.model, base)


def _named_task(model: Any, base: Any) -> str | None:
    if isinstance(base, PreTrainedModel):
        if getattr(base.config, "is_encoder_decoder", False):
            return "an encoder-decoder"
        for kind in type(base).__mro__:
            for end, named in TASKS.items():
                if kind.__name__.endswith(end):
                    return named
    for config in (getattr(model, "peft_config", None) or {}).values():
        wanted = getattr(config, "task_type", None)
        wanted = getattr(wanted, "value", wanted)
        if wanted in PEFT_TASKS:
            return f"with an adapter for {PEFT_TASKS[wanted]}"
    return None


def _tried_out(model: Any, base: Any) -> Iterator[Violation]:
    """Violations that a pass over made-up tokens shows; the model is left as it is."""
    name = type(base).__name__
    if any(p.device.type == "meta" for p in model.parameters()):
        return
    vocabulary = getattr(base.config.get_text_config(), "vocab_size", None)
    if not isinstance(vocabulary, int):
        yield Violation(name, "does not say how many tokens it knows", _USE)
        return
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (1, _TOKENS), generator=draw).to(next(model.parameters()).device)
    late = ids.clone()
    late[:, -_LATE:] = (late[:, -_LATE:] + 1) % vocabulary
    try:
        with _untouched(model):
            if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
                _logits(model.train(), ids)
            logits, other = _logits(model.eval(), ids), _logits(model, late)
            own_loss = _own_loss(base, ids)
    except Exception as error:  # noqa: BLE001 - the training would end with it
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        yield Violation(name, f"cannot be run on token ids and a mask ({type(error).__name__}: {first})", _OTHER)
        return
    exact = all(p.dtype == torch.float32 for p in model.parameters())
    before = slice(0, _TOKENS - _LATE)
    moved = float((logits[:, before] - other[:, before]).abs().max() / logits.abs().max().clamp(min=1e-12))
    if moved > (_EXACT if exact else _ROUNDED):
        yield Violation(
            name,
            "sees the tokens to come (its attention is not causal), so predicting the next one teaches it nothing",
            "Use a causal language model; of an encoder such as BERT the decoder (config.is_decoder=True).",
        )
        return
    if own_loss is not None and not own_loss.is_cross_entropy:
        yield Violation(
            f"{name}, whose own loss is {own_loss.loss:.3g} where the next token's cross-entropy is "
            f"{own_loss.next:.3g}",
            "private training takes the latter, so what else the model is trained for would silently be left out",
            "Switch off what it adds (a balance loss of experts, further heads), or use another model.",
        )


class _Losses(NamedTuple):
    """The model's own mean loss, and cross-entropies of its logits with the next token and with the same one."""

    loss: float
    next: float
    same: float

    @property
    def is_cross_entropy(self) -> bool:
        # Some decoders (BART's, XLM's) leave the shift to whoever makes the labels.
        return any(abs(self.loss - expected) <= _OWN_LOSS * max(1.0, expected) for expected in (self.next, self.same))


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """``[1, T, V]`` float32; virtual tokens come before the text."""
    logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    if logits.dim() != 3 or logits.shape[1] < ids.shape[1]:
        raise ValueError(f"its logits are {list(logits.shape)}, not one row for each token")
    return logits[:, -ids.shape[1] :].float()


def _own_loss(base: Any, ids: torch.Tensor) -> _Losses | None:
    """Losses with ``ids`` as labels, without virtual tokens; None where the model has none of its own."""
    try:
        outputs = base(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, use_cache=False)
    except TypeError:
        return None
    if outputs.loss is None:
        return None
    logits = outputs.logits[0].float()
    following, same = F.cross_entropy(logits[:-1], ids[0, 1:]), F.cross_entropy(logits, ids[0])
    return _Losses(float(outputs.loss), float(following), float(same))


@contextmanager
def _untouched(model: Any) -> Iterator[None]:
    """Without gradients; modes and random states are as before after it."""
    modes = {module: module.training for module in model.modules()}
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def own_loss(training: TrainingSetup) -> Iterator[Violation]:
    """A ``compute_loss`` that would never be called."""
    trainer = training.trainer
    if trainer is None:
        return
    if "compute_loss" in vars(trainer):
        where = "set on the trainer"
    else:
        owner = next((kind for kind in type(trainer).__mro__ if "compute_loss" in vars(kind)), None)
        if owner is None or owner.__module__.startswith(_OWN_LOSSES):
            return
        where = f"of {owner.__name__}"
    yield Violation(
        f"compute_loss {where}",
        "is never called in private training, whose loss is each record's mean cross-entropy of the next token",
        "Leave it out, or train without privacy.",
    )


def context(training: TrainingSetup) -> Iterator[Violation]:
    """Records that the model has no positions for."""
    base = _base(training.model)
    if not isinstance(base, PreTrainedModel) or not len(training.rows):
        return
    config = base.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    longest = training.trained.longest or 0
    virtual = _virtual_tokens(training.model) if _learned_positions(base, limit) else 0
    if isinstance(limit, int) and 0 < limit < longest + virtual:
        yield Violation(
            f"records of up to {longest} tokens{f' behind {virtual} virtual ones' if virtual else ''}",
            f"are longer than the model's context of {limit}",
            f"Cut records at {limit - virtual} tokens (max_length).",
        )


def _virtual_tokens(model: Any) -> int:
    configs = (getattr(model, "peft_config", None) or {}).values()
    return sum(getattr(config, "num_virtual_tokens", None) or 0 for config in configs)


def _learned_positions(base: Any, limit: Any) -> bool:
    """True if there is a table of positions, beyond which there are none."""
    words = base.get_input_embeddings()
    tables = [m for m in base.modules() if isinstance(m, nn.Embedding) and m is not words]
    return isinstance(limit, int) and any(limit <= table.num_embeddings <= limit + 2 for table in tables)


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


TASK_RULES: tuple[Callable[[Any], Iterator[Violation]], ...] = (compiled, task, own_loss, context)
"""Rules about what is trained, and by what."""
