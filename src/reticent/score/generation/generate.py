# SPDX-License-Identifier: Apache-2.0
"""Let a model go on from given prefixes: greedily or by sampling, in batches, the same whatever else is in the batch.

A loop of our own, because ``transformers.generate`` draws from one random stream for the whole batch: there, what is
sampled for a text depends on its neighbours, and a killed run cannot go on to the same end. Here every (prefix, sample)
has uniforms of its own, and a token is found by inverting the cumulative distribution. What remains is rounding: logits
of a batch differ in the last digits from those of a text alone, so a draw that lies within a rounding error of the
border between two tokens may fall on the other side.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from reticent.core.progress import progress
from reticent.models.context import positions_of
from reticent.score.cache import key_of, open_cache, seal
from reticent.score.candidates.memory import steady_heap
from reticent.score.forward import device_of, most_read
from reticent.score.generation.drawing import Line, Prefixes, draw, make_lines
from reticent.score.generation.generations import Generations, join_generations, read_generations
from reticent.score.generation.scheme import GREEDY, Scheme
from reticent.score.generation.speculative import can_draft, write_drafted
from reticent.score.scored_model import ScoredModel
from reticent.score.workers.shard_kinds import SHARD_KINDS, Advance, OpenShards, packed, unpacked
from reticent.score.workers.worker import worker

__all__ = ["GREEDY", "Generations", "Scheme", "continue_one", "generate", "make_generations", "stop_tokens"]

VERSION = 1
"""Cache version. Increment when this module's output changes for the same inputs."""
_TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
_MOST_LINES = 256
"""Texts in a batch: beyond this, logits of the whole vocabulary outgrow what they save."""
_SHARD_TOKENS = 16_384
"""New tokens in a shard: what is lost when a run is killed."""
_PROBE = (9, 5)

Array = npt.NDArray[Any]


def generate(
    model: Any,
    tokenizer: Any,
    prefixes: Prefixes,
    *,
    max_new_tokens: int | Sequence[int],
    samples: int = 1,
    scheme: Scheme = GREEDY,
    seed: int = 0,
    keys: Sequence[str] | None = None,
    stop: Sequence[int] | None = None,
    tokens_per_batch: int | None = None,
    title: str = "",
) -> Generations:
    """Generate text after each prefix.

    Args:
        model: a causal language model in evaluation mode, as it answers now (an adapter on or off).
        tokenizer: that belongs to it; its end-of-text token ends a text.
        prefixes: ``N`` lists of token ids, none empty: begin with the beginning-of-text token where there is one.
        max_new_tokens: for all prefixes, or one number for each.
        samples: texts for each prefix; more than one only where the scheme leaves something to chance.
        scheme: how tokens are drawn.
        seed: with ``keys`` it fixes what is drawn.
        keys: ``N`` names, by default the places in ``prefixes``. A prefix of the same name is continued with the same
            uniforms in every call, whatever its place.
        stop: token ids that end a text; None for ``stop_tokens``; empty for none.
        tokens_per_batch: padded tokens in a batch at its end; None for 4,096 on a CPU, 65,536 on a GPU.
        title: of the progress bar; empty for none.

    Returns:
        ``N·samples`` texts.

    Raises:
        BadInput: a prefix is empty or leaves no room for new tokens; the logits are not numbers.
    """
    ends = stop_tokens(model, tokenizer) if stop is None else frozenset(stop)
    lines = make_lines(model, prefixes, max_new_tokens, samples, scheme, seed, keys)
    if not title:
        return _generate(open_decoder(model), lines, scheme, ends, tokens_per_batch, lambda n: None)
    with progress(title, len(lines), unit="texts") as advance:
        return _generate(open_decoder(model), lines, scheme, ends, tokens_per_batch, advance)


