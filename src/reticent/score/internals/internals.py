# SPDX-License-Identifier: Apache-2.0
"""All that a white-box auditor reads of a model: hidden states and gradients of records, as plain columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers

from reticent.core.atomic import replacing
from reticent.core.progress import progress
from reticent.core.record import Record
from reticent.models import adapters
from reticent.models.encode import EncodedRecord, encode
from reticent.models.load import LoadedModel
from reticent.score.cache import content_key, drop_shard, intact, key_of, open_cache, seal, taking_turns
from reticent.score.engine import ScoreOptions
from reticent.score.internals.gradients import (
    GradientProperties,
    Origin,
    by_block,
    gradient_properties,
    origin_of,
    trained_parameters,
    whole_batches,
)
from reticent.score.internals.hidden import Base, forward_properties, lots_at_once
from reticent.score.scored_model import ScoredModel
from reticent.score.workers.shard_kinds import SHARD_KINDS, Advance, OpenShards, packed, told_nobody, unpacked
from reticent.score.workers.worker import worker

Floats = npt.NDArray[np.float64]

VERSION = 2
"""Cache version. Increment when this module's output changes for the same inputs."""
_SIDES = ("forward", "backward")
_LOT_TOKENS = 16_384
"""Tokens of records whose gradients are one shard."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Internals:
    """Properties of ``N`` records, each ``[N]`` float64 by name.

    Args:
        forward: of the states (``score.internals.hidden.ForwardProperties``).
        backward: of the gradients (``score.internals.gradients.GradientProperties``), grouped by block and
            kind of parameter.
    """

    forward: dict[str, Floats]
    backward: dict[str, Floats]


def read_internals(
    model: Any,
    base: Any | None,
    rows: Sequence[EncodedRecord],
    *,
    name: str = "the model",
    origin: Origin | None = None,
    options: ScoreOptions | None = None,
) -> Internals:
    """Read everything: a forward pass of model and base, and a backward pass of the model. The model is left as it was.

    Args:
        model: the tuned model in evaluation mode.
        base: what it was tuned from; None for an adapter, which is switched off for that, and where there is none.
        rows: ``N`` encoded records, each with a trained token that has something before it.
        name: of the model, for messages.
        origin: where training started, by parameter, if more is known than ``origin_of`` can tell afterwards (whoever
            trains can keep LoRA's first ``A``).
        options: window and tokens in a batch of the forward pass.
    """
    with progress("Hidden states", len(rows), unit="records") as advance:
        forward = forward_properties(
            model, rows, base=base_of(model, base), name=name, options=options, advance=advance
        )
    parameters = trained_parameters(model, base)
    start = origin_of(model, parameters, base) | dict(origin or {})
    with progress("Gradients", len(rows), unit="records") as advance:
        backward = gradient_properties(model, rows, parameters=parameters, origin=start, advance=advance)
    return Internals(forward=forward.columns(), backward=backward.grouped(by_block).columns())


def base_of(model: Any, base: Any | None) -> Base | None:
    """``base`` itself, else the model with its adapter switched off, else None."""
    if base is not None:
        return lambda: nullcontext(base)
    if not adapters.can_switch_off(model):
        return None

    @contextmanager
    def off() -> Iterator[Any]:
        with adapters.switched_off(model):
            yield model

    return off


def cached_internals(
    target: LoadedModel, reference: LoadedModel | None, records: Sequence[Record], *, cache: Path, options: ScoreOptions
) -> Internals:
    """``read_internals`` of loaded models; the same call again reads what was kept.

    Args:
        target: the tuned model.
        reference: its base; None for an adapter, which is switched off.
        records: each with a trained token to score.
        cache: content-addressed store.
        options: as for scoring; ``max_tokens`` cuts the records off.
    """
    rows = [encode(record, target.tokenizer, max_tokens=options.max_tokens) for record in records]
    about = (VERSION, target.fingerprint, reference.fingerprint if reference else None, target.dtype)
    place = (torch.device(target.device).type, torch.__version__, transformers.__version__, options.window)
    path = open_cache(cache) / f"inside-{key_of(*about, *place, content_key(rows, {}))}.parquet"
    with taking_turns(path):
        internals = _read(path) if intact(path) else None
        if internals is None:
            models = [model for model in (target, reference) if model is not None]
            sides = tuple(ScoredModel(loaded=model, off=False, options=options) for model in models)
            internals, shards = _made(sides, rows, cache / "shards", about=(*about, *place))
            _write(path, internals)
            seal(path)
            for shard in shards:  # once the whole is there: a disk that is full costs no more than the joining
                drop_shard(shard)
    return internals


def _made(
    sides: tuple[ScoredModel, ...], rows: Sequence[EncodedRecord], folder: Path, about: Any
) -> tuple[Internals, Sequence[Path]]:
    """As `read_internals`, by whoever works, in lots that are read as they would be among all; and the shards of it."""
    model, options = sides[0].loaded.model, sides[0].options
    forward, backward = lots_at_once(rows), whole_batches(model, rows, _LOT_TOKENS)
    lots: list[tuple[str, Any]] = [("forward", lot) for lot in forward] + [("backward", lot) for lot in backward]
    parts = [RecordLot(kind=kind, rows=[rows[row] for row in lot], options=options) for kind, lot in lots]
    names = [key_of("inside", about, part.kind, content_key(part.rows, {})) for part in parts]
    work = OpenShards(kind=INTERNALS_SHARDS, sides=sides, parts=parts, files=[folder / f"{n}.parquet" for n in names])
    with progress("Hidden states and gradients", 2 * len(rows), unit="records") as advance:
        worker().fill(work, advance)
    tables = [_kept_or_made(work, shard) for shard in range(len(parts))]
    gradients = _gradients(tables[len(forward) :], backward)
    internals = Internals(
        forward=_joined(tables[: len(forward)], forward), backward=gradients.grouped(by_block).columns()
    )
    return internals, work.files


def _kept_or_made(work: OpenShards, shard: int) -> pa.Table:
    """A shard; one that another audit dropped meanwhile is made again."""
    with suppress(FileNotFoundError):
        if intact(work.files[shard]):
            return pq.read_table(work.files[shard])
    return INTERNALS_SHARDS.make(work.parts[shard], work.sides, told_nobody)


def _joined(tables: Sequence[pa.Table], lots: Iterable[Any]) -> dict[str, Floats]:
    """Columns of all records, each at the place that its lot says."""
    place = np.concatenate([np.asarray(lot, dtype=np.int64) for lot in lots])
    columns: dict[str, Floats] = {}
    for name in tables[0].column_names:
        columns[name] = np.empty(len(place))
        columns[name][place] = np.concatenate([table[name].to_numpy() for table in tables])
    return columns


def _gradients(tables: Sequence[pa.Table], lots: Iterable[Any]) -> GradientProperties:
    columns, update = _joined(tables, lots), json.loads(tables[0].schema.metadata[b"update"])
    square, inner = (np.stack([columns[f"{what}:{name}"] for name in update], axis=1) for what in ("square", "inner"))
    return GradientProperties(
        names=tuple(update), square=square, inner=inner, update=np.array([*update.values()]), loss=columns["loss"]
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordLot:
    """Records that a shard of properties is made from, the models left out.

    Args:
        kind: ``"forward"`` or ``"backward"``.
        rows: as the models read them.
        options: as for scoring.
    """

    kind: str
    rows: list[EncodedRecord]
    options: ScoreOptions


class InternalsShards:
    """Shards of properties of records: of states, or of gradients before modules are grouped."""

    name, passing = "internals", True

    def size(self, part: RecordLot) -> int:
        return len(part.rows)

    def make(self, part: RecordLot, sides: Sequence[ScoredModel], advance: Advance) -> pa.Table:
        target, *others = sides
        model, base = target.loaded.model, others[0].loaded.model if others else None
        if part.kind == "forward":
            options = replace(part.options, impl=target.choices.impl)  # as the process that leads
            of_base, name = base_of(model, base), target.loaded.source
            read = forward_properties(model, part.rows, base=of_base, name=name, options=options, advance=advance)
            return pa.table(read.columns())
        parameters = trained_parameters(model, base)
        start = origin_of(model, parameters, base)
        gradients = gradient_properties(model, part.rows, parameters=parameters, origin=start, advance=advance)
        columns = {f"square:{name}": gradients.square[:, place] for place, name in enumerate(gradients.names)}
        columns |= {f"inner:{name}": gradients.inner[:, place] for place, name in enumerate(gradients.names)}
        update = dict(zip(gradients.names, gradients.update.tolist(), strict=True))
        return pa.table(columns | {"loss": gradients.loss}).replace_schema_metadata({"update": json.dumps(update)})

    def keep(self, content: pa.Table, file: Path) -> None:
        with replacing(file) as temporary:
            pq.write_table(content, temporary)
        seal(file)

    def pack(self, parts: Sequence[RecordLot]) -> pa.Table:
        return packed([[part.kind, asdict(part.options), [*map(_plain, part.rows)]] for part in parts])

    def unpack(self, table: pa.Table) -> list[RecordLot]:
        return [
            RecordLot(kind=kind, options=ScoreOptions(**options), rows=[*map(_encoded, rows)])
            for kind, options, rows in unpacked(table)
        ]


INTERNALS_SHARDS = SHARD_KINDS.add(InternalsShards.name, InternalsShards())


def _plain(row: EncodedRecord) -> list[list[int]]:
    return [row.token_id.tolist(), np.flatnonzero(row.trained).tolist()]


def _encoded(plain: list[list[int]]) -> EncodedRecord:
    token_id, trained = plain
    return EncodedRecord(
        token_id=np.array(token_id, dtype=np.int32), trained=np.isin(np.arange(len(token_id)), trained)
    )


def _write(path: Path, inside: Internals) -> None:
    columns = {f"{side}:{name}": column for side in _SIDES for name, column in getattr(inside, side).items()}
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def _read(path: Path) -> Internals | None:
    """The stored properties; None if it is missing or not whole, for it can be made again."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        return None
    sides: dict[str, dict[str, Floats]] = {side: {} for side in _SIDES}
    for name in table.column_names:
        side, _, column = name.partition(":")
        sides[side][column] = table[name].to_numpy()
    return Internals(forward=sides["forward"], backward=sides["backward"])
