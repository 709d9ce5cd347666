# SPDX-License-Identifier: Apache-2.0
"""EmulatedModel: a large model steered by what a small one learned, as one causal language model (arXiv:2310.12962).

Whoever runs it sees hidden states, an output layer, logits and a cache as of any model. The hidden states of its models
stand side by side, and the output layer turns them into one row of logits, so that the engine can apply it to a few
positions at a time. A model that is in it twice is read once: the large one where it is the small base too, and a base
whose tuned model is an adapter on it lies in memory once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

from reticent.core.errors import BadInput
from reticent.models import adapters
from reticent.models.blended_logits import ABSENT, blend
from reticent.models.context import text_config, virtual_tokens
from reticent.models.emulated_cache import EmulatedCache
from reticent.models.emulation import EmulationConfig
from reticent.models.output_layer import Head, agrees, find_head, hidden_and_output, hidden_states

_PROBE = 12
"""Tokens of the text by which it is tried whether a model's logits are its output layer's."""
_MASKED = ("sdpa", "eager")
"""Ways of attention that take a mask of one's own."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One of the models as it answers in an ensemble; the same object where two of them are one.

    Args:
        model: a causal language model in evaluation mode, or a PEFT model on one.
        off: whether its adapter is switched off while it answers.
    """

    model: Any
    off: bool = False

    def answering(self) -> AbstractContextManager[None]:
        """Within this context the model answers as this one."""
        return adapters.switched_off(self.model) if self.off else nullcontext()

    @cached_property
    def core(self) -> Any:
        """The model itself, without what PEFT puts around it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @cached_property
    def takes(self) -> frozenset[str]:
        """Names of what the model may be given."""
        return frozenset(inspect.signature(self.core.forward).parameters)

    @property
    def head(self) -> Head | None:
        """Its output layer, where that gives the model's own logits, which is tried."""
        return self._tried[0]

    @property
    def width(self) -> int:
        """Entries of a hidden state that the output layer is given."""
        return self._tried[1]

    @cached_property
    def _tried(self) -> tuple[Head | None, int]:
        embeddings = self.model.get_input_embeddings().weight
        text = torch.randint(len(embeddings), (_PROBE,), generator=torch.Generator().manual_seed(_PROBE))
        text = text.to(embeddings.device)
        with torch.inference_mode(), self.answering():
            head = find_head(self.model)
            truth = self.model(input_ids=text[None]).logits[0, -len(text) :]
            if head is None or not agrees(self.model, head, text, truth):
                return None, 0
            return head, int(hidden_states(self.model, head.module, text[None]).shape[-1])

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[..., V]`` for ``[..., D]``."""
        assert self.head is not None
        if self.off and type(self.head.module) is not nn.Linear:  # the adapter may be on the output layer itself
            with self.answering():
                return self.head.logits(hidden)
        return self.head.logits(hidden)


class EmulatedModel(nn.Module):
    """Three causal language models that answer as one: log π = log π_large + β · (log π_tuned − log π_base).

    With ``beta=0`` the large model answers alone, by its own code and thus to the last bit; with ``beta=1`` over a
    large model that is the small base, so does the small tuned one.

    Args:
        large, tuned, base: how each of the three is read; two of them may be the same object.
        settings: β, cap and filter.
        small_id: ``[V]`` ids of the large model's tokens in the small ones, see `models.blended_logits.blend`.
        ends: tokens that end a text.

    Raises:
        BadInput: the small models know different numbers of tokens, or lie on another device than the large one.
    """

    is_ensemble = True
    small_id: torch.Tensor | None

    def __init__(
        self,
        large: Reading,
        tuned: Reading,
        base: Reading,
        settings: EmulationConfig,
        *,
        small_id: torch.Tensor | None = None,
        ends: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.large, self.tuned, self.base = large, tuned, base
        self.settings = settings
        self.all_readings = tuple(dict.fromkeys((large, tuned, base)))
        self.models = nn.ModuleList(dict.fromkeys(reading.model for reading in self.all_readings))
        self.register_buffer("small_id", small_id, persistent=False)
        self.generation_config = SimpleNamespace(eos_token_id=list(ends))
        self.head = _BlendedHead(self)
        self.off = False
        self._refuse_misfits()
        self.joint_config = _joint_config([reading.core for reading in self.all_readings])
        self.eval()

    # ---- how it answers ---------------------------------------------------------------------------------------------

    @property
    def alone(self) -> Reading | None:
        """The one that answers alone, with these settings; None where all do."""
        if self.off or self.settings.beta == 0:
            return self.large
        if self.settings.beta == 1 and self.settings.plain and self.large is self.base and self.small_id is None:
            return self.tuned
        return None

    @property
    def readings(self) -> tuple[Reading, ...]:
        """All that are read for an answer."""
        return self.all_readings if self.alone is None else (self.alone,)

    @contextmanager
    def large_alone(self) -> Iterator[None]:
        """Within this context the large model answers alone."""
        before, self.off = self.off, True
        try:
            yield
        finally:
            self.off = before

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
    ) -> CausalLMOutputWithPast:
        """As any causal language model: ``input_ids`` ``[B, T]`` give logits ``[B, T, V]``, or those of the last
        ``logits_to_keep`` places."""
        given: dict[str, Any] = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": use_cache}
        more: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if (alone := self.alone) is not None:
            more |= {"past_key_values": past_key_values} if past_key_values is not None else {}
            more |= {"logits_to_keep": logits_to_keep} if logits_to_keep else {}
            with alone.answering():
                output: CausalLMOutputWithPast = alone.model(input_ids=input_ids, **_taken(alone, more))
            return output
        if use_cache and any(virtual_tokens(reading.model) for reading in self.readings):
            raise NotImplementedError("virtual tokens before a text that is gone on with")
        states, caches = self._read(input_ids, past_key_values, more)
        states = [state[:, -logits_to_keep:] if logits_to_keep else state for state in states]
        logits = self.head(torch.cat(states, dim=-1)) if self.has_head else self.blended(states)
        return CausalLMOutputWithPast(logits=logits, past_key_values=EmulatedCache(caches) if use_cache else None)

    def _read(
        self, input_ids: torch.Tensor, past: EmulatedCache | None, more: dict[str, Any]
    ) -> tuple[list[torch.Tensor], list[Any]]:
        """``[B, T, D]`` hidden states of each reading, or its logits where not all have an output layer; and what each
        keeps of the text."""
        states, caches = [], []
        for number, reading in enumerate(self.readings):
            token_id = self.token_ids_of(reading, input_ids)
            held = None if past is None else past.caches[number]
            given = _taken(reading, more | ({} if held is None else {"past_key_values": held}))
            with reading.answering():
                if self.has_head:
                    assert reading.head is not None
                    state, output = hidden_and_output(reading.model, reading.head.module, token_id, **given)
                else:
                    output = reading.model(input_ids=token_id, **given)
                    state = output.logits[:, -token_id.shape[1] :]
            states.append(state)
            caches.append(getattr(output, "past_key_values", None))
        return states, caches

    def token_ids_of(self, reading: Reading, token_id: torch.Tensor) -> torch.Tensor:
        """The ids by which a reading knows these tokens of the large model. One that it does not know is read as its
        token 0: texts with such tokens are refused where models are loaded (`LoadedModel.unknown`)."""
        if reading is self.large or self.small_id is None:
            return token_id
        return self.small_id[token_id].clamp(min=0)

    def blended(self, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        """``[..., V]`` from the logits of each of ``readings``."""
        of = dict(zip(self.all_readings, logits, strict=True))
        return blend(of[self.large], of[self.tuned], of[self.base], self.settings, self.small_id)

    @cached_property
    def has_head(self) -> bool:
        """True if the output layers of all models give their own logits."""
        return all(reading.head is not None for reading in self.all_readings)

    # ---- what others ask of a model ---------------------------------------------------------------------------------

    @property
    def config(self) -> Any:
        """Of the one that answers alone; else one that names no layers, and what holds for all models."""
        return self.joint_config if self.alone is None else text_config(self.alone.core)

    def get_input_embeddings(self) -> Any:
        """Of the large model, whose tokens are read; of another that answers alone, its own."""
        return (self.alone or self.large).model.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        """The layer from hidden states of all models to logits; None where a model has none that could be taken."""
        if self.alone is not None:
            return self.alone.model.get_output_embeddings()
        return self.head if self.has_head else None

    def set_attn_implementation(self, name: str) -> None:
        """Let every model attend in this way."""
        for reading in self.all_readings:
            reading.core.set_attn_implementation(name)
        self.joint_config._attn_implementation = name

    def _refuse_misfits(self) -> None:
        embeddings = {
            role: getattr(self, role).model.get_input_embeddings().weight for role in ("large", "tuned", "base")
        }
        if len({weight.device for weight in embeddings.values()}) > 1:
            raise BadInput("the three models", "do not lie on one device", "Load them to the same one (--device).")
        rows = {role: len(weight) for role, weight in embeddings.items()}
        if rows["tuned"] != rows["base"]:
            raise BadInput(
                "the small tuned model",
                f"knows {rows['tuned']:,} tokens and its base {rows['base']:,}, so their probabilities are shares of "
                "different wholes",
                "Tune it without new tokens.",
            )
        if self.small_id is None and rows["base"] < rows["large"]:
            beyond = torch.arange(rows["large"], device=embeddings["large"].device)
            self.small_id = torch.where(beyond < rows["base"], beyond, ABSENT)


class _BlendedHead(nn.Module):
    """From the hidden states of all models, side by side, to the logits of the ensemble."""

    def __init__(self, ensemble: EmulatedModel) -> None:
        super().__init__()
        self.of = (ensemble,)  # in a tuple, as no part: it holds this one

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        (ensemble,) = self.of
        readings = ensemble.readings
        states = torch.split(hidden, [reading.width for reading in readings], dim=-1)
        return ensemble.blended([reading.logits(state) for reading, state in zip(readings, states, strict=True)])


def _taken(reading: Reading, given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in reading.takes}


def _joint_config(cores: Sequence[Any]) -> PretrainedConfig:
    """A configuration of all models together: the narrowest window, and the way of attention where it is the same."""
    config = PretrainedConfig()
    configs = [text_config(core) for core in cores]
    ways = {getattr(text, "_attn_implementation", "") for text in configs}
    config._attn_implementation = ways.pop() if len(ways) == 1 and ways <= set(_MASKED) else "emulated"
    narrow = [
        size
        for text in configs
        if getattr(text, "use_sliding_window", True) is not False
        for size in (getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size"))
        if isinstance(size, int) and size > 0
    ]
    config.sliding_window = min(narrow, default=None)
    return config