def make_generations(
    side: ScoredModel,
    prefixes: Prefixes,
    *,
    max_new_tokens: int | Sequence[int],
    samples: int = 1,
    scheme: Scheme = GREEDY,
    seed: int = 0,
    keys: Sequence[str] | None = None,
    stop: Sequence[int] | None = None,
    cache: str | Path,
    title: str = "Generating",
) -> Generations:
    """As ``generate``, for one side of an audit; what was generated is kept in ``cache`` and not generated again.

    Killed at any moment and called again, it goes on after the last finished shard, to the same texts.

    Args:
        side: the target, or what it is compared with.
        cache: folder of the content-addressed store. It holds private text if the model writes some.
    """
    model, tokenizer = side.loaded.model, side.loaded.tokenizer
    ends = stop_tokens(model, tokenizer) if stop is None else frozenset(stop)
    lines = make_lines(model, prefixes, max_new_tokens, samples, scheme, seed, keys)
    folder = open_cache(Path(cache)) / "generations"
    shards = _shards(lines, samples)
    names = [key_of(VERSION, side.key, scheme.key, seed, sorted(ends), [*map(_about, shard)]) for shard in shards]
    work = OpenShards(
        kind=GENERATION_SHARDS,
        sides=(side,),
        parts=[Beginnings.of(shard, samples, scheme, seed, ends) for shard in shards],
        files=[folder / f"{name}.parquet" for name in names],
    )
    with progress(f"{title} ({side.name})", len(lines), unit="texts") as advance, steady_heap():
        worker().fill(work, advance)
    return join_generations([read_generations(file) for file in work.files])


def _about(line: Line) -> list[Any]:
    return [line.prefix.tolist(), line.limit, line.name, line.sample]


@dataclass(frozen=True, kw_only=True, eq=False)
class Beginnings:
    """All that a shard of texts is made from, the model left out.

    Args:
        prefixes: ``N`` lists of token ids, each with a limit and a name.
        limits: most new tokens after each.
        names: by which, with sample and seed, what is drawn is fixed.
        samples: texts after each.
        scheme: how tokens are drawn.
        seed: of all.
        ends: tokens that end a text.
    """

    prefixes: Sequence[Sequence[int] | Array]
    limits: list[int]
    names: list[str]
    samples: int
    scheme: Scheme
    seed: int
    ends: list[int]

    @classmethod
    def of(cls, lines: Sequence[Line], samples: int, scheme: Scheme, seed: int, ends: frozenset[int]) -> Beginnings:
        """Those of ``lines``, the samples of each prefix together."""
        first = lines[::samples]
        return cls(
            prefixes=[line.prefix for line in first],
            limits=[line.limit for line in first],
            names=[line.name for line in first],
            samples=samples,
            scheme=scheme,
            seed=seed,
            ends=sorted(ends),
        )


class GenerationShards:
    """Shards of texts that a model writes."""

    name, passing = "generations", False

    def size(self, part: Beginnings) -> int:
        return len(part.prefixes) * part.samples

    def make(self, part: Beginnings, sides: Sequence[ScoredModel], advance: Advance) -> Generations:
        (side,) = sides
        model, scheme = side.loaded.model, part.scheme
        lines = make_lines(model, part.prefixes, part.limits, part.samples, scheme, part.seed, part.names)
        with side.answering():
            return _generate(_decoder_of(side), lines, scheme, frozenset(part.ends), None, advance)

    def keep(self, content: Generations, file: Path) -> None:
        content.write(file)
        seal(file)

    def pack(self, parts: Sequence[Beginnings]) -> pa.Table:
        return packed([asdict(part) | {"prefixes": [[*map(int, ids)] for ids in part.prefixes]} for part in parts])

    def unpack(self, table: pa.Table) -> list[Beginnings]:
        return [Beginnings(**part | {"scheme": Scheme(**part["scheme"])}) for part in unpacked(table)]


GENERATION_SHARDS = SHARD_KINDS.add(GenerationShards.name, GenerationShards())
_decoders: WeakKeyDictionary[ScoredModel, Decoder] = WeakKeyDictionary()
"""Of each model, one that has read nothing: how a model is read is found by a probe."""


def _decoder_of(side: ScoredModel) -> Decoder:
    """A decoder of the model as it answers now."""
    if side not in _decoders:
        _decoders[side] = open_decoder(side.loaded.model)
    return copy(_decoders[side])


