# SPDX-License-Identifier: Apache-2.0
"""How much text a model reads at once, and at which lengths it reads a whole text in another way."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import nn

from reticent.models.anatomy import text_part

_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "model_max_length",
    "max_target_positions",
    "context_length",
    "seq_length",
    "n_ctx",
)
"""Names of the limit in configurations, the usual one first. ``max_length`` is not among them: it belongs to
generation."""


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Tells which texts may share a batch, so that each is read as it is alone.

    Rotary positions of kind ``longrope`` (Phi-3.5, Phi-4-mini) turn all tokens of a pass by other angles once its
    longest row exceeds the length of pretraining: a short text beside a long one would be read as a long one. Sparse
    attention that picks the best ``k`` keys (DeepSeek-V3.2, GLM's DSA) picks among equal ones by where they lie in the
    row, so beyond ``k`` tokens the padding decides.

    Args:
        borders: rising lengths; up to and including each, a text is read otherwise than beyond it.
        each_beyond: beyond this many tokens every length is read in its own way; None for nowhere.
    """

    borders: tuple[int, ...] = ()
    each_beyond: int | None = None

    def regime(self, read: int) -> int:
        """Texts of which ``read`` tokens are read share a batch with those of the same number."""
        if self.each_beyond is not None and read > self.each_beyond:
            return len(self.borders) + read
        return bisect_left(self.borders, read)

    def next_border(self, read: int) -> int | None:
        """The most tokens that are read in the same way as ``read`` tokens; None for any number."""
        if self.each_beyond is not None and read > self.each_beyond:
            return read
        ends = [*self.borders, *([] if self.each_beyond is None else [self.each_beyond])]
        return min((end for end in ends if end >= read), default=None)

    def stretch(self, lengths: int, limit: int | None) -> tuple[int, int]:
        """``(low, high)``: lengths ``low + 1 … high``, all at most ``limit``, are read alike; the first stretch that
        has so many ``lengths``, else the longest. Where to try a model out."""
        last = max((0, *self.borders)) + lengths if limit is None else limit
        last = max(1, min(last, self.each_beyond)) if self.each_beyond is not None else last
        edges = [0, *(border for border in self.borders if border < last), last]
        stretches = list(pairwise(edges))
        return next(
            (candidate for candidate in stretches if candidate[1] - candidate[0] >= lengths),
            max(stretches, key=lambda s: s[1] - s[0]),
        )


def context_length(model: Any) -> int | None:
    """Tokens that the model can read at a time; None if it sets no limit.

    The configuration says it, under one of several names. Tokens that a prompt or prefix adapter puts before every
    text are taken off, and places that RoBERTa's kind of table keeps for padding.
    """
    if (readings := _readings(model)) is not None:
        limits_of = [limit for limit in map(context_length, readings) if limit is not None]
        return min(limits_of, default=None)
    core = _core(model)
    config = text_config(core)
    limits = (getattr(config, name, None) for name in _NAMES)
    limit = next(
        (value for value in limits if isinstance(value, int) and not isinstance(value, bool) and value > 0), None
    )
    if limit is None:
        return None
    return max(2, limit - _kept_for_padding(core, limit) - virtual_tokens(model))


def positions_of(model: Any) -> Positions:
    """At which lengths this model reads a text otherwise, by its configuration.

    Rotary positions of kind ``dynamic`` change beyond the limit of the configuration, so within `context_length` they
    have no border.
    """
    if (readings := _readings(model)) is not None:
        return _jointly(list(map(positions_of, readings)))
    config = text_config(_core(model))
    before = virtual_tokens(model)
    borders = {border - before for border in _borders(config) if border > before}
    picked = getattr(config, "index_topk", None)
    each_beyond = max(0, picked - before) if isinstance(picked, int) else None
    return Positions(borders=tuple(sorted(borders)), each_beyond=each_beyond)


def text_config(model: Any) -> Any:
    """The configuration of what reads and writes text."""
    config = model.config
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def virtual_tokens(model: Any) -> int:
    """Tokens that a prompt or prefix adapter puts before every text."""
    active = getattr(model, "active_peft_config", None)
    return int(getattr(active, "num_virtual_tokens", None) or 0)


def _borders(config: Any) -> Iterator[int]:
    for rope in rope_parameters(config):
        if rope.get("rope_type", rope.get("type")) in ("longrope", "su"):
            border_of_rope = rope.get("original_max_position_embeddings")
            border = (
                border_of_rope
                or getattr(config, "original_max_position_embeddings", None)
                or config.max_position_embeddings
            )
            yield int(border)


def rope_parameters(config: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of rotary positions: one, or one for each type of layer."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if isinstance(rope, Mapping):
        nested = [value for value in rope.values() if isinstance(value, Mapping)]
        yield from nested or [rope]


def _kept_for_padding(core: Any, limit: int) -> int:
    """RoBERTa and its kin count positions from behind the padding token's row of their table."""
    for name, module in text_part(core).named_modules():
        is_table = type(module) is nn.Embedding and "position" in name.split(".")[-1]
        if is_table and module.num_embeddings == limit and module.padding_idx is not None:
            return int(module.padding_idx) + 1
    return 0


def _readings(model: Any) -> list[Any] | None:
    """The models of an ensemble that are read for its answers (`models.emulated`); None of any other model."""
    return [reading.model for reading in model.readings] if getattr(model, "is_ensemble", False) else None


def _jointly(positions: Sequence[Positions]) -> Positions:
    """Of models that read every text together: wherever one of them changes its way."""
    beyond = [part.each_beyond for part in positions if part.each_beyond is not None]
    borders = {border for part in positions for border in part.borders}
    return Positions(borders=tuple(sorted(borders)), each_beyond=min(beyond, default=None))


def _core(model: Any) -> Any:
    """The model itself, without what PEFT puts around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