def continue_one(
    model: Any, prefix: Sequence[int], *, max_new_tokens: int, scheme: Scheme = GREEDY, uniforms: Array | None = None
) -> list[int]:
    """The slow, obvious way, for one text: the whole text is read again for every new token. Never stops early.

    Args:
        uniforms: ``[max_new_tokens]`` in [0, 1), what each token is drawn by; not read where the scheme is greedy.
    """
    text = torch.tensor([list(prefix)], device=device_of(model))
    with torch.inference_mode():
        for step in range(max_new_tokens):
            logits = model(input_ids=text, use_cache=False).logits[:, -1]
            chance = np.zeros(1) if uniforms is None else uniforms[step : step + 1]
            text = torch.cat([text, draw(logits, scheme, chance)[:, None]], dim=1)
    return [int(token) for token in text[0, len(prefix) :]]


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text: the tokenizer's end-of-text token and what the model's own settings name."""
    declared = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    tokens = [tokenizer.eos_token_id, *(declared if isinstance(declared, list | tuple) else [declared])]
    return frozenset(int(token) for token in tokens if token is not None)


# ---- one text among others --------------------------------------------------------------------------------------


def _shards(lines: Sequence[Line], samples: int) -> list[list[Line]]:
    """Lines that are written to one file, all samples of a prefix together; at least one shard."""
    shards: list[list[Line]] = [[]]
    tokens = 0
    for start in range(0, len(lines), samples):
        if tokens >= _SHARD_TOKENS:
            shards.append([])
            tokens = 0
        shards[-1] += lines[start : start + samples]
        tokens += lines[start].limit * samples
    return shards


def _generate(
    decoder: Decoder,
    lines: Sequence[Line],
    scheme: Scheme,
    ends: frozenset[int],
    tokens_per_batch: int | None,
    advance: Callable[[int], None],
) -> Generations:
    device = device_of(decoder.model).type
    budget = tokens_per_batch or _TOKENS_PER_BATCH.get(device, _TOKENS_PER_BATCH["cuda"])
    groups: dict[int | None, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.regime(positions_of(decoder.model)), []).append(line)
    with torch.inference_mode():
        for regime, group in groups.items():
            # What was kept under other positions is of no use beyond a border, so there the whole text is read again;
            # texts of one length reach it together.
            of_regime = RecomputingDecoder(model=decoder.model, pads=False) if regime is None else decoder
            for batch in _batches(group, budget, equal=not of_regime.pads):
                if not _drafted(of_regime, batch, scheme, ends):
                    _write(of_regime, batch, scheme, ends)
                advance(len(batch))
    first = lines[0].row if lines else 0
    return Generations(
        row=np.array([line.row - first for line in lines], dtype=np.int32),
        sample=np.array([line.sample for line in lines], dtype=np.int32),
        stopped=np.array([line.stopped for line in lines], dtype=np.bool_),
        token_id=np.array([token for line in lines for token in line.token_id], dtype=np.int32),
        logp=np.array([logp for line in lines for logp in line.logp], dtype=np.float32),
        offsets=np.concatenate([[0], np.cumsum([len(line.token_id) for line in lines], dtype=np.int64)]),
    )


def _batches(lines: Sequence[Line], budget: int, *, equal: bool) -> Iterator[list[Line]]:
    """Lines of like prefix lengths, longest first, at most ``budget`` padded tokens at the end (or one line)."""
    batch: list[Line] = []
    for line in sorted(lines, key=lambda line: (-len(line.prefix), -line.limit, line.row, line.sample)):
        if batch:
            width = len(batch[0].prefix) + max(line.limit, *(member.limit for member in batch))
            full = (len(batch) + 1) * width > budget or len(batch) >= _MOST_LINES
            if full or (equal and len(line.prefix) != len(batch[0].prefix)):
                yield batch
                batch = []
        batch.append(line)
    if batch:
        yield batch


def _drafted(decoder: Decoder, batch: Sequence[Line], scheme: Scheme, ends: frozenset[int]) -> bool:
    """True if one text alone was written to its end with a small model that went ahead (`speculative`)."""
    if len(batch) > 1 or not isinstance(decoder, CachedDecoder) or not can_draft(decoder.model):
        return False
    return write_drafted(decoder.model, batch[0], scheme, ends) is not None


def _write(decoder: Decoder, batch: Sequence[Line], scheme: Scheme, ends: frozenset[int]) -> None:
    """Write all lines of a batch to their ends; those that end are taken out of it."""
    rows = list(dict.fromkeys(line.row for line in batch))
    once = {line.row: line.prefix for line in batch}
    logits = decoder.read([once[row] for row in rows])
    index = torch.tensor([rows.index(line.row) for line in batch], device=logits.device)
    if len(rows) < len(batch):  # the samples of a prefix share one reading of it
        decoder.narrow(index)
        logits = logits[index]
    alive = list(batch)
    while alive:
        step = len(alive[0].token_id)
        token = draw(logits, scheme, np.array([line.chance[step] for line in alive]))
        logp = logits.float().log_softmax(dim=1).gather(1, token[:, None])[:, 0]
        going = []
        for place, (line, new, value) in enumerate(zip(alive, token.tolist(), logp.tolist(), strict=True)):
            line.stopped = new in ends
            if not line.stopped:
                line.token_id.append(new)
                line.logp.append(value)
                if len(line.token_id) < line.limit:
                    going.append(place)
        if len(going) < len(alive):
            staying = torch.tensor(going, dtype=torch.long, device=logits.device)
            decoder.narrow(staying)
            token = token[staying]
            alive = [alive[place] for place in going]
        if alive:
            logits = decoder.add(token)


# ---- the model, one step at a time ------------------------------------------------------------------------------


class Decoder(Protocol):
    """A model that reads prefixes and then takes one token after the other."""

    model: Any
    pads: bool
    """True if prefixes of different lengths can be read together."""

    def read(self, prefixes: Sequence[Array]) -> torch.Tensor:
        """Begin with these prefixes; ``[B, V]`` logits of what comes next."""

    def narrow(self, index: torch.Tensor) -> None:
        """Go on with these of the texts (some may be left out or repeated)."""

    def add(self, token: torch.Tensor) -> torch.Tensor:
        """Put one token behind each text; ``[B, V]`` logits of what comes next."""


@dataclass(kw_only=True, eq=False)
class CachedDecoder:
    """Keys and values of what was read are kept; prefixes are padded on the left.

    On the left, so that distances between slots of the cache are distances in the text: windows of sliding attention
    are counted in slots. With virtual tokens before the text nothing is padded, since PEFT cannot be told where a
    padded text begins.
    """

    model: Any
    pads: bool
    past: Any = None
    mask: torch.Tensor | None = None

    def read(self, prefixes: Sequence[Array]) -> torch.Tensor:
        width = max(map(len, prefixes))
        token_id = torch.zeros(len(prefixes), width, dtype=torch.long)
        mask = torch.zeros_like(token_id)
        for line, prefix in enumerate(prefixes):
            token_id[line, width - len(prefix) :] = torch.as_tensor(prefix)
            mask[line, width - len(prefix) :] = 1
        device = device_of(self.model)
        self.past = None
        self.mask = mask.to(device) if self.pads else None
        return self._step(self.model, token_id.to(device))

    def narrow(self, index: torch.Tensor) -> None:
        self.past.reorder_cache(index)
        self.mask = None if self.mask is None else self.mask[index]

    def add(self, token: torch.Tensor) -> torch.Tensor:
        if self.mask is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], dim=1)
        # PEFT would put its virtual tokens before the new token again; they are in the cache already.
        model = self.model.base_model if _has_virtual_tokens(self.model) else self.model
        return self._step(model, token[:, None])

    def _step(self, model: Any, token_id: torch.Tensor) -> torch.Tensor:
        more: dict[str, Any] = {}
        if self.mask is not None:
            place = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -token_id.shape[1] :]
            more = {"attention_mask": self.mask, "position_ids": place}
        if self.past is not None:
            more["past_key_values"] = self.past
        if _takes(self.model, "logits_to_keep"):
            more["logits_to_keep"] = 1
        out = model(input_ids=token_id, use_cache=True, **more)
        self.past = out.past_key_values
        last: torch.Tensor = out.logits[:, -1]
        return last


@dataclass(kw_only=True, eq=False)
class RecomputingDecoder:
    """Every text is read from its beginning for every token: slow, and right for any causal model."""

    model: Any
    pads: bool = True
    texts: list[torch.Tensor] = field(default_factory=list)

    def read(self, prefixes: Sequence[Array]) -> torch.Tensor:
        device = device_of(self.model)
        self.texts = [torch.as_tensor(prefix, device=device) for prefix in prefixes]
        return self._logits()

    def narrow(self, index: torch.Tensor) -> None:
        self.texts = [self.texts[place] for place in index.tolist()]

    def add(self, token: torch.Tensor) -> torch.Tensor:
        self.texts = [torch.cat([text, new[None]]) for text, new in zip(self.texts, token, strict=True)]
        return self._logits()

    def _logits(self) -> torch.Tensor:
        """Tokens behind a text cannot reach it, so padding on the right needs no mask."""
        width = max(map(len, self.texts))
        token_id = torch.stack([torch.nn.functional.pad(text, (0, width - len(text))) for text in self.texts])
        logits = self.model(input_ids=token_id, use_cache=False).logits[:, -width:]
        where = torch.tensor([len(text) - 1 for text in self.texts], device=logits.device)
        last: torch.Tensor = logits[torch.arange(len(where), device=logits.device), where]
        return last


def open_decoder(model: Any) -> Decoder:
    """The fastest way that gives this model's own logits: padded with a cache, equal lengths with a cache, neither."""
    can_pad = not _has_virtual_tokens(model) and _takes(model, "position_ids") and _takes(model, "attention_mask")
    for pads in (True, False) if can_pad else (False,):
        if _agrees(CachedDecoder(model=model, pads=pads)):
            return CachedDecoder(model=model, pads=pads)
    return RecomputingDecoder(model=model)


def _agrees(decoder: CachedDecoder) -> bool:
    """True if two probe texts of different lengths get their own logits, after the prefix and a token later."""
    vocabulary = int(decoder.model.get_input_embeddings().weight.shape[0])
    device = device_of(decoder.model)
    low, _ = positions_of(decoder.model).stretch(max(_PROBE) + 1, most_read(decoder.model))
    texts = [np.random.default_rng(length).integers(vocabulary, size=low + length + 1) for length in _PROBE]
    groups = [texts] if decoder.pads else [[text] for text in texts]
    with torch.inference_mode():
        truth = [decoder.model(input_ids=torch.as_tensor(text[None], device=device)).logits[0, -2:] for text in texts]
        try:
            mine = [_two_steps(decoder, group) for group in groups]
        except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False
        measured, true = torch.cat(mine, dim=0).float(), torch.stack(truth).float()
    apart = (measured - true).norm(dim=2) / true.norm(dim=2).clamp(min=1e-6)
    exact = true.dtype == next(decoder.model.parameters()).dtype
    return bool((apart <= (1e-3 if exact else 0.1)).all())


def _two_steps(decoder: CachedDecoder, texts: Sequence[Array]) -> torch.Tensor:
    """``[B, 2, V]``: logits before and after the last token of each text."""
    first = decoder.read([text[:-1] for text in texts])
    decoder.narrow(torch.arange(len(texts), device=first.device))
    token = torch.as_tensor(np.array([text[-1] for text in texts]), device=first.device)
    return torch.stack([first, decoder.add(token)], dim=1)


def _has_virtual_tokens(model: Any) -> bool:
    """True if a prompt or prefix adapter puts tokens before every text."""
    active = getattr(model, "active_peft_config", None)
    return bool(getattr(active, "num_virtual_tokens", None))


def _takes(model: Any, name: str) -> bool:
    """True if the model itself, below any adapter, has this parameter."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    return name in inspect.signature(core.forward).parameters
